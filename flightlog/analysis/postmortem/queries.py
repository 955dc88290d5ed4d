"""For each kind of finding the command that shows it to whoever doubts it: a ready question."""

from __future__ import annotations

from typing import Final

from flightlog.analysis.postmortem.kinds import Kind

_QUESTIONS: Final = {
    Kind.RETRIES: "runs_over_time",
    Kind.CALLS: "runs_over_time",
    Kind.COST: "runs_over_time",
    Kind.DURATION: "runs_over_time",
    Kind.FAILURES: "runs_over_time",
    Kind.PROMPT_GROWTH: "prompt_growth",
    Kind.PROMPT_START: "prompts_over_time",
    Kind.OUTPUT: "prompts_over_time",
    Kind.CACHE_LOST: "prompts_over_time",
    Kind.TRUNCATED: "prompts_over_time",
    Kind.POLICY_LOST: "prompts_over_time",
    Kind.REFUSED: "refusals",
    Kind.STOPS: "ends_over_time",
    Kind.USER_RETRIES: "reruns",
    Kind.MODEL_CHANGED: "model_over_time",
    Kind.RUNAWAY: "longest_runs",
    Kind.LOOPS: "repeated_calls",
    Kind.DUPLICATE_WRITES: "repeated_calls",
    Kind.IN_DOUBT: "tool_errors",
}
"""Of agents."""


def shown_by(kind: Kind, subject: str, of: str) -> tuple[str, ...]:
    """Arguments of `flightlog` that show a finding."""
    if of == "run":
        return ("show", subject)
    if kind is Kind.SURGE:
        return ("ask", "load_over_time", f"--{of}", subject)
    if of == "tool":
        return ("ask", "tool_over_time", "-p", f"tool={subject}")
    if of == "model":
        return ("ask", "model_over_time", "-p", f"model={subject}")
    return ("ask", _QUESTIONS[kind], "--agent", subject)
