"""Upstreams that stall, break off or answer rubbish; clients that leave; requests that are none."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.unit.integrations.model_server import Answer, chat_body, serving
from tests.unit.integrations.proxy.agents import rows
from tests.unit.integrations.proxy.raw import (
    ASKED,
    EVENTS,
    STREAMED,
    Behaviour,
    asking,
    chunk,
    piece,
    plain,
    upstream,
)
from tests.unit.integrations.running import Running, eventually, running

SOON = ("--stall", "0.5")
RIGHT = chat_body(Answer("Yes."), ASKED)
CALLS = "SELECT outcome, error, output_tokens, finish_reason FROM model_calls"


def stalls(_: socket.socket, over: threading.Event) -> None:
    over.wait(20)


def stalls_in_the_middle(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(EVENTS + piece("It is"))
    over.wait(20)


def breaks_off(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(EVENTS + piece("It is"))


def ends_without_an_end(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(EVENTS + piece("It is") + chunk(b""))


def sends(*answers: bytes) -> Behaviour:
    def behave(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(b"".join(answers))

    return behave


def post(
    url: str, body: Any, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, Any]:
    """Status and body of an answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(url + path, data=raw, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=30) as done:
            return done.status, done.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


WHOLE = {
    "an upstream that stalls": (stalls, 504, "silent", "timed_out"),
    "an upstream that cuts the connection": (sends(), 502, "cannot be reached", "failed"),
    "an answer that is no HTTP": (sends(b"rubbish\r\n\r\n"), 502, "cannot be reached", "failed"),
    "an answer that breaks off": (
        sends(plain(b"x" * 50)[:-20]), 502, "cannot be reached", "failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WHOLE)
def test_an_upstream_without_an_answer_is_an_error_in_the_apis_form(
    what: str, tmp_path: Path
) -> None:
    behaviour, status, why, outcome = WHOLE[what]
    with (
        upstream(behaviour) as url,
        running("proxy", "--upstream", url, "--store", tmp_path, *SOON) as proxy,
    ):
        with client(proxy.url) as chat, pytest.raises(openai.APIStatusError, match=why) as error:
            chat.chat.completions.create(**ASKED)
        assert error.value.status_code == status
        at = anthropic.Anthropic(base_url=proxy.url, api_key="k", max_retries=0)
        with at as messages, pytest.raises(anthropic.APIStatusError, match=why):
            messages.messages.create(**ASKED, max_tokens=5)
        proxy.end()
    calls = rows(tmp_path, CALLS)
    assert [one["outcome"] for one in calls] == [outcome] * 2
    assert {one["output_tokens"] for one in calls} == {None}
    assert {one["stop_reason"] for one in rows(tmp_path, "FROM runs")} == {"model_error"}


def test_an_upstream_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ("proxy", "--upstream", f"http://127.0.0.1:{port}", "--store", tmp_path)
    with running(*command) as proxy:
        assert post(proxy.url, ASKED)[0] == 502
        proxy.end()
    assert [one["outcome"] for one in rows(tmp_path, CALLS)] == ["failed"]


PIECES = {
    "it stalls": (stalls_in_the_middle, "silent"),
    "it breaks off": (breaks_off, "cannot be reached"),
    "it tells an error": (
        sends(EVENTS, piece("It is"), chunk(b'data: {"error": {"message": "overloaded"}}\n\n')),
        "overloaded",
    ),
}


@pytest.mark.parametrize("what", PIECES)
def test_a_stream_that_does_not_come_to_its_end_is_an_error_to_the_client_too(
    what: str, tmp_path: Path
) -> None:
    behaviour, why = PIECES[what]
    with (
        upstream(behaviour) as url,
        running("proxy", "--upstream", url, "--store", tmp_path, *SOON) as proxy,
    ):
        said = []
        with client(proxy.url) as chat, pytest.raises(openai.APIError, match=why):  # noqa: PT012
            for one in chat.chat.completions.create(**STREAMED):
                said.append(one.choices[0].delta.content)
        assert said == ["It is"]
        proxy.end()
    [call] = rows(tmp_path, CALLS)
    assert (call["outcome"], call["output_tokens"]) == ("failed", None)
    assert why in call["error"]


def test_a_stream_that_only_ends_is_a_failed_call(tmp_path: Path) -> None:
    with (
        upstream(ends_without_an_end) as url,
        running("proxy", "--upstream", url, "--store", tmp_path) as proxy,
        asking(proxy.url, json.dumps(STREAMED).encode()) as connection,
    ):
        raw = b""
        while not raw.endswith(b"0\r\n\r\n"):
            raw += connection.recv(65_536)
        proxy.end()
    [call] = rows(tmp_path, CALLS)
    assert call["error"] == "the stream ended before the answer did"


RUBBISH = {
    "no JSON": plain(b"<html>busy</html>"),
    "a list": plain(b"[1, 2]"),
    "an object of another kind": plain(b'{"status": "fine"}'),
    "wrong types all over": plain(
        b'{"id": 5, "model": [], "choices": [{"message": {"content": {"a": 1}, "tool_calls": 7},'
        b' "finish_reason": 3}], "usage": {"prompt_tokens": -4, "completion_tokens": "many"}}'
    ),
    "nested without end": plain(b'{"choices": ' + b"[" * 100_000),
    "rubbish events": EVENTS + chunk(b"data: {]\n\ndata\n\n\xff\xfe\n\ndata: 7\n\n") + chunk(b""),
    "packed though nobody asked": plain(
        gzip.compress(json.dumps(RIGHT).encode()), headers="content-encoding: gzip\r\n"
    ),
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_passes_as_it_is_and_counts_nothing(what: str, tmp_path: Path) -> None:
    with (
        upstream(sends(RUBBISH[what])) as url,
        running("proxy", "--upstream", url, "--store", tmp_path) as proxy,
    ):
        status, body = post(proxy.url, STREAMED if "events" in what else ASKED)
        assert status == 200
        assert body in RUBBISH[what] or "events" in what
        assert "1 runs, 1 model calls recorded" in proxy.end()
    [call] = rows(tmp_path, CALLS)
    assert call["output_tokens"] is None
    assert call["outcome"] == ("ok" if "types" in what else "failed")


def test_a_client_that_leaves_in_the_middle_is_recorded_and_the_upstream_let_go(
    tmp_path: Path,
) -> None:
    left = threading.Event()

    def tells(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(EVENTS + piece("It is"))
        connection.settimeout(20)
        if connection.recv(1) == b"" and not over.is_set():
            left.set()

    with (
        upstream(tells) as url,
        running("proxy", "--upstream", url, "--store", tmp_path) as proxy,
    ):
        with asking(proxy.url, json.dumps(STREAMED).encode()) as connection:
            raw = b""
            while b"It is" not in raw:
                raw += connection.recv(65_536)
        assert left.wait(20)
        [call] = eventually(lambda: rows(tmp_path, CALLS))
        proxy.end()
    assert call["error"] == "the client went away in the middle of the answer"
    assert [one["stop_reason"] for one in rows(tmp_path, "FROM runs")] == ["cancelled"]


def test_who_saw_the_end_of_an_answer_finds_it_recorded_though_the_proxy_is_killed(
    tmp_path: Path,
) -> None:
    for place in range(5):
        with (
            serving(Answer("Yes."), Answer("No.")) as server,
            running("proxy", "--upstream", server.url, "--store", tmp_path) as proxy,
            client(proxy.url) as chat,
        ):
            chat.chat.completions.create(**ASKED)
            for one in chat.chat.completions.create(**STREAMED):
                if one.usage:
                    break
            proxy.kill()
        calls = rows(tmp_path, f"{CALLS} WHERE outcome = 'ok'")
        assert len(calls) >= 2 * place + 1
    # The usage comes before the end: of the second call only a part may be there.
    assert len(calls) >= 5


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = tmp_path_factory.mktemp("bad")
    with (
        upstream(sends(plain(json.dumps(RIGHT).encode()))) as url,
        running("proxy", "--upstream", url, "--store", store, "--max-request-mb", "1") as found,
    ):
        yield found


REFUSED = {
    "a request that is too large": (
        {"body": b" " * (2 << 20)}, 413, "1,048,576 is the most",
    ),
    "a host of another name": ({"headers": {"host": "evil.example"}}, 403, "loopback"),
    "a page of another host": ({"headers": {"origin": "http://evil.example"}}, 403, "loopback"),
    "a trial that is no number": (
        {"headers": {"x_flightlog_trial": "one"}}, 400, "x-flightlog-trial",
    ),
    "an empty name of a run": ({"path": "/run//v1/chat/completions"}, 400, "the path"),
    "a name of a run with control characters": (
        {"path": "/run/%1b%5b2J/v1/chat/completions"}, 400, "the path",
    ),
    "a name of a run that is too long": (
        {"path": f"/run/{'x' * 300}/v1/chat/completions"}, 400, "the path",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_is_not_taken_is_told_why(what: str, proxy: Running) -> None:
    given, status, why = REFUSED[what]
    path = given.get("path", "/v1/chat/completions")
    told, body = post(proxy.url, given.get("body", ASKED), path, **given.get("headers", {}))
    assert told == status
    assert why in json.loads(body)["error"]["message"]


UNREADABLE = {
    "no JSON": b"{",
    "no object": b"[]",
    "no text at all": b"\xff\xfe\x00",
    "nested without end": b"[" * 200_000,
    "messages that are none": b'{"model": 5, "messages": {"a": [[[[1]]]]}, "tools": "all"}',
    "lone surrogates": b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "no number that fits": b'{"model": "m", "messages": [{"role": "user", "content": 1e999}]}',
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_request_that_cannot_be_read_is_passed_on_for_the_upstream_to_judge(
    what: str, proxy: Running
) -> None:
    assert post(proxy.url, UNREADABLE[what]) == (200, json.dumps(RIGHT).encode())


def test_other_requests_pass_and_are_not_recorded(tmp_path: Path) -> None:
    with (
        upstream(sends(plain(b'{"data": []}', headers="x-own: 1\r\n"))) as url,
        running("proxy", "--upstream", url, "--store", tmp_path) as proxy,
    ):
        with urllib.request.urlopen(f"{proxy.url}/v1/models?limit=5", timeout=30) as done:
            assert (done.read(), done.headers["x-own"]) == (b'{"data": []}', "1")
        assert "0 runs, 0 model calls" in proxy.end()


def test_on_another_address_a_token_is_needed(tmp_path: Path) -> None:
    with upstream(sends(plain(json.dumps(RIGHT).encode()))) as url:
        with running("proxy", "--upstream", url, "--store", tmp_path, "--token", "t0k") as proxy:
            assert post(proxy.url, ASKED)[0] == 401
            assert post(proxy.url, ASKED, x_flightlog_token="t0k")[0] == 200
        with pytest.raises(AssertionError, match="without a token"):
            running(
                "proxy", "--upstream", url, "--store", tmp_path, "--host", "0.0.0.0"
            ).__enter__()


def test_a_store_that_takes_no_more_does_not_stop_the_agent(tmp_path: Path) -> None:
    within = ("prlimit", "--fsize=16384")
    long = {"model": "m", "messages": [{"role": "user", "content": "x" * 40_000}]}
    with (
        upstream(sends(plain(json.dumps(RIGHT).encode()))) as url,
        running("proxy", "--upstream", url, "--store", tmp_path, within=within) as proxy,
    ):
        for place in range(5):
            long["messages"] = [{"role": "user", "content": f"{place}" * 40_000}]
            assert post(proxy.url, long)[0] == 200
        health = urllib.request.Request(f"{proxy.url}/healthz")
        with pytest.raises(urllib.error.HTTPError) as sick:
            urllib.request.urlopen(health, timeout=30)
        assert json.loads(sick.value.read())["not_recorded"] > 0
        assert "were not recorded" in proxy.end()


def test_the_end_of_a_run_can_be_told(tmp_path: Path) -> None:
    def ended(url: str, body: bytes = b"") -> int:
        request = urllib.request.Request(url, data=body or None, method="DELETE")
        try:
            with urllib.request.urlopen(request, timeout=30) as done:
                return done.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    with (
        upstream(sends(plain(json.dumps(RIGHT).encode()))) as url,
        running("proxy", "--upstream", url, "--store", tmp_path) as proxy,
    ):
        run = f"{proxy.url}/run/R1"
        assert ended(run) == 404
        post(proxy.url, ASKED, "/run/R1/v1/chat/completions")
        assert ended(run, b"{") == 400
        assert ended(run, b'{"passed": "yes"}') == 400
        assert ended(run, b'{"stop_reason": "bored"}') == 400
        assert ended(run, b'{"stop_reason": "max_steps", "passed": false, "score": 0.5}') == 200
        assert ended(run) == 404
        proxy.end()
    assert rows(tmp_path, "SELECT stop_reason, status FROM runs") == [
        {"stop_reason": "max_steps", "status": "stopped"}
    ]
    assert rows(tmp_path, "SELECT passed, score FROM events WHERE kind = 'evaluation'") == [
        {"passed": False, "score": 0.5}
    ]


def test_a_run_is_over_when_nothing_comes_for_a_while(tmp_path: Path) -> None:
    with (
        upstream(sends(plain(json.dumps(RIGHT).encode()))) as url,
        running("proxy", "--upstream", url, "--store", tmp_path, "--idle", "0.2") as proxy,
    ):
        post(proxy.url, ASKED)
        eventually(lambda: rows(tmp_path, "FROM runs WHERE stop_reason = 'ok'"))
        proxy.end()
