"""Values that their names tell: `"password": "..."`, `API_KEY=...`, `Cookie: ...`, `--token ...`.

Also within JSON within JSON, where every quote has backslashes; in YAML, settings, headers,
query strings, XML and the arguments of commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

from flightlog.redact import checks
from flightlog.redact.escapes import (
    MAX_QUOTED,
    behind_escape,
    closing_quote,
    number_quote,
    unescaped,
)
from flightlog.redact.finds import UNSHAPED, Find, Work
from flightlog.redact.key_names import KeyNames, keyword_pattern
from flightlog.redact.pseudonyms import PSEUDONYM

RULE: Final = "key_names"
LIST: Final = "list"
"""Rule of a find of no length: a list under a secret name, whose items are to be looked at."""
MIN_DIGITS: Final = 3
KindOf = Callable[[bytes, Work], tuple[str, bytes]]

_ASSIGN: Final = rb"(?:\\*[\"']|%2[27])?[ \t]{0,4}(?:=>?|:|>|%3[AaDd])"
_TAIL: Final = rb"[A-Za-z0-9_.-]{0,40}"
_BEFORE: Final = re.compile(rb"[A-Za-z0-9_.-]{0,64}\Z")
_NAME_END: Final = re.compile(rb"\\*[\"'=:>%]|[ \t]*[=:]|[ \t]*\Z")
_SPACE: Final = re.compile(rb"(?:[ \t\r\n]|\\{1,16}[nrt](?=[ \t\\\"'])){0,64}")
_QUOTE: Final = re.compile(rb"(\\*)([\"'])")
_AFTER_TEXT: Final = re.compile(rb"[ \t\r\n]*(?:[:,;)}\]]|\Z)")
_BARE: Final = re.compile(rb"[^\x00-\x20,;&\"'`\\<>(){}\[\]|]+")
_LINE: Final = re.compile(rb"[^\x00-\x1f\"'`\\<>{}\[\]]+")
_SCHEME: Final = re.compile(rb"(?i:bearer|basic|token|apikey|digest|negotiate)(?:[ ]|%20|\+)+")
_NUMBER: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MOST_CUT_OFF: Final = 1024
_PEM: Final = b"-----BEGIN"
_NAME: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]*")
_CODE: Final = re.compile(rb"[A-Za-z_]+(?:\.[A-Za-z_]+)+")
_VARIABLE: Final = re.compile(rb"[A-Za-z_]+")
_CONSTANT: Final = re.compile(rb"[A-Z_-]+")
_KEY_END: Final = re.compile(r"(?:[A-Za-z0-9_.-]+ )?[A-Za-z0-9_.-]*\Z")
_SENTENCE: Final = re.compile(rb" [A-Za-z]")
_NO_VALUE: Final = re.compile(
    rb"(?i:string|str|text|bytes|int|integer|bool|boolean|number|object|array|none|null|nil"
    rb"|undefined|true|false|yes|no|on|off|required|optional|redacted|hidden|masked|secret"
    rb"|password|token|unset|empty|default|example|n/a|any|type)|[*x.\-_#]+"
    rb"|your[a-z _.-]*"
    rb"|\$\{?[A-Za-z_][A-Za-z0-9_.]*\}?|\{\{?[^{}]*\}?\}|%[A-Za-z_]+%|<[A-Za-z_ -]*>"
)


class NamedValues:
    """Finds the values of names that are secret.

    Attributes:
        head: RE2 of a name with the sign behind it, of bounded length.
        flag_head: the same for the argument of a command.

    Args:
        names: says which names are.
        more: names of one's own, which the search must look for too.
        kind_of: kind and canonical form of a value.
    """

    def __init__(self, names: KeyNames, more: Collection[str], kind_of: KindOf) -> None:
        keyword = keyword_pattern(more)
        self.head = keyword + _TAIL + _ASSIGN
        self.flag_head = rb"--[A-Za-z0-9-]{0,32}" + keyword + rb"[A-Za-z0-9-]{0,24} "
        self._names = names
        self._kind_of = kind_of

    def is_secret(self, name: str, value: bytes, *, is_prose: bool = False) -> bool:
        """True when a value under a name is secret.

        Args:
            name: any, also one that says nothing.
            value: the text of a value, without its quotes.
            is_prose: the name stands in running text, where `secret:` may be just a word.
        """
        strength = self._strength(name)
        if strength is None or not value.strip():
            return False
        if _NO_VALUE.fullmatch(value) or PSEUDONYM.fullmatch(value):
            return False
        if _CONSTANT.fullmatch(value) and self._names.strength(value.decode()) is not None:
            return False  # such as YOUR_API_KEY
        if strength == "weak" or (is_prose and "pass" not in name.lower()):
            return checks.looks_random(PSEUDONYM.sub(b"", value))
        return True

    def is_secret_number(self, name: str, digits: int = MIN_DIGITS) -> bool:
        """True when also a number of so many digits under the name is secret; a count is none."""
        return digits >= MIN_DIGITS and self._strength(name) == "strong"

    def _strength(self, name: str) -> str | None:
        found = _KEY_END.search(name)  # of a key that is a sentence only its last words count
        return self._names.strength(found[0] if found else name)

    def after_name(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        """The value behind a name and a sign, which the search found from `begin` to `stop`."""
        before = _BEFORE.search(data[max(0, begin - 64) : begin])
        first = behind_escape(data, begin - len(before[0]) if before else begin, begin)
        is_in_angles = data[first - 1 : first] == b"<"
        if is_in_angles and PSEUDONYM.match(data, first - 1):
            return None
        head = data[first:stop]
        if head.endswith(b">") and not head.endswith(b"=>") and not is_in_angles:
            return None
        name_end = _NAME_END.search(head)
        name = head[: name_end.start() if name_end else len(head)].decode("ascii", "replace")
        if self._names.strength(name) is None:
            return None
        space = _SPACE.match(data, stop)
        start = space.end() if space else stop
        work.spend(start - first)
        is_json = head.endswith(b":") and (b'"' in head or b"'" in head)
        return self._value(data, name, start, first, work, is_json=is_json)

    def after_flag(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        """The argument behind a flag such as `--password`."""
        name = data[begin + 2 : stop - 1].decode("ascii", "replace")
        if self._names.strength(name) is None or data[stop : stop + 1] == b"-":
            return None
        return self._value(data, name, stop, begin, work, is_json=False)

    def _value(
        self, data: bytes, name: str, start: int, first: int, work: Work, *, is_json: bool
    ) -> Find | None:
        opening = _QUOTE.match(data, start)
        if opening is not None:
            if not is_json and _AFTER_TEXT.match(data, opening.end()):
                return None  # the name was the end of a text, and this is its closing quote
            return self._quoted(data, name, opening, first, work)
        if is_json and data[start : start + 1] == b"[":
            if not self.is_secret_number(name):
                return None
            return Find(start, start, UNSHAPED, b"", b"", LIST, first)
        if is_json:
            return self._number(data, name, start, first, work)
        return self._bare(data, name, start, first, work)

    def _quoted(
        self, data: bytes, name: str, opening: re.Match[bytes], first: int, work: Work
    ) -> Find | None:
        start = opening.end()
        end = closing_quote(data, start, len(opening[1]), opening[2])
        if end is None and len(data) - start <= _MOST_CUT_OFF:
            end = len(data)  # a text that was cut off
        if end is None:
            work.spend(MAX_QUOTED)
            return None
        work.spend(end - start)
        scheme = _SCHEME.match(data, start, end)
        if scheme is not None:
            start = scheme.end()
        plain = unescaped(data[start:end], len(opening[1]))
        if not self.is_secret(name, plain):
            return None
        return Find(start, end, *self._kind_of(plain, work), b"", RULE, first)

    def _number(self, data: bytes, name: str, start: int, first: int, work: Work) -> Find | None:
        found = _NUMBER.match(data, start)
        if found is None or not self.is_secret_number(name, len(found[0])):
            return None
        quote = number_quote(data, start, found.end())
        if not quote:
            return None
        return Find(start, found.end(), *self._kind_of(found[0], work), quote, RULE, first)

    def _bare(self, data: bytes, name: str, start: int, first: int, work: Work) -> Find | None:
        head = data[first:start]
        if b"\n" in head or b"\r" in head or data[start : start + 1] == b"=":
            return None
        scheme = _SCHEME.match(data, start)
        start = scheme.end() if scheme else start
        is_line = "cookie" in name.lower() and b":" in head
        found = (_LINE if is_line else _BARE).match(data, start)
        if found is None:
            return None
        work.spend(found.end() - start)
        value = found[0].rstrip(b".:? ")
        end = start + len(value)
        if value.startswith(_PEM):
            return None  # which ends elsewhere, and is found by its shape
        is_code = data[end : end + 1] in (b"(", b"[") and _NAME.fullmatch(value)
        if (is_code or _CODE.fullmatch(value)) and not is_line and scheme is None:
            return None  # a program that gets the value from somewhere
        if _VARIABLE.fullmatch(value) and self._names.strength(value.decode()) is not None:
            return None
        is_prose = not is_line and scheme is None and b":" in head
        if is_prose and value.isalpha() and _SENTENCE.match(data, end):
            return None
        if value.startswith((b"http:", b"https:")):
            return None  # where to reset it, say
        if not self.is_secret(name, value, is_prose=is_prose):
            return None
        return Find(start, end, *self._kind_of(value, work), b"", RULE, first)
