"""Segments of encrypted stores: Parquet modular encryption, and reading plain and encrypted alike.

Each file has a random data key, which stands in its footer, wrapped with the store's key
(AES key wrap, RFC 3394). Data, statistics, schema and metadata are AES-256-GCM.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.boxes import require_cryptography
from flightlog.recorder.encrypted import writing_key
from flightlog.recorder.keys import StoreKeys
from flightlog.recorder.layout import Layout

_ENCRYPTED_MAGIC: Final = b"PARE"


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
    properties = _factory(StoreKeys((key,))).file_encryption_properties(
        pe.KmsConnectionConfig(), configuration
    )
    return key.id, {"encryption_properties": properties}


def open_segment(layout: Layout, path: Path) -> pq.ParquetFile:
    """A segment, plain or encrypted.

    Raises:
        StoreKeyError: its key is not given.
        pyarrow.ArrowException: it is damaged.
        OSError: it is damaged, or cannot be read.
    """
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
        paths: the segments.
        schema: of the rows; columns that a segment lacks are null.
    """
    import pyarrow.dataset as ds  # noqa: PLC0415
    import pyarrow.parquet.encryption as pe  # noqa: PLC0415

    decryption = ds.ParquetDecryptionConfig(
        _factory(keys), pe.KmsConnectionConfig(), pe.DecryptionConfiguration()
    )
    options = ds.ParquetFragmentScanOptions(decryption_config=decryption)
    return ds.dataset(
        [str(path) for path in paths],
        schema=schema,
        format=ds.ParquetFileFormat(default_fragment_scan_options=options),
    )


def _decryption(layout: Layout, path: Path) -> Any:
    if not is_encrypted(path):
        return None
    if layout.keys is None:
        raise StoreKeyError("the segment is encrypted, and no key is given", where=str(path))
    import pyarrow.parquet.encryption as pe  # noqa: PLC0415

    return _factory(layout.keys).file_decryption_properties(
        pe.KmsConnectionConfig(), pe.DecryptionConfiguration()
    )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedError(
            f"the segment cannot be read ({what})",
            where=str(path),
            hint="Restore the file from a copy; flightlog verify lists everything.",
        ) from error


def _factory(keys: StoreKeys) -> Any:
    """Wraps and unwraps the data keys of segments."""
    require_cryptography()
    import pyarrow.parquet.encryption as pe  # noqa: PLC0415
    from cryptography.hazmat.primitives.keywrap import (  # noqa: PLC0415
        InvalidUnwrap,
        aes_key_unwrap,
        aes_key_wrap,
    )

    class _Wrapping(pe.KmsClient):  # type: ignore[misc]
        def __init__(self, _: Any) -> None:
            super().__init__()

        def wrap_key(self, key_bytes: bytes, key_id: str) -> str:
            return base64.b64encode(aes_key_wrap(_key(key_id), key_bytes)).decode()

        def unwrap_key(self, wrapped: str, key_id: str) -> bytes:
            try:
                return aes_key_unwrap(_key(key_id), base64.b64decode(wrapped, validate=True))
            except (InvalidUnwrap, ValueError):
                raise OSError("the wrapped key of the segment is not as written") from None

    def _key(key_id: str) -> bytes:
        key = keys.get(key_id)
        if key is None:
            raise StoreKeyError(f"encrypted with key {key_id}, which is not given")
        return key.secret

    return pe.CryptoFactory(_Wrapping)
