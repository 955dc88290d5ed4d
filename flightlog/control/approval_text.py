"""A write as a person sees it before saying yes or no."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

from flightlog.control.approval import WriteRequest
from flightlog.trace.terminal_text import escape_terminal

MAX_SHOWN_ARGS: Final = 50
_MAX_NAMED_CHARACTERS: Final = 6
_WIDTH: Final = 10

_BLANK = re.compile(
    "[\u00a0\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u202f\u205f"
    "\u2800\u3000\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that are drawn as nothing or as a space, which `escape_terminal` leaves."""


def write_lines(write: WriteRequest, *, max_chars: int | None) -> tuple[list[str], bool]:
    """What is asked for, harmless for a terminal, one fact per line.

    Args:
        max_chars: longest value of one argument; a longer one is cut, and its whole
            length told. None shows all.

    Returns:
        The lines, and whether anything was left out.
    """
    task = _known(write.task_id)
    if write.task_digest is not None:
        task += f" (digest {shown_text(write.task_digest)})"
    facts = [
        ("tool", f"{shown_text(write.tool)} ({write.effect.value})"),
        ("agent", _known(write.agent)),
        ("tenant", _known(write.tenant)),
        ("task", task),
        ("run", f"{shown_text(write.run_id)}, step {write.step}"),
        ("digest", shown_text(write.args_digest)),
    ]
    lines = [f"  {name:<{_WIDTH}}{text}" for name, text in facts]
    arguments, is_cut = _argument_lines(write, max_chars)
    lines += ["  arguments", *(f"    {line}" for line in arguments)]
    if unusual := _unusual_text(f"{write.tool}{write.args}"):
        lines.append(f"  {'note':<{_WIDTH}}{unusual}")
    return lines, is_cut


def shown_text(text: str) -> str:
    """The text with everything visible that a terminal would obey, hide or draw as blank."""
    return _BLANK.sub(_code, escape_terminal(text))


def _argument_lines(write: WriteRequest, max_chars: int | None) -> tuple[list[str], bool]:
    try:
        pairs = list(write.values.items())
        texts = [(_json(name), _json(value)) for name, value in pairs]
    except (ValueError, RecursionError):  # too deep for this stack: as it stands
        texts = [("(all)", write.args)]
    if not texts:
        return ["(none)"], False
    lines, is_cut = [], False
    shown = len(texts) if max_chars is None else MAX_SHOWN_ARGS
    for name, value in texts[:shown]:
        (name_text, cut_name), (value_text, cut_value) = (
            _cut(name, max_chars),
            _cut(value, max_chars),
        )
        lines.append(f"{name_text}: {value_text}")
        is_cut = is_cut or cut_name or cut_value
    if len(texts) > shown:
        lines.append(f"... and {len(texts) - shown} more arguments")
        is_cut = True
    return lines, is_cut


def _cut(text: str, max_chars: int | None) -> tuple[str, bool]:
    if max_chars is None or len(text) <= max_chars:
        return shown_text(text), False
    return f"{shown_text(text[:max_chars])}... (cut: {max_chars} of {len(text)} characters)", True


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _known(text: str | None) -> str:
    return "-" if text is None else shown_text(text)


def _unusual_text(text: str) -> str:
    """Names what looks like plain letters and is not; empty for plain ASCII."""
    found = sorted({char for char in text if char > "~"})
    if not found:
        return ""
    named = [
        f"U+{ord(char):04X} {unicodedata.name(char, 'without a name')}"
        for char in found[:_MAX_NAMED_CHARACTERS]
    ]
    more = len(found) - len(named)
    return f"not plain ASCII: {', '.join(named)}{f' and {more} more' if more else ''}"


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
