"""The HTML pages: one static file each, no scripts, nothing loaded, all content escaped."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import jinja2

from flightlog._version import __version__
from flightlog.analysis.terminal import escape_terminal


def render_page(name: str, **values: object) -> str:
    """The page of `templates/<name>.html.j2`.

    Every text that a template shows is escaped for HTML, and what a terminal would obey is
    shown, not done.
    """
    return _environment().get_template(f"{name}.html.j2").render(version=__version__, **values)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_terminal(value) if type(value) is str else value,
    )


def _source(name: str) -> str:
    folder = resources.files("flightlog.analysis.reports").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")
