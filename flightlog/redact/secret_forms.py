r"""The forms in which a secret text usually turns up in other text.

As it is; escaped for JSON (also JSON within JSON), Python literals, URLs and HTML; in
hexadecimal digits; in Base64, also as a part of a longer Base64 text.

A form has two steps, so that looking at a text that holds no secret costs next to
nothing: short texts of which one must occur, and the exact pattern behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

_NEVER_ESCAPED: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
)
_SHORT_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
_HTML_NAMES: Final = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_PERCENT: Final = "%(?:25){0,2}"  # a quoted text may be quoted again
_SLASHES: Final = r"\\{1,8}"  # one backslash becomes 2, 4 or 8 by JSON within JSON
_BREAK: Final = r"(?:\\{1,8}r\\{1,8}n|\\{1,8}n|\r?\n)?"
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHER_SPELLINGS: Final = {
    "+": r"[+\-]|%2[Bb]|\\{1,8}u002[bB]",
    "/": r"[/_]|%2[Ff]|\\{1,8}/|\\{1,8}u002[fF]",
}
_MOST_OF_NEEDLE: Final = 24

Kind = Literal["plain", "escaped", "hex", "base64"]


class Form:
    """One form of one secret.

    Attributes:
        kind: which encoding.
        needle: a part of the form that stands in every text that holds it.

    Neither this class nor its repr shows the secret to who prints it.
    """

    __slots__ = ("_compiled", "_pattern", "kind", "needle")

    def __init__(self, kind: Kind, needle: str, pattern: str) -> None:
        self.kind = kind
        self.needle = needle
        self._pattern = pattern
        self._compiled: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"Form({self.kind!r})"

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the form stands in the text, from left to right."""
        if self._compiled is None:
            self._compiled = re.compile(self._pattern)
        return (found.span() for found in self._compiled.finditer(text))


def forms_of(secret: str) -> list[Form]:
    """All forms of one secret text, the plain one first."""
    raw = secret.encode("utf-8")
    found = [Form("plain", secret, re.escape(secret))]
    if not _NEVER_ESCAPED.issuperset(secret):
        found.append(Form("escaped", _longest_run(secret, _NEVER_ESCAPED), _escaped(secret)))
    for digits in sorted({raw.hex(), raw.hex().upper()}):
        found.append(Form("hex", digits, digits))
    found += [_base64_form(raw, before) for before in range(3)]
    return found


def _longest_run(text: str, chars: Iterable[str]) -> str:
    """The longest stretch of the text that consists of the characters, cut to a few."""
    allowed = frozenset(chars)
    cut = "".join(char if char in allowed else "\0" for char in text)
    return max(cut.split("\0"), key=len)[:_MOST_OF_NEEDLE]


def _escaped(secret: str) -> str:
    r"""The pattern of a secret in which each character may be escaped.

    Backslashes and the escape that follows them are one atomic group: `\\\"` could be read
    in several ways that all end at the same place, which would take time without bound.
    """
    parts, at = [], 0
    while at < len(secret):
        slashes = len(secret) - at - len(secret[at:].lstrip("\\"))
        at += slashes
        char = secret[at] if at < len(secret) else None
        at += 1
        if slashes == 0 and char is not None:
            parts.append(_any_of(_spellings(char)))
            continue
        run = _any_of(
            [
                rf"\\{{{slashes},{8 * slashes}}}",
                rf"(?:{_PERCENT}5[Cc]){{{slashes}}}",
                rf"(?:{_SLASHES}u005[cC]){{{slashes}}}",
            ]
        )
        parts.append(f"(?>{run}{_any_of(_spellings(char)) if char is not None else ''})")
    return "".join(parts)


def _spellings(char: str) -> list[str]:
    """Patterns of one character that is not a backslash, the longer ones first."""
    if char in _NEVER_ESCAPED:
        return [re.escape(char)]
    raw, code = char.encode("utf-8"), ord(char)
    found = ["".join(_PERCENT + _hex_digits(f"{byte:02x}") for byte in raw)]
    found.append("".join(rf"{_SLASHES}x{_hex_digits(f'{byte:02x}')}" for byte in raw))
    units = char.encode("utf-16-be")
    pairs = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    found.append("".join(rf"{_SLASHES}u{_hex_digits(pair)}" for pair in pairs))
    found.append(rf"{_SLASHES}U{_hex_digits(f'{code:08x}')}")
    found.append(f"&#(?:0*{code}|[xX]0*{_hex_digits(f'{code:x}')});")
    if code <= 0xFF:
        found.append(rf"{_SLASHES}x{_hex_digits(f'{code:02x}')}")
    if char in _HTML_NAMES:
        found.append(f"&{_HTML_NAMES[char]};")
    if char in _SHORT_ESCAPES:
        found.append(_SLASHES + _SHORT_ESCAPES[char])
    if char == " ":
        found.append(rf"\+|{_PERCENT}2[Bb]")
    return [*found, rf"\\{{0,8}}{re.escape(char)}"]


def _base64_form(raw: bytes, before: int) -> Form:
    """Base64 of the bytes behind so many others (0 to 2, counted in groups of three).

    The characters at both ends also hold bits of what stands beside the secret, so
    there each character with the right bits counts.
    """
    bits = "".join(f"{byte:08b}" for byte in raw)
    first = (8 * before) % 6
    head, rest = (bits[: 6 - first], bits[6 - first :]) if first else ("", bits)
    tail = rest[len(rest) - len(rest) % 6 :]
    full = [int(rest[at : at + 6], 2) for at in range(0, len(rest) - len(tail), 6)]
    core = "".join(_BASE64[value] for value in full)
    parts = [re.escape(c) if c.isalnum() else _any_of([_OTHER_SPELLINGS[c]]) for c in core]
    if head:
        parts.insert(0, _sextet(value for value in range(64) if f"{value:06b}".endswith(head)))
    if tail:
        parts.append(_sextet(value for value in range(64) if f"{value:06b}".startswith(tail)))
    return Form("base64", _longest_run(core, _BASE64[:62]), _BREAK.join(parts))


def _sextet(values: Iterable[int]) -> str:
    """The pattern of one Base64 character out of several."""
    chars = [_BASE64[value] for value in values]
    plain = "".join(char for char in chars if char.isalnum())
    return _any_of([f"[{plain}]" if plain else "", *(_OTHER_SPELLINGS.get(c, "") for c in chars)])


def _hex_digits(digits: str) -> str:
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in digits)


def _any_of(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(pattern for pattern in patterns if pattern)})"
