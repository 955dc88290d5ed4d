"""The verdict on a terminal, readable at 80 columns and without colour."""

from __future__ import annotations

import io
from typing import IO, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Verdict
from flightlog.analysis.tables import console
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

WIDTH: Final = 80
SHOWN: Final = 10
_STYLES: Final = {
    Decision.DRIFT: "bold red",
    Decision.INCONCLUSIVE: "yellow",
    Decision.UNAVAILABLE: "yellow",
    Decision.OK: "green",
    Decision.IMPROVED: "green",
}


def print_verdict(verdict: Verdict, *, brief: bool = False, file: IO[str] | None = None) -> None:
    """Prints the verdict, in colour where the terminal takes it.

    Args:
        verdict: what to print.
        brief: only the first sentence and the table of metrics.
        file: where to; stdout by default.
    """
    out = console(file=file)
    if out.is_terminal:
        _print(verdict, out, brief=brief)
    else:
        out.file.write(render_text(verdict, brief=brief))


def render_text(verdict: Verdict, *, width: int = WIDTH, brief: bool = False) -> str:
    """The verdict as plain text, `width` columns wide but for its first line, without colour."""
    out = io.StringIO()
    plain = Console(
        file=out,
        width=width,
        force_terminal=False,
        color_system=None,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    _print(verdict, plain, brief=brief)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _print(verdict: Verdict, out: Console, *, brief: bool) -> None:
    out.print(_headline(verdict), soft_wrap=True)
    out.print(_sides(verdict))
    out.print(Text(verified_text(verdict), style="dim"))
    out.print()
    if told := sequential_text(verdict):
        out.print(Text(escape_terminal(told), style="dim"))
        out.print()
    out.print(_metrics(verdict))
    if any(not metric.is_gated for metric in shown_metrics(verdict)):
        out.print(Text("lower case: advisory, not gated", style="dim"))
    if brief:
        return
    out.print()
    _print_details(verdict, out)
    if rows := reliability_rows(verdict):
        out.print()
        out.print(_reliability(rows))
    if verdict.worse_tasks:
        out.print()
        out.print(_tasks(verdict))
    for title, lines in _lists(verdict):
        out.print()
        out.print(Text(title, style="bold"))
        for line in lines[:SHOWN]:
            out.print(Padding(Text(escape_terminal(line)), (0, 0, 0, 2)))
        if len(lines) > SHOWN:
            out.print(Text(f"  and {len(lines) - SHOWN:,} more: write --json to see all"))
    out.print()
    out.print(Text(method_text(verdict), style="dim"))


def _print_details(verdict: Verdict, out: Console) -> None:
    """Why each metric that is not OK is not, and what explains it."""
    for metric in shown_metrics(verdict):
        if metric.decision is not Decision.OK:
            out.print(Padding(_detail(metric), (0, 0, 0, 2)))
            for text in explained(verdict, metric.name):
                out.print(Padding(Text(escape_terminal(text)), (0, 0, 0, 4)))
        if metric.name == "cost_usd" and metric.decision is not Decision.UNAVAILABLE:
            _print_parts(verdict, metric, out)


def _print_parts(verdict: Verdict, metric: MetricVerdict, out: Console) -> None:
    text = parts_text(verdict)
    if text:
        indent = 2 if metric.decision is Decision.OK else 4
        out.print(Padding(Text(text), (0, 0, 0, indent)))


def _reliability(rows: list[tuple[str, str, str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("over trials, 95 % intervals", no_wrap=True)
    for name in ("baseline", "candidate"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _headline(verdict: Verdict) -> Text:
    text = Text(escape_terminal(verdict.headline))
    text.stylize(_STYLES[verdict.decision], 0, len(verdict.decision))
    return text


def _sides(verdict: Verdict) -> Text:
    baseline, candidate = escape_terminal(verdict.baseline), escape_terminal(verdict.candidate)
    return Text(
        f"{candidate} ({counted(verdict.candidate_runs, 'run')}) against {baseline} "
        f"({counted(verdict.baseline_runs, 'run')}), {counted(verdict.task_count, 'task')}",
        style="dim",
    )


def _metrics(verdict: Verdict) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in ("baseline", "candidate", "change", "bounds"):
        table.add_column(name, justify="right")
    table.add_column("verdict", no_wrap=True)
    for m in shown_metrics(verdict):
        known = m.decision is not Decision.UNAVAILABLE
        numbers = (
            value_text(m, m.baseline),
            value_text(m, m.candidate),
            change_text(m, m.change),
            bounds_text(m).replace(" .. ", "..").removesuffix(" pts").removesuffix(" %"),
        )
        table.add_row(
            m.name,
            *(numbers if known else ("", "", "", "")),
            Text(m.decision if m.is_gated else m.decision.lower(), style=_STYLES[m.decision]),
        )
    return table


def _detail(metric: MetricVerdict) -> Text:
    """Why a metric is not OK, and what to do about it."""
    gate = "" if metric.is_gated else " (advisory)"
    strength = f" {metric.strength}" if metric.strength else ""
    parts = [f"{metric.decision}{strength}{gate}: {escape_terminal(metric.reason)}"]
    if metric.decision is not Decision.UNAVAILABLE:
        parts[0] += f", tolerance {tolerance_text(metric)}"
        if metric.decision is not Decision.IMPROVED:  # the p-value is of getting worse
            parts[0] += f", {p_text(metric.p_worse)}"
    if metric.advice:
        parts.append(metric.advice)
    text = Text(f"{metric.name}: {'; '.join(parts)}")
    text.stylize("bold", 0, len(metric.name))
    return text


def _tasks(verdict: Verdict) -> Table:
    worst = next(m for m in verdict.metrics if m.name == verdict.worst_metric)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        title=Text(f"Tasks that moved {worst.name}"),
        title_justify="left",
    )
    table.add_column("task", overflow="fold", max_width=32)
    for name in ("runs", "baseline", "candidate", "share of the rise"):
        table.add_column(
            name if worst.higher_is_worse else name.replace("rise", "fall"), justify="right"
        )
    for task in verdict.worse_tasks[:SHOWN]:
        table.add_row(
            Text(escape_terminal(_named(task.suite, task.task_id))),
            f"{task.baseline_runs} / {task.candidate_runs}",
            value_text(worst, task.baseline),
            value_text(worst, task.candidate),
            f"{task.share * 100 + 0.0:.0f} %",
        )
    return table


def _lists(verdict: Verdict) -> list[tuple[str, list[str]]]:
    """Everything that the reader must not miss, by title; empty lists left out."""
    lists = [
        ("Loosened since the baseline", list(verdict.loosened)),
        ("Notes", list(verdict.notes)),
        (
            "Tasks not compared",
            [
                f"{_named(t.suite, t.task_id)}: {t.why} ({counted(t.runs, 'run')})"
                for t in verdict.lost_tasks
            ],
        ),
        (
            "Runs not compared",
            [
                f"{r.run_id}: {r.why} ({r.side}, {_named(r.suite, r.task_id)})"
                for r in verdict.skipped_runs
            ],
        ),
        (
            "Spikes",
            [
                f"{s.run_id}: {counted(s.tool_calls, 'tool call')}, above {s.threshold:g} "
                f"({_named(s.suite, s.task_id)})"
                for s in verdict.spikes
            ],
        ),
    ]
    return [(title, lines) for title, lines in lists if lines]


def _named(suite: str, task_id: str) -> str:
    return f"{suite}/{task_id}" if suite else task_id or "no task"
