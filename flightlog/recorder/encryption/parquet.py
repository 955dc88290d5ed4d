"""Segments of encrypted stores: Parquet modular encryption, and reading plain and encrypted alike.

Each file has a random data key, which stands in its footer, wrapped with the store's key
(AES key wrap, RFC 3394). Data, statistics, schema and metadata are AES-256-GCM.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.encryption.boxes import require_cryptography
from flightlog.recorder.encryption.keys import StoreKey, StoreKeys
from flightlog.recorder.encryption.store_key import writing_key
from flightlog.recorder.layout import Layout

_ENCRYPTED_MAGIC: Final = b"PARE"
_TAIL_BYTES: Final = 8
"""Length of the footer, and the magic word."""
_MATERIAL_START: Final = b'{"keyMaterialType"'
_LONGEST_MATERIAL: Final = 1 << 12


def is_encrypted(path: Path) -> bool:
    """True when a file begins like an encrypted segment."""
    with path.open("rb") as file:
        return file.read(len(_ENCRYPTED_MAGIC)) == _ENCRYPTED_MAGIC


def writer_properties(layout: Layout) -> tuple[str | None, dict[str, Any]]:
    """The id of the key of a new segment, and what `ParquetWriter` needs for it.

    Raises:
        StoreKeyError: the store is encrypted and its key is not given.
        MissingExtraError: the package `cryptography` is not installed.
    """
    key = writing_key(layout)
    if key is None:
        return None, {}
    import pyarrow.parquet.encryption as pe  # noqa: PLC0415

    configuration = pe.EncryptionConfiguration(
        footer_key=key.id,
        uniform_encryption=True,
        plaintext_footer=False,
        data_key_length_bits=256,
        double_wrapping=False,
        internal_key_material=True,
    )
    properties = _factory(key).file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    return key.id, {"encryption_properties": properties}


def open_segment(layout: Layout, path: Path) -> pq.ParquetFile:
    """A segment, plain or encrypted.

    Raises:
        StoreKeyError: its key is not given.
        DamagedError: it is not a segment, or not as it was written.
    """
    with _named(path):
        return pq.ParquetFile(path, decryption_properties=_decryption(layout, path))


def read_segment(
    layout: Layout,
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    filters: Any = None,
) -> pa.Table:
    """The rows of a segment, plain or encrypted.

    Args:
        layout: the store, with the keys that are given.
        path: the segment.
        columns: only these, as far as the segment has them.
        filters: as in `pyarrow.parquet.read_table`.

    Raises:
        StoreKeyError: its key is not given.
        DamagedError: it is not as it was written.
    """
    names = None if columns is None else list(columns)
    with _named(path):
        if filters is None:
            return open_segment(layout, path).read(columns=names)
        return pq.read_table(
            path,
            columns=names,
            filters=filters,
            partitioning=None,
            decryption_properties=_decryption(layout, path),
        )


def encrypted_dataset(keys: StoreKeys, paths: Sequence[Path], schema: pa.Schema) -> Any:
    """Encrypted segments as one dataset, which reads what a query asks for and when it asks.

    Args:
        keys: of the segments.
        paths: the segments, at least one.
        schema: of the rows; columns that a segment lacks are null.

    Raises:
        StoreKeyError: the key of a segment is not given.
        DamagedError: a segment does not tell its key.
    """
    import pyarrow.dataset as ds  # noqa: PLC0415

    def one(path: Path) -> Any:
        options = ds.ParquetFragmentScanOptions(decryption_properties=_properties(keys, path))
        file_format = ds.ParquetFileFormat(default_fragment_scan_options=options)
        return ds.dataset([str(path)], schema=schema, format=file_format)

    return ds.dataset([one(path) for path in paths])


def _decryption(layout: Layout, path: Path) -> Any:
    return _properties(layout.keys, path) if is_encrypted(path) else None


def _properties(keys: StoreKeys | None, path: Path) -> Any:
    """What pyarrow needs to read one segment.

    The data key is unwrapped here: were pyarrow to ask for it in the middle of a query,
    in a thread of its own, it would wait for the interpreter that waits for the query.
    """
    import pyarrow.parquet.encryption as pe  # noqa: PLC0415

    return pe.create_decryption_properties(footer_key=_data_key(keys, path))


class _Material(msgspec.Struct):
    """The key material in the footer, form PKMT1 of Parquet's key tools.

    Attributes:
        masterKeyID: id of the store's key.
        wrappedDEK: the data key, encrypted with it, in base64.
    """

    masterKeyID: str  # noqa: N815
    wrappedDEK: str  # noqa: N815


def _data_key(keys: StoreKeys | None, path: Path) -> bytes:
    require_cryptography()
    from cryptography.hazmat.primitives.keywrap import (  # noqa: PLC0415
        InvalidUnwrap,
        aes_key_unwrap,
    )

    try:
        material = msgspec.json.decode(_material(path), type=_Material)
        key = None if keys is None else keys.get(material.masterKeyID)
        if key is None:
            raise StoreKeyError(
                f"encrypted with key {material.masterKeyID[:80]!r}, which is not given",
                where=str(path),
                hint="Give that key too, one a line in the key file.",
            )
        return aes_key_unwrap(key.secret, base64.b64decode(material.wrappedDEK, validate=True))
    except (msgspec.MsgspecError, InvalidUnwrap, ValueError):
        raise DamagedError(
            "the segment cannot be read (its wrapped key is not as written)",
            where=str(path),
            hint="Restore the file from a copy; flightlog verify lists everything.",
        ) from None


def _material(path: Path) -> bytes:
    """The key material, which stands in plain text before the encrypted footer."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read(_TAIL_BYTES)
        footer = int.from_bytes(tail[:4], "little") + _TAIL_BYTES
        file.seek(max(0, size - footer))
        head = file.read(min(footer, _LONGEST_MATERIAL))
    _, start, rest = head.partition(_MATERIAL_START)
    return start + rest[: rest.find(b"}") + 1]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedError(
            f"the segment cannot be read ({what})",
            where=str(path),
            hint="Restore the file from a copy; flightlog verify lists everything.",
        ) from error


def _factory(key: StoreKey) -> Any:
    """Wraps the data keys of new segments."""
    require_cryptography()
    import pyarrow.parquet.encryption as pe  # noqa: PLC0415
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap  # noqa: PLC0415

    class _Wrapping(pe.KmsClient):  # type: ignore[misc]
        def __init__(self, _: Any) -> None:
            super().__init__()

        def wrap_key(self, key_bytes: bytes, _: str) -> str:
            return base64.b64encode(aes_key_wrap(key.secret, key_bytes)).decode()

    return pe.CryptoFactory(_Wrapping)
