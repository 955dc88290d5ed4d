"""The verdict as Markdown, for a comment under a pull request."""

from __future__ import annotations

import re

from flightlog.analysis.gate.verdict import Decision, Verdict
from flightlog.analysis.terminal import escape_terminal
from flightlog.analysis.wording import (
    bounds_text,
    change_text,
    counted,
    method_text,
    p_text,
    tolerance_text,
    value_text,
    verified_text,
)

SHOWN = 10
_PUNCTUATION = re.compile(r"([\\`*_\[\]|~$])")
_BLOCK_START = re.compile(r"^([-+#=]|\d+(?=[.)]))")
_MARKS = {
    Decision.DRIFT: "❌",
    Decision.INCONCLUSIVE: "❔",
    Decision.UNAVAILABLE: "❔",
    Decision.OK: "✅",
    Decision.IMPROVED: "✅",
}


def escape_markdown(text: str, *, starts_line: bool = False) -> str:
    """Any text so that Markdown shows it as it is: no markup, HTML, link, mention or new line.

    Args:
        text: any text.
        starts_line: it comes first in a line, where `-` or `1.` would begin a list.
    """
    plain = escape_terminal(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _PUNCTUATION.sub(r"\\\1", plain.strip())
    if starts_line:
        plain = _BLOCK_START.sub(lambda found: _escaped_start(found[1]), plain)
    plain = plain.replace("@", "&#64;").replace("://", "&#58;//")
    return re.sub(r"(?i)(www)\.", r"\1&#46;", plain)


def _escaped_start(start: str) -> str:
    """The start of a list, heading or rule as plain text; a number keeps its digits."""
    return f"{start}\\" if start.isdigit() else f"\\{start}"


def to_markdown(verdict: Verdict) -> str:
    """The verdict as GitHub-flavoured Markdown."""
    lines = [
        f"### {_MARKS[verdict.decision]} {escape_markdown(verdict.headline)}",
        "",
        _sides(verdict),
        "",
        f"<sub>{escape_markdown(verified_text(verdict))}</sub>",
        "",
        *_metrics(verdict),
        *_tasks(verdict),
        *_lists(verdict),
        "",
        f"<sub>{escape_markdown(method_text(verdict))}</sub>",
    ]
    return "\n".join(lines) + "\n"


def _sides(verdict: Verdict) -> str:
    candidate = escape_markdown(verdict.candidate, starts_line=True)
    baseline = escape_markdown(verdict.baseline)
    return (
        f"{candidate} ({counted(verdict.candidate_runs, 'run')}) against {baseline} "
        f"({counted(verdict.baseline_runs, 'run')}), {counted(verdict.task_count, 'task')}."
    )


def _metrics(verdict: Verdict) -> list[str]:
    lines = [
        "| metric | baseline | candidate | change | bounds | tolerance | p | verdict |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for m in verdict.metrics:
        strength = f" ({m.strength})" if m.strength else ""
        advisory = "" if m.is_gated else ", advisory"
        why = "; ".join(filter(None, (m.reason, m.advice)))
        cells = [
            m.name,
            value_text(m, m.baseline),
            value_text(m, m.candidate),
            change_text(m, m.change),
            bounds_text(m),
            tolerance_text(m),
            p_text(m.p_worse).removeprefix("p ").removeprefix("= "),
        ]
        decision = f"{_MARKS[m.decision]} **{m.decision}**{strength}{advisory}"
        row = " | ".join(escape_markdown(cell) for cell in cells)
        lines.append(f"| {row} | {decision}: {escape_markdown(why)} |")
    return lines


def _tasks(verdict: Verdict) -> list[str]:
    if not verdict.tasks:
        return []
    worst = next(m for m in verdict.metrics if m.name == verdict.worst_metric)
    lines = [
        "",
        f"Tasks that moved {escape_markdown(worst.name)}:",
        "",
        "| suite | task | runs | baseline | candidate | share |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for task in verdict.tasks[:SHOWN]:
        cells = [
            task.suite,
            task.task_id,
            f"{task.baseline_runs} / {task.candidate_runs}",
            value_text(worst, task.baseline),
            value_text(worst, task.candidate),
            f"{task.share * 100 + 0.0:.0f} %",
        ]
        lines.append(f"| {' | '.join(escape_markdown(cell) for cell in cells)} |")
    return lines


def _lists(verdict: Verdict) -> list[str]:
    lists = (
        ("Notes", list(verdict.notes)),
        ("Tasks not compared", [_text(t.suite, t.task_id, t.why) for t in verdict.lost_tasks]),
        ("Runs not compared", [f"{r.run_id} ({r.side}): {r.why}" for r in verdict.skipped_runs]),
        (
            "Spikes",
            [f"{s.run_id}: {counted(s.tool_calls, 'tool call')}" for s in verdict.spikes],
        ),
    )
    lines: list[str] = []
    for title, items in lists:
        if items:
            lines += ["", f"**{title}**", ""]
            lines += [f"- {escape_markdown(item, starts_line=True)}" for item in items[:SHOWN]]
            if len(items) > SHOWN:
                lines.append(f"- and {len(items) - SHOWN:,} more")
    return lines


def _text(suite: str, task_id: str, why: str) -> str:
    return f"{suite}/{task_id}: {why}" if suite else f"{task_id or 'no task'}: {why}"
