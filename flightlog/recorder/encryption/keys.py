"""The keys of encrypted stores: their text, and where they come from.

A key never stands in an argument, a store, a trace or an error; a store and its files
name it by its id, which tells nothing about it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flightlog.errors import StoreKeyError

KEY_FILE_VARIABLE: Final = "FLIGHTLOG_STORE_KEY_FILE"
KEY_VARIABLE: Final = "FLIGHTLOG_STORE_KEY"
KEY_PREFIX: Final = "flightlog-key-"
KEY_BYTES: Final = 32

_KEY: Final = re.compile(re.escape(KEY_PREFIX) + r"([A-Za-z0-9_-]{43})", re.ASCII)
_LONGEST_FILE: Final = 1 << 16
_ID_DIGITS: Final = 16
_HOW: Final = "A key is one line, as `flightlog keygen` makes it."


@dataclass(frozen=True, slots=True, repr=False)
class StoreKey:
    """One key.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes

    def __repr__(self) -> str:
        return f"StoreKey(id={self.id!r})"

    @property
    def id(self) -> str:
        """What names the key in a store: 16 hex digits of a hash over it."""
        return hashlib.sha256(b"flightlog store key\0" + self.secret).hexdigest()[:_ID_DIGITS]

    @property
    def text(self) -> str:
        """The line of a key file."""
        return KEY_PREFIX + base64.urlsafe_b64encode(self.secret).decode().rstrip("=")

    def derived(self, purpose: bytes) -> bytes:
        """32 bytes for one purpose that tell nothing about the key or other purposes.

        Source: HKDF-Expand (RFC 5869), one block, over a uniformly random key.
        """
        return hmac.digest(self.secret, b"flightlog " + purpose + b"\x01", "sha256")

    def blob_name(self, digest: str) -> str:
        """The file name of the blob of this digest, which who lacks the key cannot guess."""
        name = hmac.digest(self.derived(b"blob names"), digest.encode(), "sha256")
        return name.hex()[: len(digest)]


@dataclass(frozen=True, slots=True)
class StoreKeys:
    """The keys that were given.

    Attributes:
        keys: at least one; the first is for writing.
    """

    keys: tuple[StoreKey, ...]

    def __iter__(self) -> Iterator[StoreKey]:
        return iter(self.keys)

    @property
    def first(self) -> StoreKey:
        return self.keys[0]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key.id for key in self.keys)

    def get(self, key_id: str) -> StoreKey | None:
        """The key of this id."""
        return next((key for key in self.keys if key.id == key_id), None)

    def led_by(self, key_id: str) -> StoreKeys:
        """The same keys, the one of this id first."""
        return StoreKeys(tuple(sorted(self.keys, key=lambda key: key.id != key_id)))


def new_key() -> StoreKey:
    """A key that nobody has."""
    return StoreKey(secrets.token_bytes(KEY_BYTES))


def given_keys(environment: Mapping[str, str] = os.environ) -> StoreKeys | None:
    """The keys that the environment names; None without one.

    Raises:
        StoreKeyError: the file cannot be read, or holds something else.
    """
    file, text = environment.get(KEY_FILE_VARIABLE), environment.get(KEY_VARIABLE)
    if file and text:
        raise StoreKeyError(
            f"both {KEY_FILE_VARIABLE} and {KEY_VARIABLE} are set",
            where="environment",
            hint="Keep one of them; a file may hold several keys.",
        )
    if file:
        return parse_keys(_content(Path(file)).splitlines(), where=file)
    return parse_keys(text.split(), where=KEY_VARIABLE) if text else None


def parse_keys(lines: Sequence[str], *, where: str) -> StoreKeys:
    """The keys of a file: one a line, the first for writing; # begins a comment.

    Raises:
        StoreKeyError: a line is no key, or there is none. The line is not shown.
    """
    found: dict[bytes, StoreKey] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _KEY.fullmatch(text)
        if match is None:
            raise StoreKeyError(f"line {number} is not a key", where=where, hint=_HOW)
        secret = base64.urlsafe_b64decode(match[1] + "=")
        found.setdefault(secret, StoreKey(secret))
    if not found:
        raise StoreKeyError("no key in it", where=where, hint=_HOW)
    return StoreKeys(tuple(found.values()))


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LONGEST_FILE + 1)
        if len(content) > _LONGEST_FILE:
            raise StoreKeyError("too long for a key file", where=str(path), hint=_HOW)
        text = content.decode("ascii")
    except OSError as error:
        raise StoreKeyError(
            f"cannot read the key file: {error.strerror or error}",
            where=str(path),
            hint=f"{KEY_FILE_VARIABLE} names a file that `flightlog keygen` wrote.",
        ) from error
    except UnicodeDecodeError:
        raise StoreKeyError("not a key file", where=str(path), hint=_HOW) from None
    if stat.S_ISREG(mode) and mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreKeyError(
            "others may write to the key file, so the key may be theirs",
            where=str(path),
            hint="chmod 600 the file, and make sure that the key is yours.",
        )
    return text
