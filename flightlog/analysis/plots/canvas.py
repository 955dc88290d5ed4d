"""What all figures share: style, colours, axes, and how a figure becomes a file.

Drawn without a display and without matplotlib's global figures. Labels are trace content:
mathtext is off, control characters are escaped. The same runs give the same bytes, in PNG
and in SVG.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from flightlog.analysis.terminal import escape_terminal
from flightlog.errors import UsageError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's palette: told apart under every common colour vision deficiency."""

FORMATS: Final = (".png", ".svg")
HIT: Final = "#B00020"
INK: Final = "#222222"
FAINT: Final = "#8A8A8A"
SOFT: Final = "#5A5A5A"
GRID: Final = "#EDEDED"
HALO: Final = [withStroke(linewidth=2.5, foreground="white")]
_LABEL_CHARS: Final = 32
_TITLE_CHARS: Final = 60
_STYLE: Final[Any] = {
    "text.parse_math": False,
    "svg.hashsalt": "flightlog",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#C8C8C8",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def require_writable(out: Path) -> None:
    """Refuses a file that no figure can be written to, before anything is asked.

    Raises:
        UsageError: another ending than .png or .svg, or no folder for it.
    """
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"cannot plot to {out.name!r}", hint="name a .png or a .svg file")
    if not out.parent.is_dir():
        raise UsageError(f"folder {out.parent} does not exist", hint="create it first")


@contextmanager
def drawing() -> Iterator[None]:
    """Around everything that draws: our style, and no warnings about a font."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A label may hold characters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def save(figure: Figure, out: Path) -> None:
    """Writes a figure, without a date or a version in it."""
    is_svg = out.suffix.lower() == ".svg"
    metadata = {"Date": None} if is_svg else {"Software": None}
    figure.savefig(out, format=out.suffix[1:].lower(), dpi=150, metadata=metadata)


def time_axis(axes: Axes, *, has_date: bool = False) -> None:
    """Dates along x, as short as they can be told; `has_date`: the figure tells its days."""
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    # Seconds alone would read as plain numbers.
    formatter.formats[5], formatter.zero_formats[5] = "%H:%M:%S.%f", "%H:%M:%S"
    formatter.offset_formats[5] = "%Y-%b-%d"
    formatter.show_offset = not has_date
    axes.xaxis.set_major_formatter(formatter)


def title_text(text: str) -> str:
    """A title, short and harmless."""
    return escape_terminal(text, max_chars=_TITLE_CHARS)


def label_text(name: str, *, max_chars: int = _LABEL_CHARS) -> str:
    """A name of a trace as a label."""
    text = escape_terminal(name, max_chars=max_chars)
    # Matplotlib hides legend entries that start with an underscore.
    return f" {text}" if text.startswith("_") else text
