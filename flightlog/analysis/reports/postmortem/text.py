"""A postmortem on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from flightlog.analysis.postmortem.found import Finding, Postmortem
from flightlog.analysis.reports.postmortem import words
from flightlog.analysis.terminal import escape_terminal

WIDTH: Final = 100
_MOST_CHARS: Final = 600
_INDENT: Final = "   "


def to_text(found: Postmortem, *, width: int = WIDTH) -> str:
    """The postmortem as plain text, `width` columns wide but for commands."""
    lines = [
        *_folded(f"postmortem: {words.headline(found)}", "", width),
        *_folded(words.looked_at(found), "", width),
    ]
    for finding in found.findings:
        lines += ["", *_finding(found, finding, width)]
    if found.load is not None:
        lines += ["", *_folded(f"load: {words.load(found.load)}", "", width, hang=6)]
    if found.money is not None:
        lines += _folded(f"money: {words.money(found.money)}", "", width, hang=7)
    lines.append("")
    for text in found.checked:
        lines += _folded(f"checked: {text}", "", width, hang=9)
    for text in found.notes:
        lines += _folded(f"note: {text}", "", width, hang=6)
    return "\n".join(lines) + "\n"


def _finding(found: Postmortem, finding: Finding, width: int) -> Iterator[str]:
    indent = _INDENT * words.depth(found, finding)
    inner = indent + _INDENT
    because = "" if finding.caused_by is None else f" (because of {finding.caused_by})"
    yield from _folded(
        f"{finding.number}. {words.kind(finding)}{because}: {finding.title}", indent, width, hang=3
    )
    yield from _folded(words.time_of(finding), inner, width)
    if finding.numbers:
        told = "; ".join(words.number(one) for one in finding.numbers)
        yield from _folded(told, inner, width)
    for text in words.evidence_of(finding):
        yield from _folded(text, inner, width)
    for text in finding.changes:
        yield from _folded(f"just before: {text}", inner, width)
    for one in finding.remedies:
        yield from _folded(f"would have helped: {words.remedy(one)}", inner, width, hang=3)
        for line in one.config.splitlines():
            yield f"{inner}      {escape_terminal(line, max_chars=_MOST_CHARS)}"
    if finding.caused_by is None:
        yield f"{inner}show it: {escape_terminal(words.command(finding))}"


def _folded(text: str, indent: str, width: int, *, hang: int = 0) -> list[str]:
    return textwrap.wrap(
        escape_terminal(text, max_chars=_MOST_CHARS),
        width=width,
        initial_indent=indent,
        subsequent_indent=indent + " " * hang,
        break_on_hyphens=False,
    )
