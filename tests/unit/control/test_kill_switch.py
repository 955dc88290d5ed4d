"""The kill switch: which rule wins, and what on and off change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flightlog.control.kill_switch import KillMode, KillRule, KillSwitch, parse_mode
from flightlog.errors import UsageError

STOP, WRITES, TOOLS = KillMode.STOP_ALL, KillMode.DISABLE_WRITES, KillMode.DISABLE_TOOLS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "kill.json"


@pytest.fixture(params=["file", "in process"])
def switch(request: pytest.FixtureRequest, path: Path) -> KillSwitch:
    return KillSwitch(path if request.param == "file" else None)


def turn_on(switch: KillSwitch, mode: str, *, tenant: str | None = None) -> KillRule:
    kind, tools = parse_mode(mode)
    return switch.turn_on(kind, tools=tools, tenant=tenant, who="ana", why="test", at_us=7)


def found(
    switch: KillSwitch,
    *,
    tenant: str | None = None,
    tool: str | None = "kb.read",
    is_write: bool = False,
    configured: str = "disable_writes",
) -> str | None:
    rule = switch.rule_for(tenant=tenant, tool=tool, is_write=is_write, configured=configured)
    return None if rule is None else rule.text


def test_a_switch_that_was_never_on_forbids_nothing_and_makes_no_file(path: Path) -> None:
    switch = KillSwitch(path)
    assert switch.rules() == ()
    assert found(switch, is_write=True) is None
    assert switch.turn_off(everything=True) == ()
    assert not path.parent.exists()


def test_disable_writes_forbids_writes_only(switch: KillSwitch) -> None:
    turn_on(switch, "disable_writes")
    assert found(switch, is_write=True) == "disable_writes"
    assert found(switch) is None
    assert found(switch, tool=None) is None


def test_disable_tools_forbids_what_its_glob_matches_in_the_very_case(switch: KillSwitch) -> None:
    turn_on(switch, "disable_tools:http.*")
    assert found(switch, tool="http.get") == "disable_tools:http.*"
    assert found(switch, tool="http.get\nx") == "disable_tools:http.*"
    assert found(switch, tool="HTTP.get") is None
    assert found(switch, tool="xhttp.get", is_write=True) is None
    assert found(switch, tool=None) is None


def test_only_stop_all_forbids_model_calls(switch: KillSwitch) -> None:
    for mode in ("disable_writes", "disable_tools:*", "configured"):
        turn_on(switch, mode)
        assert found(switch, tool=None) is None
    turn_on(switch, "stop_all")
    assert found(switch, tool=None) == "stop_all"


def test_on_again_replaces_the_rule_for_the_same_runs_only(switch: KillSwitch) -> None:
    turn_on(switch, "stop_all")
    of_tenant = turn_on(switch, "disable_tools:x", tenant="acme")
    replaced = switch.put(KillRule(WRITES, who="bo"))
    assert replaced is not None
    assert replaced.text == "stop_all"
    assert set(switch.rules()) == {of_tenant, KillRule(WRITES, who="bo")}


def test_a_tenants_rule_holds_for_that_tenant_only(switch: KillSwitch) -> None:
    turn_on(switch, "stop_all", tenant="acme")
    assert found(switch, tenant="acme") == "stop_all"
    assert found(switch, tenant="acm") is None
    assert found(switch, tenant="acme ") is None
    assert found(switch, tenant="*") is None
    assert found(switch) is None


@pytest.mark.parametrize(
    ("for_all", "for_tenant", "tool", "is_write", "wanted"),
    [
        ("disable_writes", "stop_all", "a", False, "stop_all"),
        ("stop_all", "disable_writes", "a", True, "stop_all"),
        ("disable_tools:a", "disable_writes", "a", True, "disable_tools:a"),
        ("disable_writes", "disable_tools:a", "a", True, "disable_tools:a"),
        ("disable_tools:b", "disable_writes", "a", True, "disable_writes"),
        ("disable_tools:b", "disable_writes", "a", False, None),
        ("configured", "disable_tools:a", "a", True, "disable_tools:a"),
    ],
)
def test_the_most_severe_rule_that_applies_wins(
    switch: KillSwitch,
    for_all: str,
    for_tenant: str,
    tool: str,
    is_write: bool,
    wanted: str | None,
) -> None:
    turn_on(switch, for_all)
    turn_on(switch, for_tenant, tenant="acme")
    assert found(switch, tenant="acme", tool=tool, is_write=is_write) == wanted


def test_configured_means_what_each_agent_says(switch: KillSwitch) -> None:
    turn_on(switch, "configured")
    assert found(switch, is_write=True, configured="disable_writes") == "disable_writes"
    assert found(switch, configured="disable_writes") is None
    assert found(switch, tool="x", configured="disable_tools:x") == "disable_tools:x"
    assert found(switch, tool=None, configured="stop_all") == "stop_all"


@pytest.mark.parametrize("configured", ["", "configured", "disable_tools", "off", "STOP_ALL"])
def test_a_configured_mode_that_nobody_understands_stops_everything(
    switch: KillSwitch, configured: str
) -> None:
    turn_on(switch, "configured")
    assert found(switch, tool=None, configured=configured) == "stop_all"


def test_off_ends_the_rule_for_all_runs_and_leaves_those_of_tenants(switch: KillSwitch) -> None:
    for_all, of_tenant = turn_on(switch, "stop_all"), turn_on(switch, "stop_all", tenant="acme")
    assert switch.turn_off() == (for_all,)
    assert switch.turn_off() == ()
    assert switch.rules() == (of_tenant,)
    assert switch.turn_off(tenant="acme") == (of_tenant,)
    assert switch.rules() == ()


def test_off_of_everything_ends_every_rule(switch: KillSwitch) -> None:
    rules = {turn_on(switch, "stop_all"), turn_on(switch, "disable_writes", tenant="acme")}
    assert set(switch.turn_off(everything=True)) == rules
    assert switch.rules() == ()


@pytest.mark.parametrize(
    "text",
    ["", "stop", "disable_tools", "disable_tools:", "stop_all:x", "configured:", "Stop_all", ":"],
)
def test_a_mode_that_is_none_is_an_error_that_names_the_modes(text: str) -> None:
    with pytest.raises(UsageError, match=r"stop_all|disable_tools:"):
        parse_mode(text)


def test_a_glob_may_hold_colons() -> None:
    assert parse_mode("disable_tools:mcp:files:*") == (TOOLS, "mcp:files:*")


@pytest.mark.parametrize(
    "rule",
    [
        KillRule(TOOLS),
        KillRule(STOP, "http.*"),
        KillRule(STOP, tenant=""),
    ],
)
def test_a_rule_that_means_nothing_is_refused_and_changes_nothing(
    switch: KillSwitch, rule: KillRule
) -> None:
    kept = turn_on(switch, "disable_writes")
    with pytest.raises(UsageError):
        switch.put(rule)
    assert switch.rules() == (kept,)


def test_changes_of_many_threads_are_all_kept(switch: KillSwitch) -> None:
    def one(number: int) -> None:
        turn_on(switch, "stop_all", tenant=f"t{number}")
        turn_on(switch, "disable_writes", tenant=f"t{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    assert {(rule.tenant, rule.text) for rule in switch.rules()} == {
        (f"t{number}", "disable_writes") for number in range(24)
    }
