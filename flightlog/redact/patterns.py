"""The shapes of secrets and personal values: one table, in linear RE2 syntax.

A shape has a head, which is what the search looks for, and a tail: the characters that
belong to the value from there on. Heads are bounded in length, so that a search never looks
far ahead to learn that a value does not come to its end: that is what keeps many searches in
one text linear together. Length and checksum are looked at after the search.

Sources: the documentation of the providers; for lengths also the rules of gitleaks
(config/gitleaks.toml). Card ranges: ISO/IEC 7812 as the networks publish them. IBAN: ISO 13616.
"""

from __future__ import annotations

import re
from typing import Final

from flightlog.redact.developer_tokens import DEVELOPER_TOKENS
from flightlog.redact.service_tokens import SERVICE_TOKENS
from flightlog.redact.shapes import Pattern

CARDS: Final = "card"
IBANS: Final = "iban"
EMAILS: Final = "email"
PHONES: Final = "phone"
JWT: Final = "jwt"
PERSONAL: Final = frozenset({CARDS, IBANS, EMAILS, PHONES})
"""Kinds that belong to a person and can be part of an identifier; the others are secrets."""
SECRETS: Final[tuple[Pattern, ...]] = (*DEVELOPER_TOKENS, *SERVICE_TOKENS)

_SEPARATOR = rb"(?:[ +-]|%20|\xc2\xa0)?"
_CARD_START = rb"(?:[3-6][0-9]{3}|2[2-7][0-9]{2})"
_GROUPS = _SEPARATOR.join([b"", rb"[0-9]{4}", rb"[0-9]{4}", rb"[0-9]"])
_AMEX_GROUPS = _SEPARATOR.join([b"", rb"[0-9]{6}", rb"[0-9]{3}"])
CARD_HEAD: Final = rb"%s(?:%s|%s)" % (_CARD_START, _GROUPS, _AMEX_GROUPS)
CARD_DIGITS: Final = re.compile(rb"[0-9]{13,19}(?![0-9])")
CARD_VALUE: Final = re.compile(rb"[0-9](?:(?:[ +-]|%20|\xc2\xa0)?[0-9]){11,18}")
IBAN_HEAD: Final = rb"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}"
IBAN_VALUE: Final = re.compile(rb"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?")
EMAIL_HEAD: Final = rb"[A-Za-z0-9_%+-](?:@|%40)[A-Za-z0-9-]{1,63}\.[A-Za-z]"
EMAIL_DOMAIN: Final = re.compile(
    rb"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,6}\.[A-Za-z]{2,24}"
)
PHONE_HEAD: Final = rb"\+[1-9][0-9 ().-]{6}|\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}"
PHONE_VALUE: Final = re.compile(rb"\+?\(?[0-9](?:[ ().-]{0,3}[0-9]){8,14}")
JWT_HEAD: Final = rb"eyJ[A-Za-z0-9_-]{6}"
JWT_VALUE: Final = re.compile(
    rb"[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{10,16384}(?:\.[A-Za-z0-9_-]{0,8192}){0,3}"
)
PEM_HEAD: Final = (
    rb"-----BEGIN(?:[A-Z0-9 +]|%20){0,32}PRIVATE(?:[ +]|%20)KEY(?:[ +]BLOCK|%20BLOCK)?-----"
)
PEM_BODY: Final = re.compile(rb"(?:[A-Za-z0-9+/=\s\\:,.%]|-(?!-)){0,65536}")
PEM_END: Final = re.compile(rb"-----END[A-Z0-9 +%]{0,60}-----")
URL_HEAD: Final = (
    rb"(?::|%3[Aa])(?:\\*/\\*/|%2[Ff]%2[Ff])[^\x00-\x20/@:?#%\"'<>\\]{0,64}(?::|%3[Aa])"
    rb"[^\x00-\x20/@\"'<>\\]{1,100}(?:@|%40)"
)
URL_VALUE: Final = re.compile(
    rb"(?::|%3[Aa])[^:%]{0,80}(?:%2[Ff]%2[Ff][^:%]{0,80})?(?::|%3[Aa])(.{1,100}?)(?:@|%40)",
    re.DOTALL,
)
AUTH_HEAD: Final = rb"(?i:bearer|basic)(?: |%20|\+|\\{1,16}u0020){1,2}[A-Za-z0-9._~+/=-]{8}"
AUTH_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9._~+=]|-(?!--)|\\*/)+")
BASIC_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9+_]|-(?!--)|\\*/)+={0,2}")
