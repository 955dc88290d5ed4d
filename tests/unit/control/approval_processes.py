"""Functions that run in spawned children, for the tests of approvals over processes."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import flightlog
from flightlog.control.approval import ApprovalState, WriteRequest
from flightlog.control.control import Control
from flightlog.runtime.approvers import queue_approver
from flightlog.runtime.policy import ApprovalRequest
from flightlog.testing import FakeTool, ScriptedModel, asking, saying
from flightlog.trace.vocab import Effect

ARGS = {"order_id": "A1", "amount_usd": 5}


def race(pipe: Connection, store: Path, run_id: str) -> None:
    """For each (id, number) that comes: tries to take the approval, and tells if it did."""
    queue = Control.at(store).approvals
    while (one := pipe.recv()) is not None:
        approval_id, n = one
        asked = WriteRequest.of(
            "refund", {"n": n}, effect=Effect.WRITE, run_id=run_id, step=1, task_id="t"
        )
        state = queue.collect(approval_id, asked, 1010.0)
        pipe.send(state is ApprovalState.APPROVED)


def ask_and_wait(pipe: Connection, store: Path, run_id: str) -> None:
    """Asks for one write, tells that it waits, and then the decision."""
    is_told = False

    def remaining_s() -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            pipe.send("waiting")

    request = ApprovalRequest(
        run_id,
        1,
        "refund",
        Effect.WRITE,
        ARGS,
        "",
        agent="shop",
        task_id="t",
        remaining_s=remaining_s,
    )
    pipe.send(str(queue_approver(store, wait_s=3600, poll_s=0.01)(request)))


def run_agent(pipe: Connection, store: Path, wait_s: float) -> None:
    """One run of an agent that makes a write; tells each call of the tool, then the stop."""
    tool = FakeTool("refund", lambda **args: pipe.send(args) or "done", effect=Effect.WRITE)
    script = [asking(("refund", ARGS)), saying("refunded")]
    policy = flightlog.Policy(["refund"], approver=queue_approver(store, wait_s=wait_s))
    agent = flightlog.Agent("shop", ScriptedModel("m", script), [tool], policy=policy)
    with flightlog.Recorder(store) as recorder:
        pipe.send("started")
        result = flightlog.run(agent, flightlog.Task("t", "Refund A1."), sink=recorder)
    pipe.send(str(result.stop))
