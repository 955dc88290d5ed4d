"""Values that their names tell: `"password": "..."`, `API_KEY=...`, `Cookie: ...`, `--token ...`.

Also within JSON within JSON, where every quote has backslashes; in YAML, settings, headers,
query strings, XML and the arguments of commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

from flightlog.redact import checks, patterns
from flightlog.redact.escapes import (
    MAX_QUOTED,
    behind_escape,
    closing_quote,
    number_quote,
    unescaped,
)
from flightlog.redact.finds import UNSHAPED, Find, Work
from flightlog.redact.key_names import KeyNames, keyword_pattern, short_keyword_pattern
from flightlog.redact.pseudonyms import PSEUDONYM

RULE: Final = "key_names"
LIST: Final = "list"
"""Rule of a find of no length: a list under a secret name, whose items are to be looked at."""
MIN_DIGITS: Final = 3
KindOf = Callable[[bytes, Work], tuple[str, bytes]]

_WS: Final = rb"(?:[ \t\r\n]|\\{1,16}[nrt])"
_QUOTES: Final = rb"\\*[\"']"
_HOW: Final = {
    "field": _QUOTES + _WS + rb"{0,24}," + _WS + rb"{0,24}\\*[\"'](?i:value)\\*[\"'][ \t]{0,4}:",
    "pair": _QUOTES + rb"[ \t]{0,2}," + _WS + rb"{0,24}b?\\*[\"']",
    "attribute": rb"\\*[\"']" + _WS + rb"{1,4}(?:type=\\*[\"'][a-z]{1,16}\\*[\"'] )?value=",
    "part": _QUOTES + rb"(?:\r?\n|(?:\\{1,16}r)?\\{1,16}n){2}",
    "prose": rb" (?:is|was):? ",
    "literal": rb" \\*[\"']",
    "sign": (
        rb"(?:\\*[\"'`]|\*\*|%(?:25){0,2}2[27])?[ \t]{0,4}"
        rb"(?::=|=>?|:|>|%(?:25){0,2}3[AaDd]|\\{1,16}u003[aAdD]|\xef\xbc\x9a|\\{1,16}uff1a)"
    ),
}
"""How a value can follow its name: `{"name": "password", "value": "..."}`, `("password", "...")`,
`<add key="password" value="..."/>`, `form-data; name="password"`, `the password is ...`,
`WITH PASSWORD '...'`, and a sign between the two."""
_ASSIGN: Final = b"(?:%s)" % b"|".join(_HOW.values())
_HOW_END: Final = re.compile(
    b"(?:%s)\\Z" % b"|".join(b"(?P<%s>%s)" % (k.encode(), v) for k, v in _HOW.items())
)
_TAIL: Final = rb"[A-Za-z0-9_.-]{0,40}"
_BEFORE: Final = re.compile(rb"[A-Za-z0-9_.-]{0,64}\Z")
_SPACE: Final = re.compile(rb"(?:[ \t\r\n]|\\{1,16}[nrt](?=[ \t\\\"'])){0,64}")
_STRONG_SIGNS: Final = re.compile(rb"\*\*[ \t]*|<!\[CDATA\[|[bru](?=[\"'])")
_QUOTE: Final = re.compile(rb"(\\*)([\"'`])")
_PAIR_START: Final = re.compile(rb"(?:[\[(]\s{0,8}b?|--)\Z")
_PAIR_END: Final = re.compile(rb"\\*[\"'](?:\s|\\+[nrt]){0,16}[\])]")
_BLOCK: Final = re.compile(
    rb"[|>][+-]?[0-9]?[ \t]*((?:\r?\n|(?:\\{1,16}r)?\\{1,16}n)[ ]{1,16}[^\n\\]+){1,64}"
)
_BLOCK_START: Final = re.compile(rb"[|>][+-]?[0-9]?[ \t]*(?:\\+[rn]|[\r\n])+ +")
_PARTS: Final = re.compile(rb"[A-Za-z0-9-]{1,32}(?:=| [A-Za-z_-]{1,32}=)")
_NEXT_VALUE: Final = re.compile(rb"&|%(?:25)*26|\\+u0026")
_AFTER_TEXT: Final = re.compile(rb"[ \t\r\n]*(?:[:,;)}\]]|\Z)")
_BARE: Final = re.compile(rb"[^\x00-\x20,;&\"'`\\<>(){}\[\]|]+")
_LINE: Final = re.compile(rb"[^\x00-\x1f\"'`\\<>{}\[\]]+")
_SCHEME: Final = re.compile(rb"(?i:bearer|basic|token|apikey|digest|negotiate)(?:[ ]|%20|\+)+")
_NUMBER: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MOST_CUT_OFF: Final = 1024
_LONGEST_ERROR: Final = 400
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
        self.head = rb"(?:%s%s|%s)%s" % (keyword, _TAIL, short_keyword_pattern(), _ASSIGN)
        self.flag_head = rb"--[A-Za-z0-9_-]{0,32}" + keyword + rb"[A-Za-z0-9_-]{0,24} "
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
        sign = _HOW_END.search(head)
        how = (sign.lastgroup if sign else None) or "sign"
        name = head[: sign.start() if sign else len(head)].decode("ascii", "replace")
        if self._names.strength(name) is None:
            return None
        if how in ("pair", "literal"):
            return self._literal(data, name, first, stop, work, is_pair=how == "pair")
        space = _SPACE.match(data, stop)
        start = space.end() if space else stop
        more = _STRONG_SIGNS.match(data, start)
        start = more.end() if more else start
        work.spend(start - first)
        if how in ("part", "prose"):
            return self._bare(data, name, start, first, work, how=how)
        is_json = head.endswith(b":") and (b'"' in head or b"'" in head)
        return self._value(data, name, start, first, work, is_json=is_json)

    def _literal(
        self, data: bytes, name: str, first: int, stop: int, work: Work, *, is_pair: bool
    ) -> Find | None:
        """The quoted text behind a quoted name and a comma, or behind a name and a space."""
        opening = _QUOTE.match(data, _quote_start(data, stop, first))
        if opening is None:
            return None
        find = self._quoted(data, name, opening, first, work)
        if find is None or b" " in find.value or not checks.looks_random(find.value):
            return None
        if not is_pair:
            return find
        begin = first
        while begin > 0 and data[begin - 1] in b"\\\"'":
            begin -= 1
        is_flag = data[max(0, first - 2) : first] == b"--" or name.startswith("-")
        is_pair = bool(_PAIR_START.search(data[max(0, begin - 12) : begin]))
        is_pair = is_pair and bool(_PAIR_END.match(data, find.end))
        return find if is_flag or is_pair else None

    def after_flag(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        """The argument behind a flag such as `--password`."""
        name = data[begin + 2 : stop - 1].decode("ascii", "replace")
        if self._names.strength(name) is None or data[stop : stop + 1] == b"-":
            return None
        return self._value(data, name, stop, begin, work, is_json=False)

    def after_input(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        """The value in an error of pydantic, whose field stands in the line before."""
        before = data[max(0, begin - _LONGEST_ERROR) : begin]
        line = max(before.rfind(b"\n"), before.rfind(b"\\n"))
        field = patterns.INPUT_NAME.search(before[max(0, line - 97) : max(0, line)].rstrip(b"\\\r"))
        opening = _QUOTE.match(data, _quote_start(data, stop, begin))
        if field is None or opening is None:
            return None
        name = field[0].decode("ascii").rpartition(".")[2]
        if self._names.strength(name) is None:
            return None
        return self._quoted(data, name, opening, begin, work)

    def _value(
        self, data: bytes, name: str, start: int, first: int, work: Work, *, is_json: bool
    ) -> Find | None:
        opening = _QUOTE.match(data, start)
        if opening is not None:
            if not is_json and _AFTER_TEXT.match(data, opening.end()):
                return None  # the name was the end of a text, and this is its closing quote
            return self._quoted(data, name, opening, first, work)
        if is_json and data[start : start + 1] in (b"[", b"{"):
            if not self.is_secret_number(name):
                return None
            return Find(start, start, UNSHAPED, b"", b"", LIST, first)
        if is_json:
            return self._number(data, name, start, first, work)
        if _BLOCK_START.match(data, start):
            return self._block(data, name, start, first, work)
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

    def _block(self, data: bytes, name: str, start: int, first: int, work: Work) -> Find | None:
        """A block of YAML, to the end of its last line."""
        opening, block = _BLOCK_START.match(data, start), _BLOCK.match(data, start)
        if opening is None or block is None or _PEM in block[0]:
            return None
        begin, end = opening.end(), block.end()
        work.spend(end - start)
        while end > begin and data[end - 1] in b" \t\r\"'":
            end -= 1
        value = data[begin:end]
        if not self.is_secret(name, value):
            return None
        return Find(begin, end, *self._kind_of(value, work), b"", RULE, first)

    def _bare(
        self, data: bytes, name: str, start: int, first: int, work: Work, *, how: str = "sign"
    ) -> Find | None:
        head = data[first:start]
        is_part = how == "part"
        if not is_part and (b"\n" in head or b"\r" in head or data[start : start + 1] == b"="):
            return None
        scheme = _SCHEME.match(data, start)
        start = scheme.end() if scheme else start
        is_line = is_part or (
            b":" in head and _is_header(name, data, start, has_scheme=scheme is not None)
        )
        found = (_LINE if is_line else _BARE).match(data, start)
        if found is None:
            return None
        work.spend(found.end() - start)
        value = found[0].rstrip(b".:? *")
        if not is_line and (following := _NEXT_VALUE.search(value)) is not None:
            value = value[: following.start()]
        end = start + len(value)
        if value.startswith(_PEM):
            return None  # which ends elsewhere, and is found by its shape
        is_code = data[end : end + 1] in (b"(", b"[") and _NAME.fullmatch(value)
        if (is_code or _CODE.fullmatch(value)) and not is_line and scheme is None:
            return None  # a program that gets the value from somewhere
        if _VARIABLE.fullmatch(value) and self._names.strength(value.decode()) is not None:
            return None
        is_prose = how == "prose" or (not is_line and scheme is None and b":" in head)
        if is_prose and value.isalpha() and _SENTENCE.match(data, end):
            return None
        if value.startswith((b"http:", b"https:")):
            return None  # where to reset it, say
        if how == "prose" and not checks.looks_random(value):
            return None
        if not self.is_secret(name, value, is_prose=is_prose):
            return None
        return Find(start, end, *self._kind_of(value, work), b"", RULE, first)


def _quote_start(data: bytes, stop: int, least: int) -> int:
    """Where the quote begins that ends there, with the backslashes before it."""
    start = stop - 1
    while start > least and data[start - 1] == 92:
        start -= 1
    return start


def _is_header(name: str, data: bytes, start: int, *, has_scheme: bool) -> bool:
    """True where the whole line is the value: a cookie, or credentials of several parts."""
    if "cookie" in name.lower():
        return True
    if has_scheme and b"digest" not in data[start - 8 : start].lower():
        return False
    is_authorization = name.lower().endswith("authorization")
    return is_authorization and bool(_PARTS.match(data, start))
