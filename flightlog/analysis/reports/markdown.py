"""The verdict as Markdown, for a comment under a pull request."""

from __future__ import annotations

import re

from flightlog.analysis.gate.verdict import Decision, Verdict
from flightlog.analysis.terminal import escape_terminal
from flightlog.analysis.wording import (
    bounds_text,
    change_text,
    counted,
    explained,
    method_text,
    p_text,
    parts_text,
    reliability_rows,
    sequential_text,
    shown_metrics,
    tolerance_text,
    value_text,
    verified_text,
)

SHOWN = 10
MOST_CHARS = 60_000
"""GitHub takes comments of 65,536 characters."""
MOST_CELL_CHARS = 600
MARKER = "<!-- flightlog verdict -->"
"""First line of the report: by it a comment is found again, to be updated in place."""
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
    plain = (
        escape_terminal(text, max_chars=MOST_CELL_CHARS)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    plain = _PUNCTUATION.sub(r"\\\1", plain.strip())
    if starts_line:
        plain = _BLOCK_START.sub(lambda found: _escaped_start(found[1]), plain)
    plain = plain.replace("@", "&#64;").replace("://", "&#58;//")
    return re.sub(r"(?i)(www)\.", r"\1&#46;", plain)


def _escaped_start(start: str) -> str:
    """The start of a list, heading or rule as plain text; a number keeps its digits."""
    return f"{start}\\" if start.isdigit() else f"\\{start}"


def to_markdown(verdict: Verdict) -> str:
    """The verdict as GitHub-flavoured Markdown, at most `MOST_CHARS` long.

    What does not fit is left out from the end, and the last line says so.
    """
    foot = ["", f"<sub>{escape_markdown(method_text(verdict))}</sub>", ""]
    head = [
        MARKER,
        f"### {_MARKS[verdict.decision]} {escape_markdown(verdict.headline)}",
        "",
        _sides(verdict),
        "",
        f"<sub>{escape_markdown(verified_text(verdict))}</sub>",
        "",
        *([escape_markdown(told), ""] if (told := sequential_text(verdict)) else []),
        *_metrics(verdict),
    ]
    rest = (_parts(verdict), _reliability(verdict), _tasks(verdict), _lists(verdict))
    lines, room = head, MOST_CHARS - len("\n".join([*head, *foot])) - 100
    for part in rest:
        room -= len("\n".join(part)) + 1
        if room < 0:
            lines.append("\nThe report is cut here; the other forms hold all of it.")
            break
        lines = [*lines, *part]
    return "\n".join([*lines, *foot])


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
    for m in shown_metrics(verdict):
        strength = f" ({m.strength})" if m.strength else ""
        advisory = "" if m.is_gated else ", advisory"
        why = "; ".join(filter(None, (m.reason, m.advice, *explained(verdict, m.name))))
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


def _parts(verdict: Verdict) -> list[str]:
    text = parts_text(verdict)
    return ["", escape_markdown(text)] if text else []


def _reliability(verdict: Verdict) -> list[str]:
    rows = reliability_rows(verdict)
    if not rows:
        return []
    head = ["", "| over trials, 95 % intervals | baseline | candidate |", "|---|--:|--:|"]
    return [*head, *(f"| {' | '.join(map(escape_markdown, row))} |" for row in rows)]


def _tasks(verdict: Verdict) -> list[str]:
    if not verdict.worse_tasks:
        return []
    worst = next(m for m in verdict.metrics if m.name == verdict.worst_metric)
    lines = [
        "",
        f"Tasks that moved {escape_markdown(worst.name)}:",
        "",
        "| suite | task | runs | baseline | candidate | share |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for task in verdict.worse_tasks[:SHOWN]:
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
        ("Loosened since the baseline", list(verdict.loosened)),
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
