"""What a value of some shape must be, beyond its shape: checksums and small plausibilities."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

SEPARATOR: Final = (
    rb"(?: {1,2}|[+./_-]|%20|\xc2\xa0|\xe2\x80[\x87\x89\x90\x91\x93\xaf]"
    rb"|\\{1,16}u(?:00[aA]0|20(?:07|09|1[013]|2[fF])))"
)
"""What may stand between the groups of a number: no tab and no line break, which part columns."""
SEPARATORS: Final = re.compile(b"(%s)" % SEPARATOR)
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]))
_PLAIN: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_NO_DIGIT: Final = bytes(sorted(set(range(256)) - set(b"0123456789")))
_CARD_LENGTHS: Final = (
    (re.compile(rb"4"), (13, 16, 19)),
    (re.compile(rb"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(rb"3[47]"), (15,)),
    (re.compile(rb"6011|64[4-9]|65"), (16, 17, 18, 19)),
    (re.compile(rb"30[0-5]|3[689]"), (14, 16, 19)),
    (re.compile(rb"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),
    (re.compile(rb"62|81"), (16, 17, 18, 19)),
    (re.compile(rb"50|5[6-8]|6(?:304|7)"), (16, 18, 19)),
)
_GROUPINGS: Final = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (6, 13), (4, 4, 5)}
)
_IBAN_LENGTHS: Final = {
    b"AD": 24, b"AE": 23, b"AL": 28, b"AT": 20, b"AZ": 28, b"BA": 20, b"BE": 16, b"BG": 22,
    b"BH": 22, b"BI": 27, b"BR": 29, b"BY": 28, b"CH": 21, b"CR": 22, b"CY": 28, b"CZ": 24,
    b"DE": 22, b"DJ": 27, b"DK": 18, b"DO": 28, b"EE": 20, b"EG": 29, b"ES": 24, b"FI": 18,
    b"FK": 18, b"FO": 18, b"FR": 27, b"GB": 22, b"GE": 22, b"GI": 23, b"GL": 18, b"GR": 27,
    b"GT": 28, b"HN": 28, b"HR": 21, b"HU": 28, b"IE": 22, b"IL": 23, b"IQ": 23, b"IS": 26,
    b"IT": 27, b"JO": 30, b"KW": 30, b"KZ": 20, b"LB": 28, b"LC": 32, b"LI": 21, b"LT": 20,
    b"LU": 20, b"LV": 21, b"LY": 25, b"MC": 27, b"MD": 24, b"ME": 22, b"MK": 19, b"MN": 20,
    b"MR": 27, b"MT": 31, b"MU": 30, b"NI": 28, b"NL": 18, b"NO": 15, b"OM": 23, b"PK": 24,
    b"PL": 28, b"PS": 29, b"PT": 25, b"QA": 29, b"RO": 24, b"RS": 22, b"RU": 33, b"SA": 24,
    b"SC": 31, b"SD": 18, b"SE": 24, b"SI": 19, b"SK": 24, b"SM": 27, b"SO": 23, b"ST": 25,
    b"SV": 28, b"TL": 23, b"TN": 24, b"TR": 26, b"UA": 29, b"VA": 22, b"VG": 24, b"XK": 20,
    b"YE": 30,
}  # fmt: skip
"""Length by country, SWIFT IBAN registry, release 99."""


def digits_of(value: bytes) -> bytes:
    r"""The digits alone; a separator that is written `%20` or `\u00a0` has none."""
    if b"%" in value or b"\\" in value:
        value = SEPARATORS.sub(b"", value)
    return value.translate(None, _NO_DIGIT)


def passes_luhn(digits: bytes) -> bool:
    """True when the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    if not any(digits.translate(_PLAIN)):
        return False
    total = sum(digits[-1::-2].translate(_PLAIN)) + sum(digits[-2::-2].translate(_DOUBLED))
    return total % 10 == 0


def is_card(value: bytes) -> bool:
    """True for a payment card's number: issuer range, length, grouping and checksum."""
    digits = digits_of(value)
    if not passes_luhn(digits):
        return False
    if len(digits) != len(value):
        groups = SEPARATORS.split(value)
        if len(set(groups[1::2])) > 1 or tuple(map(len, groups[::2])) not in _GROUPINGS:
            return False
    return any(start.match(digits) and len(digits) in lengths for start, lengths in _CARD_LENGTHS)


def iban_of(value: bytes) -> bytes | None:
    """The international bank account number without separators; None where it is none.

    Country, length, grouping and checksum (mod 97) must be right. In small letters, what begins
    like hexadecimal digits must be digits to its end: spans and digests look so.
    """
    groups = SEPARATORS.split(value)
    if len(groups) > 1 and ({*map(len, groups[:-1:2])} != {4} or len({*groups[1::2]}) > 1):
        return None
    plain = b"".join(groups[::2])
    if plain[:1].islower() and not plain[:2].strip(b"abcdef") and not plain[2:].isdigit():
        return None
    plain = plain.upper()
    if _IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return None
    number = "".join(str(int(chr(sign), 36)) for sign in plain[4:] + plain[:4])
    return plain if int(number) % 97 == 1 else None


def is_random_key(value: bytes) -> bool:
    """True for a text with a part of at least 12 letters and digits that holds both."""
    parts = re.split(rb"[^A-Za-z0-9]", value)
    longest = max(parts, key=len)
    return len(longest) >= 12 and has_digit(longest)


def shows_an_end(value: bytes) -> bool:
    """True for a key that was masked but for its last signs, as some errors print it."""
    return value[-1:] not in b"*." and len(set(value)) > 4


def has_digit(value: bytes) -> bool:
    """True when a digit is in it."""
    return any(48 <= sign <= 57 for sign in value)


def looks_random(value: bytes) -> bool:
    """True for what nobody would take for a word: digits in it, or signs and cases mixed."""
    if len(value) < 6:
        return False
    if has_digit(value):
        return not value.isdigit() or len(value) >= 8
    if len(value) >= 20 and b" " not in value:
        return True
    mixed = not value.islower() and not value.isupper() and not value.istitle()
    return len(value) >= 8 and b" " not in value and mixed and not value.isalpha()


def is_basic(value: bytes) -> bool:
    """True for the Base64 of `user:password` (RFC 7617)."""
    plain = value.replace(b"\\", b"").replace(b"-", b"+").replace(b"_", b"/")
    try:
        decoded = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        user, colon, _ = decoded.decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    return bool(colon) and user.isprintable()


def from_base64(value: bytes) -> bytes | None:
    """What is in the Base64, of either alphabet; None where it is none."""
    plain = value.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def is_jwt_header(value: bytes) -> bool:
    """True when the first part decodes to a JSON object that names an algorithm (RFC 7519)."""
    first = value.partition(b".")[0]
    try:
        decoded = base64.urlsafe_b64decode(first + b"=" * (-len(first) % 4))
    except (binascii.Error, ValueError):
        return False
    return b'"alg"' in decoded or b'"typ"' in decoded or b'"kid"' in decoded or b'"enc"' in decoded
