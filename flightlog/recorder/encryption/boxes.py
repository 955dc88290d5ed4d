"""Encrypted files other than segments: blobs, and what was put aside when it was sealed.

    box = "FLX1" || key id (8 bytes) || nonce (12) || AES-256-GCM ciphertext || tag (16)

The key is derived from the store's; what stands before the ciphertext and the name of
the file are authenticated with it, so that no box can stand in for another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from flightlog.config.regular_file import open_regular
from flightlog.errors import DamagedError, MissingExtraError, StoreKeyError
from flightlog.recorder.encryption.keys import StoreKey, StoreKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher

_MAGIC: Final = b"FLX1"
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = len(_MAGIC) + _ID_BYTES + _NONCE_BYTES
BOX_BYTES: Final = _HEAD_BYTES + _TAG_BYTES
"""What a box is longer than its content."""

_READ_BYTES: Final = 1 << 20


def require_cryptography() -> None:
    """Makes sure that encryption can be had.

    Raises:
        MissingExtraError: the package `cryptography` is not installed.
    """
    try:
        import cryptography.hazmat.primitives.ciphers  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "encrypted stores need the package cryptography",
            hint="pip install 'flightlog[encryption]'",
        ) from error


def boxed(key: StoreKey, name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a box.

    Args:
        key: to encrypt with.
        name: of the file that it becomes.
        pieces: the content, together below 64 GiB.

    Raises:
        MissingExtraError: the package `cryptography` is not installed.
    """
    nonce = os.urandom(_NONCE_BYTES)
    head = _MAGIC + bytes.fromhex(key.id) + nonce
    encryptor = _cipher(key, nonce).encryptor()
    encryptor.authenticate_additional_data(head + name.encode())
    yield head
    for piece in pieces:
        yield encryptor.update(piece)
    encryptor.finalize()
    yield encryptor.tag


def box_key_id(path: Path) -> str | None:
    """The id of the key that a file is encrypted with; None when it does not begin like a box."""
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    return _key_id(head) if head.startswith(_MAGIC) else None


def _key_id(head: bytes) -> str:
    return head[len(_MAGIC) : len(_MAGIC) + _ID_BYTES].hex()


def read_box(keys: StoreKeys | None, path: Path) -> bytes:
    """The content of a box.

    Raises:
        StoreKeyError: its key was not given.
        DamagedError: it is not as it was written.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return b"".join(unboxed(keys, path, file))


def unboxed(keys: StoreKeys | None, path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The content of a box in pieces, to be trusted once the last one is there.

    Raises:
        StoreKeyError: its key was not given.
        DamagedError: it is not as it was written.
        MissingExtraError: the package `cryptography` is not installed.
    """
    left = os.fstat(file.fileno()).st_size - BOX_BYTES
    head = file.read(_HEAD_BYTES)
    if left < 0 or not head.startswith(_MAGIC):
        raise _damaged(path)
    key = _key_of(keys, head, path)
    decryptor = _cipher(key, head[-_NONCE_BYTES:]).decryptor()
    decryptor.authenticate_additional_data(head + path.name.encode())
    while left > 0:
        piece = file.read(min(left, _READ_BYTES))
        if not piece:
            raise _damaged(path)
        left -= len(piece)
        yield decryptor.update(piece)
    try:
        decryptor.finalize_with_tag(file.read(_TAG_BYTES))
    except (_invalid_tag(), ValueError):
        raise _damaged(path) from None


def opened_box(keys: StoreKeys | None, name: str, box: bytes, where: Path) -> bytes:
    """The content of a box that is no file of its own.

    Args:
        keys: those that were given.
        name: that it was boxed with.
        box: the box.
        where: the file that it comes from.

    Raises:
        StoreKeyError: its key was not given.
        DamagedError: it is not as it was written.
        MissingExtraError: the package `cryptography` is not installed.
    """
    head, tag = box[:_HEAD_BYTES], box[-_TAG_BYTES:]
    if len(box) < BOX_BYTES or not head.startswith(_MAGIC):
        raise _damaged(where)
    decryptor = _cipher(_key_of(keys, head, where), head[-_NONCE_BYTES:]).decryptor()
    decryptor.authenticate_additional_data(head + name.encode())
    content = decryptor.update(box[_HEAD_BYTES:-_TAG_BYTES])
    try:
        decryptor.finalize_with_tag(tag)
    except (_invalid_tag(), ValueError):
        raise _damaged(where) from None
    return content


def _key_of(keys: StoreKeys | None, head: bytes, path: Path) -> StoreKey:
    key_id = _key_id(head)
    key = None if keys is None else keys.get(key_id)
    if key is None:
        raise StoreKeyError(
            f"encrypted with key {key_id}, which is not given",
            where=str(path),
            hint="Give that key too, one a line in the key file.",
        )
    return key


def _damaged(path: Path) -> DamagedError:
    return DamagedError(
        "the encrypted file is not as it was written",
        where=str(path),
        hint="Restore the file from a copy of the store.",
    )


def _cipher(key: StoreKey, nonce: bytes) -> Cipher[Any]:
    require_cryptography()
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415

    return Cipher(algorithms.AES256(key.derived(b"boxes")), modes.GCM(nonce))


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415

    return InvalidTag
