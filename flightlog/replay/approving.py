"""Who approves in a replay: the recordings, in the place of people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flightlog.replay.cassette import Recording
from flightlog.runtime.agent import Agent
from flightlog.runtime.policy import ApprovalRequest
from flightlog.trace.vocab import Outcome


class RecordedApprover:
    """Says no to a write that was denied in the recordings and never made; yes to all others.

    A write that no recording has is let through to the cassette, where it is a
    named miss.
    """

    def __init__(self, recordings: Iterable[Recording]) -> None:
        calls = [call for recording in recordings for call in recording.tool_calls]
        denied = {
            (call.tool_name, call.args_digest)
            for call in calls
            if call.outcome is Outcome.APPROVAL_DENIED
        }
        made = {(call.tool_name, call.args_digest) for call in calls if not call.outcome.is_refusal}
        self._denied = denied - made

    def __call__(self, request: ApprovalRequest) -> bool:
        return (request.tool, request.args_digest) not in self._denied


def without_people(agent: Agent, recordings: Iterable[Recording]) -> Agent:
    """The agent with the recordings in the place of an approver that asks people.

    Else a replay would wait for a person, or spend an approval of production.
    An approver of the agent's own code is part of the candidate and stays.
    """
    policy = agent.effective_policy
    if not getattr(policy.approver, "asks_people", False):
        return agent
    return replace(agent, policy=replace(policy, approver=RecordedApprover(recordings)))
