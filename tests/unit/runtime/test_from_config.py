"""Settings become a policy and prices."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from flightlog.config import Config, default_config, load_config
from flightlog.config.page import PRODUCTION
from flightlog.config.settings import (
    FALLBACKS,
    GUARD_ACTIONS,
    REQUIRED,
    SETTINGS,
    STOPPING_OUTCOMES,
)
from flightlog.control.breaker_policy import BreakerPolicy, Fallback
from flightlog.control.control import Control
from flightlog.control.window_budget import WindowBudget
from flightlog.errors import ConfigError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.from_config import agent_settings, credentials_from, policy_from, prices_from
from flightlog.runtime.guards import Guard, GuardAction, GuardPolicy
from flightlog.runtime.loop import run
from flightlog.runtime.model import Usage
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.testing import FakeTool, MemorySink, ScriptedModel, asking, saying
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Outcome, StopReason


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "flightlog.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_default_settings_are_the_safe_policy() -> None:
    policy = policy_from(default_config())
    assert policy.allow == ("search.read", "kb.read", "http.get")
    assert policy.budget == Budget(max_steps=30, max_seconds=90, max_tool_calls=15)
    assert policy.require_approval
    assert policy.approver is None


def test_default_settings_add_nothing_to_the_default_policy() -> None:
    assert (
        policy_from(default_config()).digest == Policy(allow=default_config()["tools.allow"]).digest
    )


def test_settings_reach_policy_and_prices(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "tools: {allow: [a.*]}\nbudgets: {max_usd: 0.5, max_steps: null}\n"
        "writes: {require_approval: false}\n"
        "prices: {m: {input_usd_per_mtok: 1, output_usd_per_mtok: 10}}\n",
    )
    policy = policy_from(config)
    assert policy.allow == ("a.*",)
    assert (policy.budget.max_usd, policy.budget.max_steps) == (0.5, None)
    assert not policy.require_approval
    cost = prices_from(config).cost(Usage(1_000_000, 100_000), ("m",))
    assert cost is not None
    assert cost.usd == 2.0


def test_every_guardrail_of_the_file_reaches_the_policy(tmp_path: Path) -> None:
    policy = policy_from(
        loaded(
            tmp_path,
            """
budgets:
  per_tool: {http.get: {max_calls: 0, max_seconds: 2.5, max_usd: 1}}
  per_tenant: {"*": {window_seconds: 60, max_tool_calls: 9, max_usd: 5, max_tokens: 100}}
results: {max_bytes: null}
stop_on: [failed, denied]
retries: {"http.*": {max_attempts: 4, initial_seconds: 1, max_seconds: 2, multiplier: 3}}
model_retries: {max_attempts: 2, jitter: 0}
breakers:
  http.get: {failure_rate: 0.9, min_calls: 2, window_seconds: 5, open_seconds: 6,
             half_open_calls: 3, fallback: read_only}
