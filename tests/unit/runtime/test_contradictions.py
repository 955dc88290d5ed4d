"""Settings that contradict each other are named, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.config import default_config, load_config
from flightlog.config.page import PRODUCTION, SAFE_DEFAULT
from flightlog.runtime.contradictions import contradictions


def found(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "flightlog.yaml"
    path.write_text(text, encoding="utf-8")
    return [str(one).removeprefix(f"{path}:") for one in contradictions(load_config(path))]


def test_the_defaults_and_the_examples_contradict_nothing(tmp_path: Path) -> None:
    assert contradictions(default_config()) == ()
    assert found(tmp_path, SAFE_DEFAULT) == []
    assert found(tmp_path, PRODUCTION) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "budgets: {max_steps: null, max_seconds: null, max_tool_calls: null}",
            "1: budgets.max_steps is null as max_seconds and max_tool_calls are: nothing ends",
        ),
        ("tools: {allow: []}", "1: tools.allow is empty: no tool may be called"),
        ('tools: {allow: ["*"]}', "1: tools.allow holds '*': every tool is allowed"),
        (
            "tools:\n  allow:\n    - a\n    - b c",
            "4: tools.allow[1] is 'b c', and no tool name has white space",
        ),
        ("budgets.per_tool: {kb.read: {}}", '1: budgets.per_tool."kb.read" sets no limit'),
        (
            "budgets.per_tenant: {a: {window_seconds: 9, max_usd: null}}",
            "1: budgets.per_tenant.a sets no limit",
        ),
        (
            "retries: {browse: {}}",
            "1: retries.browse is for a tool that tools.allow does not allow",
        ),
        (
            'breakers: {"web.*": {}}',
            '1: breakers."web.*" is for a tool that tools.allow does not allow',
        ),
        (
            "credentials: {a: {browse: {k: {env: V}}}}",
            "1: credentials.a.browse is for a tool that tools.allow does not allow",
        ),
        (
            "kill_switch: {mode_when_enabled: 'disable_tools:web.*'}",
            "1: kill_switch.mode_when_enabled switches off no tool that tools.allow allows",
        ),
        (
            'retries:\n  "*": {}\n  "http.*": {}',
            "3: retries.\"http.*\" is never reached: '*' stands before it",
        ),
        (
            "budgets: {max_seconds: 10, per_tool: {kb.read: {max_seconds: 11}}}",
            '1: budgets.per_tool."kb.read".max_seconds is 11, above budgets.max_seconds=10',
        ),
        (
            "budgets: {max_usd: 1, per_tool: {kb.read: {max_usd: 2}}}",
            '1: budgets.per_tool."kb.read".max_usd is 2, above budgets.max_usd=1',
        ),
        (
            "writes: {require_approval: false}\napprovals: {via: queue}",
            "2: approvals.via asks nobody: writes.require_approval is false",
        ),
        (
            "approvals: {wait_seconds: 3}",
            "1: approvals.wait_seconds has no effect here: approvals.via is none",
        ),
        (
            "budgets: {max_seconds: 10}\napprovals: {via: terminal, wait_seconds: 11}",
            "2: approvals.wait_seconds is 11, above budgets.max_seconds=10",
        ),
        (
            "approvals: {via: terminal, valid_seconds: 3}",
            "1: approvals.valid_seconds has no effect here: only the queue has it",
        ),
        (
            "budgets: {max_seconds: null}\napprovals: {via: queue, wait_seconds: 3601}",
            "2: approvals.wait_seconds is 3601, above approvals.valid_seconds=3600",
        ),
        (
            "retries: {kb.read: {initial_seconds: 9, max_seconds: 8}}",
            '1: retries."kb.read".initial_seconds is 9, above max_seconds=8, which caps it',
        ),
        (
            "budgets: {max_seconds: 5}\nmodel_retries: {max_attempts: 2, initial_seconds: 5}",
            "2: model_retries.initial_seconds waits as long as the run may last",
        ),
        (
            "model_retries: {jitter: 1}",
            "1: model_retries.jitter has no effect: model_retries.max_attempts is 1",
        ),
        (
            "retries: {kb.read: {max_attempts: 16}}",
            '1: retries."kb.read".max_attempts is 16, above budgets.max_tool_calls=15',
        ),
        (
            "stop_on: [circuit_open]\nbreakers: {kb.read: {fallback: read_only}}",
            '2: breakers."kb.read".fallback is read_only, but stop_on holds circuit_open',
        ),
    ],
)
def test_a_contradiction_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    [only] = found(tmp_path, text)
    assert only.startswith(says)


@pytest.mark.parametrize(
    "text",
    [
        'tools.allow: ["http.*"]\nretries: {http.get: {}, "http.get*": {}, "ht*": {}}',
        'retries: {http.get: {}, "http.*": {}, "*": {}}',
        'tools.allow: ["h?t*"]\nretries: {"h?t*": {}, "h*t": {}}',
        "budgets: {max_usd: null, per_tool: {kb.read: {max_usd: 9}}}",
        "budgets: {max_steps: null, max_seconds: null}",
        "writes: {require_approval: false}",
        "breakers: {kb.read: {fallback: stop}}\nstop_on: [circuit_open]",
        "kill_switch: {mode_when_enabled: 'disable_tools:http.*'}",
        "model_retries: {max_attempts: 2, jitter: 1}",
    ],
)
def test_settings_that_agree_are_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


def test_contradictions_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "model_retries:\n  jitter: 1\n  multiplier: 3\ntools: {allow: ['*']}\n"
    assert [line.split(":")[0] for line in found(tmp_path, text)] == ["2", "3", "4"]


def test_a_variable_that_is_not_set_is_named_where_the_environment_is_known(
    tmp_path: Path,
) -> None:
    path = tmp_path / "flightlog.yaml"
    path.write_text("credentials:\n  a: {kb.read: {k: {env: NO_SUCH}}}\n", encoding="utf-8")
    config = load_config(path)
    assert contradictions(config) == ()
    assert contradictions(config, environ={"NO_SUCH": "x"}) == ()
    [only] = contradictions(config, environ={"NO_SUCH": ""})
    assert str(only) == (
        f'{path}:2: credentials.a."kb.read".k.env is NO_SUCH, which is not set in this environment'
    )
