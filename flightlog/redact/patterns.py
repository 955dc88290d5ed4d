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

from flightlog.redact.checks import SEPARATOR
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

_SEPARATOR = SEPARATOR + b"?"
_CARD_START = rb"(?:[3-6][0-9]{3}|2[2-7][0-9]{2})"
_GROUPS = _SEPARATOR.join([b"", rb"[0-9]{4}", rb"[0-9]{4}", rb"[0-9]"])
_AMEX_GROUPS = _SEPARATOR.join([b"", rb"[0-9]{6}", rb"[0-9]{3}"])
CARD_HEAD: Final = rb"%s(?:%s|%s)" % (_CARD_START, _GROUPS, _AMEX_GROUPS)
CARD_DIGITS: Final = re.compile(rb"[0-9]{13,19}(?![0-9])")
CARD_VALUE: Final = re.compile(rb"[0-9](?:%s[0-9]){11,18}" % _SEPARATOR)
_COUNTRIES = (
    rb"a[lt]|b[gr]|c[hryz]|dk|es|f[ir]|g[bir]|h[ru]|i[elst]|l[itv]|m[ckt]|n[lo]|p[lt]|r[os]"
    rb"|s[aeikm]|tr|ua"
)
_IBAN_GROUP = _SEPARATOR + rb"[A-Z0-9]{4}"
IBAN_HEAD: Final = rb"(?:[A-Z]{2}[0-9]{2}%s|(?:%s)[0-9]{2}%s|(?:ad|ae|ba|be|de|ee)[0-9]{2}%s)" % (
    _IBAN_GROUP * 2,
    _COUNTRIES,
    _IBAN_GROUP.replace(b"A-Z", b"A-Za-z") * 2,
    _IBAN_GROUP.replace(b"A-Z", b"") * 2,
)
IBAN_VALUE: Final = re.compile(
    rb"[A-Za-z]{2}[0-9]{2}(?:%s[A-Za-z0-9]{4}){2,7}(?:%s[A-Za-z0-9]{1,3})?"
    % (_SEPARATOR, _SEPARATOR)
)
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
BASE64_JSON: Final = re.compile(rb"[A-Za-z0-9+/_-]{24,65536}={0,2}")
PEM_HEAD: Final = (
    rb"-{4,5} ?BEGIN(?:[A-Z0-9 +]|%20){0,32}PRIVATE(?:[ +]|%20)KEY(?:[ +]BLOCK|%20BLOCK)? ?-{4,5}"
)
PEM_BODY: Final = re.compile(rb"(?:[A-Za-z0-9+/=\s\\:,.%]|-(?!-)){0,65536}")
PEM_LINES: Final = re.compile(rb"(?:[A-Za-z0-9+/=\s\\,.%>|\"']|-(?!-)){0,16384}")
PEM_END: Final = re.compile(rb"-{4,5} ?END[A-Z0-9 +%]{0,60}-{4,5}")
PEM_TAIL_HEAD: Final = (
    rb"(?:[\r\n]|\\{1,16}n)-----END[A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    rb"|Private-Lines: [0-9]{1,3}"
)
KEY_LINES: Final = re.compile(
    rb"(?:(?:\\+r)?\\+n|\r?\n)((?:[A-Za-z0-9+/=]{4,80}(?:(?:\\+r)?\\+n|\r?\n|\Z)){1,200})"
)
JWK_HEAD: Final = (
    rb"\\*[\"'](?:d|k|p|q|dp|dq|qi)\\*[\"'][ \t]{0,4}:[ \t]{0,4}\\*[\"'][A-Za-z0-9_-]{22}"
)
JWK_VALUE: Final = re.compile(rb"[A-Za-z0-9_-]{22,1024}")
URL_HEAD: Final = (
    rb"(?::|%3[Aa])(?:\\*/\\*/|%2[Ff]%2[Ff])"
    rb"(?:[^\x00-\x20/@:?#%\"'<>\\]{0,64}(?::|%3[Aa])[^\x00-\x20/@\"'<>\\]{1,400}"
    rb"|[A-Za-z0-9_.~-]{20,200})(?:@|%40)"
)
URL_VALUE: Final = re.compile(
    rb"(?::|%3[Aa])[^:%]{0,80}(?:%2[Ff]%2[Ff][^:%]{0,80})?(?::|%3[Aa])(.{1,400}?)(?:@|%40)",
    re.DOTALL,
)
URL_TOKEN: Final = re.compile(rb"[A-Za-z0-9_.~-]{20,200}(?=(?:@|%40)\Z)")
URL_MORE: Final = re.compile(rb"[^\x00-\x20/?#\"'<>\\@]{1,100}(?=@)")
SIGNATURE_HEAD: Final = (
    rb"(?:[?&;]|%26|\\{1,16}u0026)(?:sig|X-(?:Amz|Goog)-Signature)(?:=|%3[Dd])[A-Za-z0-9%+/]{8}"
)
SIGNATURE_VALUE: Final = re.compile(rb"(?!(?:%26|&))(?:[A-Za-z0-9+/=]|%(?!26)){30,1024}")
AUTH_HEAD: Final = (
    rb"(?i:bearer|basic)(?:[ \t]|%20|\+|\\{1,16}(?:u0020|t)){1,2}[A-Za-z0-9._~+/=-]{8}"
    rb"|_?auth\\*[\"']?[ \t]{0,2}[:=][ \t]{0,2}\\*[\"']?[A-Za-z0-9+/_-]{8}"
)
AUTH_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9._~+=]|-(?!--)|\\*/)+")
BASIC_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9+_]|-(?!--)|\\*/)+={0,2}")
COMMAND_HEAD: Final = (
    rb"(?:-u|--user|--proxy-user)[ =]?\\*[\"']?[A-Za-z0-9._@+-]{1,64}:[^\x00-\x20\"'\\:/]"
    rb"|sshpass -p ?\\*[\"']?[^\x00-\x20\"'\\:/]"
)
COMMAND_VALUE: Final = re.compile(rb"[^\x00-\x20\"'\\:/]{1,128}")
INPUT_HEAD: Final = rb"\[type=[a-z_]{1,40}, input_value=b?\\*[\"']"
INPUT_NAME: Final = re.compile(rb"[A-Za-z0-9_.-]{1,96}\Z")
DISGUISE_HEAD: Final = (
    rb"[A-Za-z0-9](?:\xe2\x80[\x8b-\x8d]|\xef\xbb\xbf|\xc2\xad|\xe2\x81\xa0"
    rb"|\\{1,16}u(?:200[b-dB-D]|2060|00[aA][dD]|[fF][eE][fF][fF]))[A-Za-z0-9]"
    rb"|\\{1,16}u00(?:2[013-9A-Fa-f]|[346][0-9A-Fa-f]|5[0-9abd-fABD-F]|7[0-9A-Ea-e])"
)
