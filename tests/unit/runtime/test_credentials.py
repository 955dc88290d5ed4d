"""Credentials: who gets which, and that no value of them is ever shown."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flightlog.errors import ConfigError
from flightlog.runtime.credentials import Credentials

KEY = "sk-Zr8qLw3nTb"
OTHER = "tok-9fKd72mXp"


def held(**more: Any) -> Credentials:
    return Credentials({"acme": {"http.get": {"api_key": KEY}}, **more})


def values(found: Any) -> dict[str, str]:
    return dict(found)


def test_a_tool_gets_the_credentials_of_its_tenant_and_itself_only():
    credentials = held(zeta={"http.get": {"api_key": OTHER}})
    assert values(credentials.for_tool("acme", "http.get", ["api_key"])) == {"api_key": KEY}
    assert values(credentials.for_tool("zeta", "http.get", ["api_key"])) == {"api_key": OTHER}
    assert credentials.missing("acme", "http.put", ["api_key"]) == ("api_key",)
    assert credentials.missing(None, "http.get", ["api_key"]) == ("api_key",)
    assert credentials.missing("acm", "http.get", ["api_key"]) == ("api_key",)


def test_a_tool_gets_no_credential_that_it_does_not_declare():
    credentials = Credentials({"acme": {"http.get": {"api_key": KEY, "admin": OTHER}}})
    assert values(credentials.for_tool("acme", "http.get", ["api_key"])) == {"api_key": KEY}
    assert values(credentials.for_tool("acme", "http.get", [])) == {}


@pytest.mark.parametrize(
    ("tools", "wanted"),
    [
        ({"*": {"http.get": {"k": "of-all-1"}}, "acme": {"http.*": {"k": "of-acme"}}}, "of-acme"),
        ({"acme": {"http.*": {"k": "by-glob"}, "http.get": {"k": "by-name"}}}, "by-name"),
        ({"acme": {"h*": {"k": "first-glob"}, "http.*": {"k": "second-glob"}}}, "first-glob"),
        ({"acme": {"http.get": {"other": "value"}}, "*": {"*": {"k": "of-all-2"}}}, "of-all-2"),
        ({"acme": {"http.get": {"x": "value"}, "h*": {"k": "by-glob-2"}}}, "by-glob-2"),
        ({"ac*": {"http.get": {"k": "tenant-glob"}}}, None),
    ],
)
def test_the_own_tenant_wins_then_the_own_name_then_the_first_glob(tools, wanted):
    found = values(Credentials(tools).for_tool("acme", "http.get", ["k"]))
    assert found == ({} if wanted is None else {"k": wanted})


def test_missing_names_come_in_their_order():
    assert held().missing("acme", "http.get", ["b", "api_key", "a"]) == ("b", "a")


def test_a_variable_is_read_once_and_its_name_is_not_its_value():
    environ = {"ACME_KEY": KEY}
    credentials = Credentials.from_env(
        {"acme": {"http.get": {"api_key": {"env": "ACME_KEY"}}}}, environ=environ
    )
    environ["ACME_KEY"] = OTHER
    assert values(credentials.for_tool("acme", "http.get", ["api_key"])) == {"api_key": KEY}


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("FLIGHTLOG_TEST_KEY", KEY)
    credentials = Credentials({"*": {"*": {"api_key": {"env": "FLIGHTLOG_TEST_KEY"}}}})
    assert values(credentials.for_tool(None, "any", ["api_key"])) == {"api_key": KEY}


@pytest.mark.parametrize("environ", [{}, {"ACME_KEY": ""}])
def test_a_variable_that_is_not_set_is_missing_and_named_before_a_run(environ):
    entry = {"api_key": {"env": "ACME_KEY"}, "other": "value-of-other"}
    credentials = Credentials({"acme": {"http.get": entry}}, environ=environ)
    assert credentials.missing("acme", "http.get", ["api_key"]) == ()
    assert values(credentials.for_tool("acme", "http.get", ["api_key"])) == {}
    credentials.require("acme", "http.get", ["other"])
    with pytest.raises(ConfigError) as raised:
        credentials.require("acme", "http.get", ["api_key", "other"])
    assert "ACME_KEY" in str(raised.value)
    assert "value-of-other" not in str(raised.value)


def test_a_variable_that_is_not_set_does_not_fall_back_to_what_all_tenants_have():
    credentials = Credentials(
        {"acme": {"http.get": {"k": {"env": "NOT_SET"}}}, "*": {"*": {"k": OTHER}}}, environ={}
    )
    assert values(credentials.for_tool("acme", "http.get", ["k"])) == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"acme": {"t": {"k": "abc"}}}, "fewer than 4"),
        ({"acme": {"t": {"k": "  abc \n"}}}, "fewer than 4"),
        ({"acme": {"t": {"k": 12345678}}}, "int"),
        ({"acme": {"t": {"k": None}}}, "NoneType"),
        ({"acme": {"t": {"k": {"env": "A", "x": "y"}}}}, "one environment variable"),
        ({"acme": {"t": {"k": {"file": "/etc/key"}}}}, "one environment variable"),
        ({"acme": {"t": {"k": {"env": ""}}}}, "one environment variable"),
        ({"acme": {"t": {"k\n": KEY}}}, "other characters"),
        ({"acme": {"t": {"<k>": KEY}}}, "other characters"),
        ({"acme": {"t": KEY}}, "no mapping by credential"),
        ({"acme": KEY}, "no mapping by tool"),
        (KEY, "no mapping by tenant"),
        ({1: {"t": {"k": KEY}}}, "name of a tenant"),
        ({"acme": {"t": {"k": "\ud800abcdef"}}}, "not valid text"),
        ({"acme": {"t": {"token": "token"}}}, "part of the text that stands for"),
        ({"acme": {"t": {"k": "credential"}}}, "part of the text that stands for"),
    ],
)
def test_what_cannot_be_used_is_refused_without_a_value_in_text_or_traceback(entry, said):
    def shown(error: BaseException) -> str:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames.stack = traceback.StackSummary.from_list(
            [frame for frame in frames.stack if "runtime/credentials" in frame.filename]
        )
        return "".join(frames.format())

    with pytest.raises(ConfigError) as raised:
        Credentials(entry)
    text = shown(raised.value)
    assert said in text
    for value in (KEY, "'abc'", "abc \\n", "12345678", "/etc/key", "abcdef"):
        assert value not in text


def test_a_value_of_a_variable_that_is_too_short_is_named_by_its_variable():
    with pytest.raises(ConfigError) as raised:
        Credentials({"a": {"t": {"k": {"env": "PIN"}}}}, environ={"PIN": "q7"})
    assert "PIN" in str(raised.value)
    assert "q7" not in str(raised.value)


def test_from_env_takes_names_of_variables_and_no_values():
    with pytest.raises(ConfigError) as raised:
        Credentials.from_env({"acme": {"http.get": {"api_key": KEY}}})
    assert KEY not in str(raised.value)
    assert "acme.http.get.api_key" in str(raised.value)


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        lambda one: f"{one}",
        lambda one: repr(vars(one)) if hasattr(one, "__dict__") else "",
        lambda one: repr([getattr(one, name, None) for name in type(one).__slots__]),
    ],
)
def test_no_value_is_in_what_is_printed(shown):
    credentials = held()
    scrubber = credentials.scrubber("acme")
    found = credentials.for_tool("acme", "http.get", ["api_key"])
    scrubber.clean(f"used {KEY}")
    for one in (credentials, scrubber, found):
        assert KEY not in shown(one)


@pytest.mark.parametrize(
    "dump",
    [
        pickle.dumps,
        lambda one: pickle.dumps(one, protocol=0),
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
    ],
)
def test_nothing_that_holds_values_can_be_serialised(dump: Callable[[Any], Any]):
    credentials = held()
    found = credentials.for_tool("acme", "http.get", ["api_key"])
    for one in (credentials, credentials.scrubber("acme"), found):
        with pytest.raises(TypeError):
            dump(one)


def test_a_copy_is_the_object_itself():
    credentials = held()
    assert copy.copy(credentials) is credentials
    assert copy.deepcopy({"in": credentials})["in"] is credentials


def test_equality_says_nothing_about_the_values():
    assert held() != held()
    assert len({held(), held()}) == 2


def test_the_scrubber_of_a_tenant_knows_what_its_runs_can_meet_and_is_made_once():
    credentials = held(**{"*": {"*": {"shared": OTHER}}}, zeta={"t": {"k": "value-of-zeta"}})
    scrubber = credentials.scrubber("acme")
    text = f"{KEY} {OTHER} value-of-zeta"
    assert scrubber.clean(text) == "<credential:api_key> <credential:shared> value-of-zeta"
    assert scrubber is credentials.scrubber("acme")
    assert credentials.scrubber("unknown").clean(text) == f"{KEY} <credential:shared> value-of-zeta"
    assert credentials.scrubber("unknown") is credentials.scrubber(None)
