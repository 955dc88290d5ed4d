"""What a GitHub Actions step says: annotations on the run, and its summary.

Source: GitHub's documentation, Workflow commands for GitHub Actions.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flightlog.analysis.gate.verdict import Decision, Verdict
from flightlog.analysis.reports.markdown import to_markdown
from flightlog.analysis.terminal import escape_terminal
from flightlog.analysis.wording import change_text, explained, tolerance_text
from flightlog.errors import StoreError

SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"
MOST_ANNOTATIONS: Final = 10
"""What GitHub shows of one step, of each kind."""
_KINDS: Final = {Decision.DRIFT: "error", Decision.INCONCLUSIVE: "warning"}


def annotation_lines(verdict: Verdict) -> list[str]:
    """Workflow commands: an error per gated drift, a warning per open metric and loosened check."""
    lines = []
    for metric in verdict.metrics:
        kind = _KINDS.get(metric.decision)
        if kind is None or not metric.is_gated:
            continue
        text = f"{change_text(metric, metric.change)}, tolerance {tolerance_text(metric)}"
        parts = [f"{metric.reason} ({text})", metric.advice, *explained(verdict, metric.name)]
        title = f"flightlog {metric.decision}: {metric.name}"
        lines.append(_command(kind, title, ". ".join(filter(None, parts))))
    lines += [_command("warning", "flightlog: loosened", text) for text in verdict.loosened]
    title = f"flightlog {verdict.decision}"
    lines.append(_command("notice", title, verdict.headline))
    kept: dict[str, int] = {}
    shown = []
    for line in lines:
        kind = line.split(" ", 1)[0]
        kept[kind] = kept.get(kind, 0) + 1
        if kept[kind] <= MOST_ANNOTATIONS:
            shown.append(line)
    return shown


def write_step_summary(verdict: Verdict) -> Path | None:
    """Appends the Markdown report to the summary of the step; None outside of a workflow.

    Raises:
        StoreError: the file cannot be written.
    """
    name = os.environ.get(SUMMARY_VARIABLE)
    if not name:
        return None
    path = Path(name)
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{to_markdown(verdict)}\n")
    except OSError as error:
        raise StoreError(
            f"the summary of the step cannot be written: {error.strerror}",
            where=str(path),
            hint=f"It is what {SUMMARY_VARIABLE} names.",
        ) from error
    return path


def _command(kind: str, title: str, text: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    """Text of a command: in one line, and never the start of another one."""
    plain = escape_terminal(text)
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