guards: {actions: {cycle: stop, policy_lost: read_only, truncated: record}, repeats: 2}
kill_switch: {mode_when_enabled: "disable_tools:http.*"}
""",
        )
    )
    assert policy.tool_budgets == {"http.get": ToolBudget(0, 2.5, 1)}
    assert policy.tenant_budgets == {"*": WindowBudget(60, 9, 5, 100)}
    assert policy.max_result_bytes is None
    assert policy.stop_on == {Outcome.FAILED, Outcome.DENIED}
    assert policy.retries == {"http.*": RetryPolicy(4, 1, 2, 3, 0.5)}
    assert policy.model_retry == RetryPolicy(2, jitter=0)
    assert policy.breakers == {"http.get": BreakerPolicy(0.9, 2, 5, 6, 3, Fallback.READ_ONLY)}
    assert dict(policy.guards.actions) == {
        Guard.CYCLE: GuardAction.STOP,
        Guard.POLICY_LOST: GuardAction.READ_ONLY,
    }
    assert policy.guards.repeats == 2
    assert policy.kill_mode == "disable_tools:http.*"


@pytest.mark.parametrize(
    ("root", "kind", "left_out"),
    [
        ("budgets.per_tool.<tool>.", ToolBudget, set()),
        ("budgets.per_tenant.<tenant>.", WindowBudget, set()),
        ("retries.<tool>.", RetryPolicy, set()),
        ("model_retries.", RetryPolicy, set()),
        ("breakers.<tool>.", BreakerPolicy, set()),
        ("guards.", GuardPolicy, {"actions"}),
    ],
)
def test_the_table_names_every_field_with_its_default(
    root: str, kind: type, left_out: set[str]
) -> None:
    of_table = {
        setting.path.removeprefix(root): setting.default
        for setting in SETTINGS
        if setting.path.startswith(root) and "actions" not in setting.path
    }
    of_class = {}
    for one in fields(kind):
        if one.name in left_out:
            continue
        name = one.name if one.name in of_table else one.name.removesuffix("_s") + "_seconds"
        of_class[name] = REQUIRED if one.default is MISSING else one.default
    if root == "model_retries.":
        of_class["max_attempts"] = 1  # off
    assert of_table == of_class


def test_the_words_of_the_table_are_those_of_the_runtime() -> None:
    assert set(FALLBACKS) == {item.value for item in Fallback}
    assert set(GUARD_ACTIONS) == {item.value for item in GuardAction}
    assert set(STOPPING_OUTCOMES) == {item.value for item in Outcome} - {"ok"}
    guards = {s.keys[-1] for s in SETTINGS if s.path.startswith("guards.actions.")}
    assert guards == {item.value for item in Guard}


def test_an_error_of_the_runtime_names_file_and_line(tmp_path: Path) -> None:
    config = loaded(tmp_path, "retries:\n  a: {}\n  b: {max_attempts: 2}\n")
    config["retries"]["b"]["max_attempts"] = 0  # a value that the schema would have refused
    with pytest.raises(ConfigError) as caught:
        policy_from(config)
    assert str(caught.value).startswith(f"{config.file}:3: retries.b: retry max_attempts=0")
    assert caught.value.hint


def test_an_approver_given_in_code_wins(tmp_path: Path) -> None:
    config = loaded(tmp_path, "approvals: {via: queue}\n")
    assert policy_from(config, approver=approve_all).approver is approve_all


def test_approvals_go_where_the_file_says(tmp_path: Path) -> None:
    store = tmp_path / "store"
    config = loaded(tmp_path, "approvals: {via: queue, wait_seconds: 7, valid_seconds: 60}\n")
    assert repr(policy_from(config, store=store).approver) == "queue_approver(wait_s=7, valid_s=60)"
    assert not store.exists()
    config = loaded(tmp_path, "approvals: {via: queue}\n")
    approver = policy_from(config, store=Control.in_process()).approver
    assert repr(approver) == "queue_approver(wait_s=0, valid_s=3600)"
    config = loaded(tmp_path, "approvals: {via: terminal}\n")
    assert repr(policy_from(config).approver) == "terminal_approver(timeout_s=300)"
    config = loaded(tmp_path, "approvals: {via: terminal}\nwrites: {require_approval: false}\n")
    assert policy_from(config).approver is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("approvals:\n  via: queue\n", "2: approvals.via is queue, and there is no store"),
        (
            "approvals:\n  via: terminal\n  wait_seconds: 0\n",
            "3: approvals.wait_seconds: timeout_s=0",
        ),
    ],
)
def test_approvals_that_can_never_be_given_are_an_error(
    tmp_path: Path, text: str, says: str
) -> None:
    config = loaded(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        policy_from(config)
    assert str(caught.value).startswith(f"{config.file}:{says}")


def test_an_approval_that_is_valid_for_ever_is_an_error(tmp_path: Path) -> None:
    config = loaded(tmp_path, "approvals: {via: queue, valid_seconds: 1e9}\n")
    with pytest.raises(ConfigError, match=r":1: approvals\.valid_seconds: valid_s="):
        policy_from(config, store=tmp_path / "store")


def test_one_call_gives_an_agent_all_that_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "flightlog.yaml"
    path.write_text(PRODUCTION, encoding="utf-8")
    environ = {"ACME_CRM_TOKEN": "secret"}
    settings = agent_settings(path, store=tmp_path / "store", environ=environ)
    credentials = settings["credentials"]
    assert credentials is not None
    assert dict(credentials.for_tool("acme", "crm.update", ["token"])) == {"token": "secret"}
    assert credentials.missing("other", "crm.update", ["token"]) == ("token",)
    agent = Agent("a", ScriptedModel("m", []), **settings)
    assert agent.effective_policy is settings["policy"]
    assert settings["policy"].budget.max_usd == 0.5
    assert settings["prices"].knows("my-model")


def test_without_credentials_in_the_file_an_agent_has_none() -> None:
    assert credentials_from(default_config(), environ={}) is None


def test_a_credential_that_cannot_be_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    config = loaded(tmp_path, "credentials:\n  t: {a: {k: {env: V}, 'x y': {env: V}}}\n")
    with pytest.raises(ConfigError) as caught:
        credentials_from(config, environ={"V": "sk-live-123"})
    assert str(caught.value).startswith(f'{config.file}:2: credentials.t.a."x y": ')
    assert "sk-live" not in str(caught.value)


def test_a_limit_of_the_file_binds_a_run(tmp_path: Path) -> None:
    path = tmp_path / "flightlog.yaml"
    path.write_text(
        "tools.allow: [http.get]\nbudgets.per_tool: {'http.*': {max_calls: 1}}\n", encoding="utf-8"
    )
    answers = [asking(("http.get", {"n": n})) for n in (1, 2)]
    model = ScriptedModel("m", [*answers, saying("done")])
    sink = MemorySink()
    agent = Agent("a", model, [FakeTool("http.get")], **agent_settings(path))
    result = run(agent, Task("t", "Get it."), sink=sink)
    calls = [event.outcome for event in sink.events if isinstance(event, ToolCall)]
    assert calls == [Outcome.OK, Outcome.BUDGET]
    assert (result.stop_reason, result.answer) == (StopReason.OK, "done")
