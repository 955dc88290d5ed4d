"""Settings become a policy and prices."""

from pathlib import Path

from flightlog.config import default_config, load_config
from flightlog.runtime.budget import Budget
from flightlog.runtime.from_config import policy_from, prices_from
from flightlog.runtime.model import Usage


def test_default_settings_are_the_safe_policy() -> None:
    policy = policy_from(default_config())
    assert policy.allow == ("search.read", "kb.read", "http.get")
    assert policy.budget == Budget(max_steps=30, max_seconds=90, max_tool_calls=15)
    assert policy.require_approval
    assert policy.approver is None


def test_settings_reach_policy_and_prices(tmp_path: Path) -> None:
    path = tmp_path / "flightlog.yaml"
    path.write_text(
        "tools: {allow: [a.*]}\nbudgets: {max_usd: 0.5, max_steps: null}\n"
        "writes: {require_approval: false}\n"
        "prices: {m: {input_usd_per_mtok: 1, output_usd_per_mtok: 10}}\n",
        encoding="utf-8",
    )
    config = load_config(path)
    policy = policy_from(config)
    assert policy.allow == ("a.*",)
    assert (policy.budget.max_usd, policy.budget.max_steps) == (0.5, None)
    assert not policy.require_approval
    cost = prices_from(config).cost(Usage(1_000_000, 100_000), ("m",))
    assert cost is not None
    assert cost.usd == 2.0
