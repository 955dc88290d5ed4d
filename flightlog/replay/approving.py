"""Who approves in a replay: the recordings, in the place of people."""

from __future__ import annotations

from dataclasses import replace

from flightlog.replay.cassette import Cassette
from flightlog.runtime.agent import Agent
from flightlog.runtime.policy import ApprovalRequest
from flightlog.trace.canonical import canonical_json
from flightlog.trace.vocab import Outcome


class RecordedApprover:
    """Says no to a write that was denied in the recordings and never made; yes to all others.

    A write that no recording has is let through to the cassette, where it is a
    named miss.
    """

    def __init__(self, cassette: Cassette) -> None:
        self._rules = cassette.rules
        calls = [call for recording in cassette.recordings for call in recording.tool_calls]
        denied = {
            self._identity(call.tool_name, call.args or "")
            for call in calls
            if call.outcome is Outcome.APPROVAL_DENIED
        }
        made = {
            self._identity(call.tool_name, call.args or "")
            for call in calls
            if not call.outcome.is_refusal
        }
        self._denied = denied - made

    def __call__(self, request: ApprovalRequest) -> bool:
        return self._identity(request.tool, canonical_json(request.args)) not in self._denied

    def _identity(self, tool: str, args: str) -> tuple[str, str]:
        # By the rules of the cassette: recordings hold pseudonyms where the request has values.
        return (tool, self._rules[tool].args_of(args).digest)


def without_people(agent: Agent, cassette: Cassette) -> Agent:
    """The agent with the recordings in the place of an approver that asks people.

    Else a replay would wait for a person, or spend an approval of production.
    An approver of the agent's own code is part of the candidate and stays.
    """
    policy = agent.effective_policy
    if not getattr(policy.approver, "asks_people", False):
        return agent
    return replace(agent, policy=replace(policy, approver=RecordedApprover(cassette)))
