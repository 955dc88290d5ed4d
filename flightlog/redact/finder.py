r"""Finds secrets and personal values in a text: one linear search, then a look at each candidate.

The same search says of an encoded event whether it can hold anything at all. So every head
must match in a text and in its JSON encoding alike: what stands before a value may be an
escape such as `\n`, a quote may have any number of backslashes, and no head needs a sign that
JSON escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

from flightlog.redact import checks, patterns, private_keys
from flightlog.redact.escapes import behind_escape, is_word, number_quote
from flightlog.redact.finds import UNSHAPED, Find, Work
from flightlog.redact.key_names import KeyNames
from flightlog.redact.linear import linear
from flightlog.redact.named import LIST, RULE, NamedValues
from flightlog.redact.private_keys import PRIVATE_KEYS
from flightlog.redact.pseudonyms import PSEUDONYM
from flightlog.redact.shapes import Pattern

BEARER: Final = "bearer"
COMMANDS: Final = "command"
URLS: Final = "url"
SIGNATURES: Final = "signature"
KINDS: Final = tuple(
    sorted(
        {
            *(one.kind for one in patterns.SECRETS),
            *(
                patterns.CARDS,
                patterns.IBANS,
                patterns.JWT,
                BEARER,
                COMMANDS,
                URLS,
                PRIVATE_KEYS,
                SIGNATURES,
            ),
            RULE,
        }
    )
)
"""What is looked for unless it is turned off, by name."""

_BEFORE: Final = rb"(?:^|[^0-9A-Za-z_.]|\\[nrtbf]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}|(?:^|[^0-9])\.)"
_LOCAL_BEFORE: Final = re.compile(rb"[A-Za-z0-9._%+-]{0,64}\Z")
_NEGATIVE: Final = re.compile(rb"(?:[:,\[][ \t]*|\A)-\Z")
_SHAPE: Final = "shape"
_DISGUISE: Final = "disguise"
_MOST_OF_KIND: Final = 4096
_FIRST_BYTES: Final = 512
_ZEROS: Final = re.compile(rb"\.0{1,2}(?![0-9A-Za-z_.])")
_Handler = Callable[[bytes, int, int, Work], Find | None]


class Finder:
    """Finds what a policy asks for.

    Args:
        off: names of what is left alone, out of `KINDS`.
        emails, phones: look for these too.
        key_names: names that are secret beside the built-in ones.
        ignored_names: names that are not.
    """

    def __init__(
        self,
        *,
        off: Collection[str] = (),
        emails: bool = False,
        phones: bool = False,
        key_names: Collection[str] = (),
        ignored_names: Collection[str] = (),
    ) -> None:
        self.named = NamedValues(KeyNames(key_names, ignored_names), key_names, self.kind_of)
        heads: dict[str, bytes] = {}
        self._handlers: dict[str, _Handler] = {}
        for number, one in enumerate(patterns.SECRETS):
            if one.kind not in off:
                heads[f"{_SHAPE}{number}"] = one.head
                self._handlers[f"{_SHAPE}{number}"] = _shaped(one)
        behind_sign: tuple[tuple[str, bytes, _Handler], ...] = (
            (patterns.CARDS, patterns.CARD_HEAD, _card),
            (patterns.IBANS, patterns.IBAN_HEAD, _iban),
            (patterns.JWT, patterns.JWT_HEAD, self._jwt),
            (BEARER, patterns.AUTH_HEAD, self._auth),
            (COMMANDS, patterns.COMMAND_HEAD, self._command),
            (patterns.PHONES, patterns.PHONE_HEAD, _phone),
            (f"{RULE}_flag", self.named.flag_head, self.named.after_flag),
        )
        anywhere: tuple[tuple[str, bytes, _Handler], ...] = (
            (URLS, patterns.URL_HEAD, self._url),
            (PRIVATE_KEYS, patterns.PEM_HEAD, private_keys.pem),
            (f"{PRIVATE_KEYS}_tail", patterns.PEM_TAIL_HEAD, private_keys.pem_tail),
            (f"{PRIVATE_KEYS}_jwk", patterns.JWK_HEAD, private_keys.jwk),
            (f"{RULE}_input", patterns.INPUT_HEAD, self.named.after_input),
            (SIGNATURES, patterns.SIGNATURE_HEAD, _signature),
            (_DISGUISE, patterns.DISGUISE_HEAD, _nothing),
            (patterns.EMAILS, patterns.EMAIL_HEAD, _email),
            (RULE, self.named.head, self.named.after_name),
        )
        left_out = {*off, *(() if emails else (patterns.EMAILS,))}
        left_out |= {*(() if phones else (patterns.PHONES,))}
        if RULE in off:
            left_out |= {f"{RULE}_flag", f"{RULE}_input"}
        if PRIVATE_KEYS in off:
            left_out |= {f"{PRIVATE_KEYS}_tail", f"{PRIVATE_KEYS}_jwk"}
        heads |= {name: head for name, head, _ in behind_sign if name not in left_out}
        free = {name: head for name, head, _ in anywhere if name not in left_out}
        self._handlers |= {name: handler for name, _, handler in (*behind_sign, *anywhere)}
        self._search = linear(_alternatives(heads, free, is_named=False)).search
        # Only used on what the search found, which is short. Shapes are many, so they are told
        # apart in a second step.
        shapes = {name: heads.pop(name) for name in tuple(heads) if name.startswith(_SHAPE)}
        self._which_else = re.compile(_alternatives(heads, free, is_named=True)).match
        if shapes:
            heads = {_SHAPE: b"|".join(shapes.values()), **heads}
        self._which = re.compile(_alternatives(heads, free, is_named=True)).match
        self._which_shape = re.compile(_alternatives({}, shapes, is_named=True)).match

    def may_hold(self, data: bytes) -> bool:
        """False when nothing can be found in the bytes, which may also be encoded as JSON."""
        return self._search(data) is not None

    def finds(self, data: bytes, work: Work) -> Iterator[Find]:
        """What is to be replaced, from left to right, without overlap.

        Raises:
            SlowError: there is more than `work` allows.
        """
        search, tell = self._search, self._which
        at = end = 0
        while (found := search(data, at)) is not None:
            start, stop = found.span()
            work.candidate()
            which = tell(data, start, stop)
            group = which.lastgroup if which else None
            if which is None or group is None:
                at = start + 1
                continue
            begin = which.start(group)
            find = None
            if group == _SHAPE:
                find = self._of_shape(data, begin, stop, work)
                which = self._which_else(data, start) if find is None else None
                group = which.lastgroup if which else None
            if which is not None and group is not None:
                begin = which.start(group)
                find = self._handlers[group](data, begin, which.end(group), work)
            if find is not None and find.start >= end:
                yield find
                end = find.end
                at = end - 1  # its last sign may be what stands before the next one
            else:
                at = max(begin + 1, end)

    def _of_shape(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        which = self._which_shape(data, begin, stop)
        if which is None or which.lastgroup is None:
            return None
        return self._handlers[which.lastgroup](data, begin, which.end(), work)

    def kind_of(self, value: bytes, work: Work) -> tuple[str, bytes]:
        """Kind and canonical form of a value that a name told; `secret` where it has no shape.

        So that a token has one pseudonym, whether its name or its shape told it.
        """
        if len(value) <= _MOST_OF_KIND and self.may_hold(value):
            for find in self.finds(value, work):
                if find.start == 0 and find.end == len(value) and find.rule != RULE:
                    return find.kind, find.value
                break
        return UNSHAPED, value

    def _auth(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        start = stop - 8
        word = data[begin : begin + 6].lower()
        is_basic = word.startswith((b"basic", b"auth", b"_auth"))
        found = (patterns.BASIC_VALUE if is_basic else patterns.AUTH_VALUE).match(data, start)
        end = found.end() if found else stop
        work.spend(end - begin)
        value = data[start:end].rstrip(b".\\")
        if not (checks.is_basic(value) if is_basic else checks.looks_random(value)):
            return None
        kind, canonical = self.kind_of(value.replace(b"\\", b""), work)
        return Find(start, start + len(value), kind, canonical, b"", BEARER, begin)

    def _command(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        """The password of a command: `curl -u user:password`, `sshpass -p password`."""
        found = patterns.COMMAND_VALUE.match(data, stop - 1)
        if found is None:
            return None
        work.spend(found.end() - begin)
        value = found[0]
        is_sure = data[begin : begin + 1] == b"s" or b"curl" in data[max(0, begin - 256) : begin]
        if value.isdigit() or not (is_sure or checks.looks_random(value)):
            return None
        if PSEUDONYM.match(value) or value.startswith((b"$", b"<", b"{")):
            return None
        start, end = found.span()
        return Find(start, end, *self.kind_of(value, work), b"", COMMANDS, begin)

    def _url(self, data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        found = patterns.URL_VALUE.match(data, begin, stop)
        if found is None:
            token = patterns.URL_TOKEN.search(data, begin, stop)
            if token is None or not checks.is_random_key(token[0]):
                return None
            return Find(*token.span(), *self.kind_of(token[0], work), b"", URLS, begin)
        start, end = found.span(1)
        while (more := patterns.URL_MORE.match(data, end + 1)) is not None:
            end = more.end()  # a password with an @ in it
        value = data[start:end]
        return Find(start, end, *self.kind_of(value, work), b"", URLS, begin)

    def _jwt(self, data: bytes, begin: int, _stop: int, work: Work) -> Find | None:
        found = patterns.JWT_VALUE.match(data, begin)
        work.spend(found.end() - begin if found else 8192)
        value = found[0].rstrip(b".") if found else b""
        if not checks.is_jwt_header(value):
            return self._json_in_base64(data, begin, work)
        return Find(begin, begin + len(value), patterns.JWT, value, b"", patterns.JWT, begin)

    def _json_in_base64(self, data: bytes, begin: int, work: Work) -> Find | None:
        """JSON in Base64 as a whole, when a secret is found in it."""
        found = patterns.BASE64_JSON.match(data, begin)
        if found is None:
            return None
        work.spend(2 * len(found[0]))
        decoded = checks.from_base64(found[0])
        if decoded is None or not self.may_hold(decoded):
            return None
        if not any(one.rule != LIST for one in self.finds(decoded, work)):
            return None
        start, end = found.span()
        return Find(start, end, UNSHAPED, found[0].rstrip(b"="), b"", patterns.JWT, begin)


def _alternatives(heads: dict[str, bytes], free: dict[str, bytes], *, is_named: bool) -> bytes:
    def one(name: str, head: bytes) -> bytes:
        return b"(?P<%s>%s)" % (name.encode(), head) if is_named else head

    parts = [one(name, head) for name, head in free.items()]
    if heads:
        behind = b"|".join(one(name, head) for name, head in heads.items())
        parts.append(rb"%s(?:%s)" % (_BEFORE, behind))
    return b"|".join(parts) or rb"[^\x00-\xff]"


def _shaped(shape: Pattern) -> _Handler:
    tail = re.compile(shape.tail)

    def find(data: bytes, begin: int, stop: int, work: Work) -> Find | None:
        # A look at the beginning first, so that what is none costs the same however long it is.
        more = tail.match(data, stop, stop + _FIRST_BYTES)
        end = _before_dots(data, stop, more.end() if more else stop)
        work.spend(end - stop)
        length = end - begin
        if length < shape.min_bytes or (shape.max_bytes is not None and length > shape.max_bytes):
            return None
        if shape.check is not None and not shape.check(data[begin:end]):
            return None
        if length >= _FIRST_BYTES and (more := tail.match(data, stop)) is not None:
            end = _before_dots(data, stop, more.end())
            work.spend(end - stop)
        value = data[begin:end]
        return Find(begin, end, shape.kind, value, b"", shape.kind, begin)

    return find


def _signature(data: bytes, begin: int, stop: int, work: Work) -> Find | None:
    """The signature of a URL, which lets anybody in who has it."""
    found = patterns.SIGNATURE_VALUE.match(data, stop - 8)
    if found is None:
        return None
    work.spend(found.end() - begin)
    start, end = found.span()
    return Find(start, end, UNSHAPED, found[0], b"", SIGNATURES, begin)


def _before_dots(data: bytes, start: int, end: int) -> int:
    """The end of a value without the dots and dashes of the sentence that it stands in."""
    while end > start and data[end - 1] in b".-":
        end -= 1
    return end


def _card(data: bytes, begin: int, _stop: int, work: Work) -> Find | None:
    found = patterns.CARD_DIGITS.match(data, begin) or patterns.CARD_VALUE.match(data, begin)
    if found is None or _NEGATIVE.search(data[max(0, begin - 16) : begin]):
        return None
    work.spend(found.end() - begin)
    value = found[0]
    cuts = [one.start() for one in checks.SEPARATORS.finditer(value)]
    while not (checks.is_card(value) and _ends_number(data, begin + len(value))):
        # The groups behind it may be something else: an expiry date, the next number.
        if not cuts or cuts[-1] < 12:
            return None
        value = value[: cuts.pop()]
    end = begin + len(value)
    digits = checks.digits_of(value)
    if len(digits) == len(value) and (zeros := _ZEROS.match(data, end)):
        end = zeros.end()  # a column of numbers with gaps holds fractions
    quote = number_quote(data, begin, end) if len(digits) == len(value) else b""
    return Find(begin, end, patterns.CARDS, digits, quote, patterns.CARDS, begin)


def _ends_number(data: bytes, end: int) -> bool:
    follows = data[end : end + 2]
    if is_word(follows[:1]):
        return False
    return not (follows[:1] == b"." and follows[1:].isdigit()) or bool(_ZEROS.match(data, end))


def _iban(data: bytes, begin: int, _stop: int, work: Work) -> Find | None:
    found = patterns.IBAN_VALUE.match(data, begin)
    if found is None:
        return None
    work.spend(found.end() - begin)
    value = found[0]
    cuts = [one.start() for one in checks.SEPARATORS.finditer(value)]
    while True:
        plain = checks.iban_of(value)
        if plain is not None and not is_word(data[begin + len(value) :][:1]):
            break
        if not cuts or cuts[-1] < 14:
            return None
        value = value[: cuts.pop()]
    return Find(begin, begin + len(value), patterns.IBANS, plain, b"", patterns.IBANS, begin)


def _phone(data: bytes, begin: int, _stop: int, work: Work) -> Find | None:
    found = patterns.PHONE_VALUE.match(data, begin)
    if found is None:
        return None
    work.spend(found.end() - begin)
    digits = checks.digits_of(found[0])
    if not 9 <= len(digits) <= 15 or not _ends_number(data, found.end()):
        return None
    value = (b"+" if found[0].startswith(b"+") else b"") + digits
    return Find(begin, found.end(), patterns.PHONES, value, b"", patterns.PHONES, begin)


def _email(data: bytes, begin: int, stop: int, work: Work) -> Find | None:
    before = _LOCAL_BEFORE.search(data[max(0, begin - 64) : begin])
    start = behind_escape(data, begin - len(before[0]) if before else begin, begin)
    is_plain = data[begin + 1 : begin + 2] == b"@"
    domain = begin + (2 if is_plain else 4)
    found = patterns.EMAIL_DOMAIN.match(data, domain)
    work.spend(stop - start)
    if found is None:
        return None
    value = data[start : begin + 1].lower() + b"@" + found[0].lower()
    return Find(start, found.end(), patterns.EMAILS, value, b"", patterns.EMAILS, start)


def _nothing(_data: bytes, _begin: int, _stop: int, _work: Work) -> None:
    """For what is undone before a search: see `flightlog.redact.disguises`."""
