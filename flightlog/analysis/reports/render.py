"""Reports of a verdict: text, JSON, Markdown, HTML, JUnit and SARIF, from the same frozen result.

The same verdict gives the same bytes. Everything that comes from a trace or
from the user is escaped for the form that it goes into.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flightlog.analysis.gate.verdict import Verdict
from flightlog.analysis.reports.html_page import to_html
from flightlog.analysis.reports.json_ import to_json
from flightlog.analysis.reports.junit import to_junit
from flightlog.analysis.reports.markdown import to_markdown
from flightlog.analysis.reports.sarif import to_sarif
from flightlog.analysis.reports.text import print_verdict, render_text
from flightlog.analysis.reports.writing import write_text
from flightlog.errors import UnknownNameError

__all__ = [
    "FORMS",
    "print_verdict",
    "render",
    "render_text",
    "to_html",
    "to_json",
    "to_junit",
    "to_markdown",
    "to_sarif",
    "write_report",
]

FORMS: Final = ("text", "json", "md", "html", "junit", "sarif")


def render(verdict: Verdict, form: str, *, plot: Path | None = None) -> str:
    """The report in one form.

    Args:
        verdict: what to report.
        form: one of `FORMS`.
        plot: a PNG to embed; HTML only.

    Raises:
        UnknownNameError: `form` is not one of them.
    """
    if form == "html":
        return to_html(verdict, plot=plot)
    writers = {
        "text": render_text,
        "json": to_json,
        "md": to_markdown,
        "junit": to_junit,
        "sarif": to_sarif,
    }
    if form not in writers:
        raise UnknownNameError.of("report form", form, FORMS)
    return writers[form](verdict)


def write_report(
    verdict: Verdict, path: str | Path, *, form: str, plot: Path | None = None
) -> Path:
    """Writes the report and gives its path; folders are made as needed.

    Raises:
        UnknownNameError: `form` is not one of `FORMS`.
        StoreError: the file cannot be written.
    """
    path = Path(path)
    text = render(verdict, form, plot=plot)
    write_text(path, text)
    return path
