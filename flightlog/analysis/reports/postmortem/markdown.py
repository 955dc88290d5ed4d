"""A postmortem as Markdown, for the ticket of the incident."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from flightlog.analysis.postmortem.found import Finding, Postmortem
from flightlog.analysis.reports.markdown import MOST_CHARS, escape_markdown
from flightlog.analysis.reports.postmortem import words
from flightlog.analysis.terminal import escape_terminal

_PLAIN: Final = re.compile(r"[\w .:/=+-]*")
"""Values that mean the same in a code block whatever shows it; of others JSON has the query."""
_CUT: Final = "\n\n_Cut here; `flightlog postmortem` shows the rest._\n"


def to_markdown(found: Postmortem) -> str:
    """The postmortem as GitHub-flavoured Markdown, at most `MOST_CHARS` long."""
    lines = [
        f"## Postmortem: {escape_markdown(words.headline(found))}",
        "",
        escape_markdown(words.looked_at(found), starts_line=True),
        "",
    ]
    for finding in found.findings:
        lines += _finding(found, finding)
    if found.load is not None:
        lines += ["", f"**Load.** {escape_markdown(words.load(found.load))}"]
    if found.money is not None:
        lines += ["", f"**Money.** {escape_markdown(words.money(found.money))}"]
    lines += ["", "<details><summary>What was checked</summary>", ""]
    lines += [f"- {escape_markdown(text)}" for text in (*found.checked, *found.notes)]
    lines += ["", "</details>", ""]
    text = "\n".join(lines)
    if len(text) <= MOST_CHARS:
        return text
    kept = text[: MOST_CHARS - len(_CUT)]
    return kept[: kept.rfind("\n")] + _CUT


def _finding(found: Postmortem, finding: Finding) -> Iterator[str]:
    indent = "   " * words.depth(found, finding)
    inner = indent + "   "
    yield f"{indent}{finding.number}. **{escape_markdown(finding.title)}**"
    details = [words.time_of(finding), *words.evidence_of(finding)]
    details += [f"just before: {text}" for text in finding.changes]
    if finding.numbers:
        details.append("; ".join(words.number(one) for one in finding.numbers))
    for text in details:
        yield f"{inner}- {escape_markdown(text, starts_line=True)}"
    for one in finding.remedies:
        yield f"{inner}- would have helped: {escape_markdown(words.remedy(one))}"
    if finding.caused_by is None and all(_PLAIN.fullmatch(part) for part in finding.shown_by):
        yield ""
        yield f"{inner}```sh"
        yield f"{inner}{escape_terminal(words.command(finding))}"
        yield f"{inner}```"
        yield ""
