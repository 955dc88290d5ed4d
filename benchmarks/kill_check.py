"""What the look at the kill switch costs: `python benchmarks/kill_check.py`.

One look per figure, in the states that a store can be in, beside the bare
`os.stat` that it cannot do without, and beside a whole tool call through the
runtime, which looks three times: before the model call, before the tool call,
and again when the tool is about to run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks._timing import rounds, table
from flightlog.control.control import CONTROL_FOLDER, KILL_FILE, Control
from flightlog.control.kill_format import encoded
from flightlog.control.kill_switch import KillMode, KillRule, KillSwitch
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import tool
from flightlog.testing import ScriptedModel, asking

GOAL_US = 5.0
STEPS = 20
TENANTS = 1_000


def looks(switch: KillSwitch, count: int) -> Callable[[], None]:
    def case() -> None:
        for _ in range(count):
            switch.rule_for(
                tenant="acme", tool="kb.read", is_write=False, configured="disable_writes"
            )

    return case


def stats(path: Path, count: int) -> Callable[[], None]:
    name = str(path)

    def case() -> None:
        for _ in range(count):
            os.stat(name)  # noqa: PTH116 - the cheapest one

    return case


def tool_calls(control: Control, count: int) -> Callable[[], None]:
    one = tool(effect="read")(get_order)
    script = [asking(("get_order", {"order_id": "A-17"}))] * STEPS
    policy = Policy((one.name,), Budget(max_steps=None, max_seconds=90, max_tool_calls=None))

    def case() -> None:
        for _ in range(count // STEPS):
            model = ScriptedModel("m", [*script, ModelResponse("x")])
            run(Agent("bench", model, [one], policy=policy), Task("bench", "go"), control=control)

    return case


def get_order(order_id: str) -> dict[str, object]:
    return {"id": order_id}


def switched(store: Path, *rules: KillRule) -> KillSwitch:
    """The switch of a store of its own, with these rules."""
    file = store / CONTROL_FOLDER / KILL_FILE
    file.parent.mkdir(parents=True)
    if rules:
        file.write_bytes(encoded(rules))
    return Control.at(store).kill_switch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=int, default=10_000, help="per round")
    parser.add_argument("--calls", type=int, default=400, help="tool calls per round")
    parser.add_argument("--repeat", type=int, default=25, help="rounds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writes = switched(folder / "writes", KillRule(KillMode.DISABLE_WRITES))
        turned_off = switched(folder / "off", KillRule(KillMode.STOP_ALL))
        turned_off.turn_off()
        many = [KillRule(KillMode.STOP_ALL, tenant=f"t{number}") for number in range(TENANTS)]
        switches = {
            "look, never switched on": switched(folder / "never"),
            "look, switched off again": turned_off,
            "look, disable_writes, a read": writes,
            f"look, {TENANTS} other tenants stopped": switched(folder / "many", *many),
            "look, in this process only": Control.in_process().kill_switch,
        }
        bare = "bare os.stat"
        whole = "tool call through run(), switch of a store"
        cases = {bare: stats(folder / "off" / CONTROL_FOLDER / KILL_FILE, options.looks)}
        cases |= {label: looks(switch, options.looks) for label, switch in switches.items()}
        cases[whole] = tool_calls(Control.at(folder / "off"), options.calls)
        seconds = rounds(cases, repeat=options.repeat)
    counts = {label: options.calls if label == whole else options.looks for label in cases}
    each = {label: seconds[label] / counts[label] * 1e6 for label in cases}
    lines = [(label, f"{us:.2f}", f"{us / each[bare]:.2f}") for label, us in each.items()]
    print(f"median of {options.repeat} rounds\n")
    print(table(lines, header=("case", "us", "ratio")))
    worst = max(each[label] for label in switches)
    share = 3 * each["look, switched off again"] / each[whole]
    print(f"\nthree looks are {share:.1%} of a tool call")
    print(f"goal <= {GOAL_US:.0f} us: {'held' if worst <= GOAL_US else 'MISSED'} ({worst:.2f})")


if __name__ == "__main__":
    main()
