"""Texts that stand in blobs, for SQL: the function `blob_text(store, digest)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import duckdb

from flightlog.errors import DamagedError, FlightlogError
from flightlog.recorder.store import Snapshot

_SIGN = "flightlog blob: "
_NO_BLOBS = f"""
CREATE MACRO blob_text(store, digest) AS
    CASE WHEN digest IS NOT NULL
    THEN error('{_SIGN}no blob ' || digest || ' [' || store || ']') END
"""
_TOLD = re.compile(re.escape(_SIGN) + r"(.*?) \[(.*)\]", re.DOTALL)


def add_blob_text(connection: duckdb.DuckDBPyConnection, snapshots: Mapping[str, Snapshot]) -> None:
    """Gives a connection the function `blob_text(store, digest)`; null for a null digest.

    Only digests of the stores given can be read with it, and nothing but whole blobs whose
    bytes are as they were written.
    """
    readers = {name: one.blob for name, one in snapshots.items() if one.blob is not None}
    if not readers:
        # A function in Python costs a tenth of a second to set up.
        connection.execute(_NO_BLOBS)
        return
    connection.create_function("blob_text", _reader(readers), ["VARCHAR", "VARCHAR"], "VARCHAR")


def blob_damage(error: Exception) -> DamagedError | None:
    """The error of a blob that could not be read, out of what DuckDB says of it."""
    found = _TOLD.search(str(error))
    return None if found is None else DamagedError(found[1], where=found[2])


def _reader(readers: Mapping[str, Callable[[str], str]]) -> Callable[[str, str], str]:
    def blob_text(store: str, digest: str) -> str:
        read = readers.get(store)
        if read is None:
            raise ValueError(f"{_SIGN}no blob {digest!r} [store {store!r}]")
        try:
            return read(digest)
        except FlightlogError as error:
            raise ValueError(f"{_SIGN}{error.what} [{error.where}]") from error

    return blob_text
