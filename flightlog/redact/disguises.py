"""Signs that hide a secret from a search and not from a reader, and how they are undone.

Signs of no width between letters, and escapes of JSON for letters that need none, which some
writers of JSON make: `password\\u003dhunter2`.
"""

from __future__ import annotations

import re
from typing import Final

_SIGN_OF_NO_WIDTH: Final = re.compile(
    rb"(?<=[A-Za-z0-9])(?:\xe2\x80[\x8b-\x8d]|\xef\xbb\xbf|\xc2\xad|\xe2\x81\xa0"
    rb"|\\{1,16}u(?:200[b-dB-D]|2060|00[aA][dD]|[fF][eE][fF][fF]))(?=[A-Za-z0-9])"
)
_ESCAPE: Final = re.compile(
    rb"\\{1,16}u00(2[013-9A-Fa-f]|[346][0-9A-Fa-f]|5[0-9abd-fABD-F]|7[0-9A-Ea-e])"
)


def undisguised(data: bytes) -> bytes:
    """The text without these; the same object where there are none.

    A quote and a backslash stay escaped, so that JSON stays JSON.
    """
    plain = _ESCAPE.sub(_sign_of, data) if b"u00" in data else data
    plain = _SIGN_OF_NO_WIDTH.sub(b"", plain)
    return data if plain == data else plain


def _sign_of(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))
