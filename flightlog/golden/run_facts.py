"""What one run did, in the figures that two runs are laid side by side by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from flightlog.replay.cassette import Recording
from flightlog.replay.matching import Rules
from flightlog.trace.events import ModelCall, ToolCall
from flightlog.trace.vocab import Actor, Outcome, stop_text

_FAILED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INVALID_OUTPUT)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What one run did; None is unknown.

    Attributes:
        stop: stop reason and tool; `running` while there is no end.
        steps: turns of the agent.
        model_calls: of the agent, attempts included.
        tool_calls: of the agent, attempts and refusals included.
        failed_calls: that failed, timed out, or gave what the tool's schema refuses.
        refused_calls: that the gateway answered itself.
        writes: writes that worked, with their canonical arguments, in order.
        tokens: input and output of all answered model calls.
        cost_usd: of model calls, and of tools that have a price.
        seconds: on the clock of the run; a virtual one in replays.
        answer: last text of the agent.
    """

    run_id: str
    stop: str
    steps: int
    model_calls: int
    tool_calls: int
    failed_calls: int
    refused_calls: int
    writes: tuple[str, ...]
    tokens: int | None
    cost_usd: float | None
    seconds: float | None
    answer: str | None

    @staticmethod
    def names() -> list[str]:
        """Names of the cells, as a table shows them."""
        shown = [one.name for one in fields(RunFacts) if one.name not in ("run_id", "answer")]
        return [name.replace("_", " ") for name in shown]

    def cells(self) -> list[str]:
        """The figures as text, in the order of `names`."""
        return [
            self.stop,
            f"{self.steps:,}",
            f"{self.model_calls:,}",
            f"{self.tool_calls:,}",
            f"{self.failed_calls:,}",
            f"{self.refused_calls:,}",
            f"{len(self.writes):,}",
            "?" if self.tokens is None else f"{self.tokens:,}",
            "?" if self.cost_usd is None else f"${self.cost_usd:.4f}",
            "?" if self.seconds is None else f"{self.seconds:,.1f}",
        ]


def facts_of(recording: Recording, rules: Rules) -> RunFacts:
    """The figures of one run.

    Args:
        recording: its events.
        rules: which tools are writes.
    """
    models = [e for e in recording.events if isinstance(e, ModelCall) and e.actor is Actor.AGENT]
    calls = [call for call in recording.tool_calls if call.actor is Actor.AGENT]
    done = [call for call in calls if call.outcome is Outcome.OK]
    writes = [call for call in done if rules[call.tool_name].effect.is_write]
    answered = [call for call in models if call.outcome is Outcome.OK]
    stopped = recording.stopped
    duration_ms = stopped.duration_ms if stopped else None
    return RunFacts(
        run_id=recording.run_id,
        stop=stop_text(stopped.stop_reason, stopped.stop_tool)
        if stopped and stopped.stop_reason
        else "running",
        steps=max((call.step or 0 for call in models), default=0),
        model_calls=len(models),
        tool_calls=len(calls),
        failed_calls=sum(call.outcome in _FAILED for call in calls),
        refused_calls=sum(call.outcome.is_refusal for call in calls),
        writes=tuple(
            f"{call.tool_name} {rules[call.tool_name].args_of(call.args or '').text}"
            for call in writes
        ),
        tokens=_tokens(answered),
        cost_usd=_cost(answered, calls),
        seconds=None if duration_ms is None else duration_ms / 1000,
        answer=stopped.answer if stopped else None,
    )


def _tokens(answered: Sequence[ModelCall]) -> int | None:
    total = 0
    for call in answered:
        if call.input_tokens is None or call.output_tokens is None:
            return None
        total += call.input_tokens + call.output_tokens
    return total


def _cost(answered: Sequence[ModelCall], calls: Sequence[ToolCall]) -> float | None:
    costs = [call.cost_usd for call in answered]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return None
    return sum(known) + sum(call.cost_usd or 0.0 for call in calls)
