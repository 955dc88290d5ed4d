"""Text of a trace made harmless for a terminal.

All text from a trace is hostile until it went through `escape_terminal`: a tool result may
hold terminal escape sequences, or characters that reorder the line it stands in.
"""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"
_JOINERS = "\u200c\u200d"
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escape_terminal(text: str, *, max_chars: int | None = None, keep_newlines: bool = False) -> str:
    r"""The text with everything visible that a terminal would obey or hide.

    Control characters (so ANSI sequences), bidirectional overrides, zero-width and
    private characters and lone surrogates become escapes such as `\x1b` and `\u202e`.
    The two joiners that scripts and emoji need stay.

    Args:
        text: any text of a trace.
        max_chars: cut the result to this many characters, the last one an ellipsis;
            None for no cut.
        keep_newlines: keep line feeds and tabs; else they are escaped too.
    """
    kept = "\n\t" if keep_newlines else ""
    if max_chars is not None:
        text = text[: max_chars + 1]
    safe = "".join(char if _is_plain(char, kept) else _escaped(char) for char in text)
    if max_chars is not None and len(safe) > max_chars:
        return safe[: max(0, max_chars - 1)] + ELLIPSIS
    return safe


def _is_plain(char: str, kept: str) -> bool:
    if " " <= char <= "~" or char in kept or char in _JOINERS:
        return True
    return unicodedata.category(char) not in _HIDDEN_CATEGORIES


def _escaped(char: str) -> str:
    code = ord(char)
    if char in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
