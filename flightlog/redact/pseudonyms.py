"""Pseudonyms: what stands in the place of a secret, equal for equal values.

`<card:3f9a51c07be2d4486d1e>` is the kind, 16 hex digits of the value's HMAC-SHA256 under the
project's key, and 4 that tell the key: two stores with the same key have the same pseudonyms,
and who lacks the key cannot guess the value by trying all card numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final, NoReturn

from flightlog.errors import ConfigError

MIN_KEY_BYTES: Final = 16
_VALUE_HEX: Final = 16
_KEY_HEX: Final = 4
_REMEMBERED: Final = 4096
PSEUDONYM: Final = re.compile(
    rb"<(?:[a-z][a-z0-9_]{0,31}:[0-9a-f]{20}|credential:[A-Za-z0-9_.-]{1,64})>"
)
"""A pseudonym, or the placeholder of a credential."""
_IN_TEXT: Final = re.compile(PSEUDONYM.pattern.decode())
_KEY_IDS: Final = re.compile(r"<[a-z][a-z0-9_]{0,31}:[0-9a-f]{16}([0-9a-f]{4})>")


class Pseudonyms:
    """Makes pseudonyms under one key.

    Args:
        key: at least 16 bytes, or what gives them when the first pseudonym is made; they are
            never shown.

    Raises:
        ConfigError: the key is shorter.
    """

    __slots__ = ("_derived", "_key", "_known")

    def __init__(self, key: bytes | Callable[[], bytes]) -> None:
        self._key = key
        self._known: dict[tuple[str, bytes], bytes] = {}
        self._derived = None if callable(key) else _derived(key)

    def __repr__(self) -> str:
        return "Pseudonyms(...)"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("Pseudonyms hold a key and are not pickled")

    @property
    def key_id(self) -> str:
        """4 hex digits that tell one key from another, at the end of each pseudonym."""
        return self._keys()[1]

    def of(self, kind: str, value: bytes) -> bytes:
        """The pseudonym of a value; ASCII, and harmless within JSON, URLs and prose."""
        known = self._known.get((kind, value))
        if known is not None:
            return known
        key, key_id = self._keys()
        digest = hmac.digest(key, b"value:" + value, hashlib.sha256).hex()[:_VALUE_HEX]
        made = f"<{kind}:{digest}{key_id}>".encode()
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        if len(value) <= _REMEMBERED:
            self._known[(kind, value)] = made
        return made

    def digest(self, digest: str) -> str:
        """What stands for a digest over a text that could be guessed; 32 hex digits."""
        raw = digest.encode("utf-8", "surrogatepass")
        return hmac.digest(self._keys()[0], b"digest:" + raw, hashlib.sha256).hex()[:32]

    def _keys(self) -> tuple[bytes, str]:
        derived = self._derived
        if derived is None:
            assert callable(self._key)
            derived = self._derived = _derived(self._key())
        return derived


def _derived(key: bytes) -> tuple[bytes, str]:
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(
            f"the redaction key has {len(key)} bytes",
            hint=f"Use at least {MIN_KEY_BYTES}, made by chance: "
            "python -c 'import secrets; print(secrets.token_hex(32))'",
        )
    # A key of its own, so that nothing else signed with the same one is a pseudonym.
    own = hmac.digest(key, b"flightlog pseudonyms", hashlib.sha256)
    return own, hmac.digest(own, b"id", hashlib.sha256).hex()[:_KEY_HEX]


def has_pseudonym(text: str) -> bool:
    """True when a pseudonym or the placeholder of a credential is in the text."""
    return _IN_TEXT.search(text) is not None


def key_ids(text: str) -> frozenset[str]:
    """The ids of the keys under which the pseudonyms in a text were made."""
    return frozenset(_KEY_IDS.findall(text))
