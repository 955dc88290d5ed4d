"""Reports of a postmortem: text, Markdown, JSON and HTML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flightlog.analysis.postmortem.found import Postmortem
from flightlog.analysis.reports.postmortem.html_page import to_html
from flightlog.analysis.reports.postmortem.json_ import to_json
from flightlog.analysis.reports.postmortem.markdown import to_markdown
from flightlog.analysis.reports.postmortem.text import to_text

WRITERS: Final[dict[str, Callable[[Postmortem], str]]] = {
    "text": to_text,
    "md": to_markdown,
    "json": to_json,
    "html": to_html,
}
"""Form -> what writes it."""

__all__ = ["WRITERS", "to_html", "to_json", "to_markdown", "to_text"]
