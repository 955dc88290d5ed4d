"""A review as text and as Markdown; everything out of a trace is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from flightlog.analysis.reports.markdown import escape_markdown
from flightlog.analysis.terminal import escape_terminal, number_text
from flightlog.analysis.wording import counted
from flightlog.golden.judging.judge import Judgement
from flightlog.golden.life.review import ADDED, ANSWERED, CHANGED, REMOVED, CallChange, Review
from flightlog.trace.canonical import canonical_json

MAX_ARGS_CHARS: Final = 200
_SIGNS: Final = {ADDED: "+", REMOVED: "-", CHANGED: "~", ANSWERED: "="}
_DIGEST_CHARS: Final = 12


def review_lines(reviews: Sequence[Review]) -> list[str]:
    """Reviews as lines for a terminal."""
    return [line for one in reviews for line in _lines(one, _for_terminal)]


def review_markdown(reviews: Sequence[Review]) -> str:
    """Reviews as Markdown, for a comment under a pull request."""
    if not reviews:
        return "No golden task changes.\n"
    parts: list[str] = []
    for one in reviews:
        head, *rest = _lines(one, _for_markdown)
        parts += [f"### {head}", "", *(f"* {line.strip()}" for line in rest), ""]
    return "\n".join(parts)


def _for_terminal(text: str) -> str:
    return escape_terminal(text)


def _for_markdown(text: str) -> str:
    return escape_markdown(text, starts_line=True)


def _lines(one: Review, escape: Callable[[str], str]) -> list[str]:
    pending = ", pending" if one.is_pending else ""
    against = f"run {one.nearest}" if one.nearest else "nothing, since there is no other recording"
    lines = [
        escape(f"{one.task_id}: run {one.run_id}{pending}, compared with {against}"),
        f"  verdict {_verdict(one.verdict, escape)}",
    ]
    if one.verdict_after != one.verdict:
        lines.append(f"  once accepted {_verdict(one.verdict_after, escape)}")
    if one.stops[0] != one.stops[1]:
        lines.append(f"  stop: {escape(one.stops[0] or 'none')} -> {escape(one.stops[1])}")
    amounts = [
        f"{name} {_amount(before)} -> {_amount(after)}"
        for name, (before, after) in one.amounts.items()
        if before != after
    ]
    if amounts:
        lines.append(f"  {escape('; '.join(amounts))}")
    if not one.calls:
        lines.append("  the same calls, answered alike")
    return lines + [f"  {_call(call, escape)}" for call in one.calls]


def _verdict(judgement: Judgement, escape: Callable[[str], str]) -> str:
    words = {True: "passes", False: "FAILS", None: "inconclusive"}
    level = escape(str(judgement.level))
    return f"{words[judgement.passed]} ({level}): {escape(judgement.detail)}"


def _call(call: CallChange, escape: Callable[[str], str]) -> str:
    write = ", write" if call.is_write else ""
    step = f" at step {call.step}" if call.step is not None else ""
    head = f"{_SIGNS[call.kind]} {call.tool_name} {_cut(call.args)} ({call.kind}{step}{write})"
    if call.patch:
        shown = "; ".join(_cut(canonical_json(operation)) for operation in call.patch[:5])
        more = len(call.patch) - 5
        head += f": {shown}" + (f"; and {counted(more, 'change')} more" if more > 0 else "")
    if call.kind == ANSWERED:
        head += f": observation {_short(call.before)} -> {_short(call.after)}"
    return escape(head)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ARGS_CHARS else f"{text[: MAX_ARGS_CHARS - 1]}…"


def _short(digest: str | None) -> str:
    return (digest or "none")[:_DIGEST_CHARS]


def _amount(value: float | None) -> str:
    return "unknown" if value is None else number_text(value)
