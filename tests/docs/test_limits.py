"""docs/limits.md: its numbers are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.commands.sql import MAX_QUERY_BYTES
from flightlog.config.reading import MAX_CONFIG_BYTES, MAX_DEPTH
from flightlog.golden.recording_files import (
    MAX_BLOB_BYTES,
    MAX_RECORDING_BYTES,
    MAX_RECORDING_PARTS,
)
from flightlog.integrations.importers.json_input import (
    MAX_DOCUMENT_BYTES,
    MAX_LINE_BYTES,
    MAX_PARTS,
    MAX_RATIO,
)
from flightlog.recorder.blobs import INLINE_BYTES
from flightlog.recorder.store import MAX_ROWS_PER_BYTE
from flightlog.trace.fitting import MAX_TEXT_BYTES
from flightlog.trace.foreign import MAX_ARGS_BYTES
from flightlog.trace.foreign_writer import (
    MAX_LEVELS,
    MAX_ODD_PARTS,
    MAX_SHOWN_CHARS,
    MAX_VALUE_BYTES,
)
from flightlog.trace.foreign_writer import MAX_PARTS as MAX_PLAIN_PARTS
from flightlog.trace.slices import SLICE_CHARS

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "sentence",
    [
        f"above {INLINE_BYTES >> 10} KiB of UTF-8 in a file",
        f"above {INLINE_BYTES >> 10} KiB of UTF-8 in a blob",
        f"of up to {MAX_PLAIN_PARTS:,} parts, {MAX_LEVELS} levels and {MAX_VALUE_BYTES >> 20} MiB",
        f"no flag; above {MAX_ARGS_BYTES >> 10} KiB cut",
        f"after the first {MAX_ODD_PARTS:,} of such a value, levels below the {MAX_LEVELS}th",
        f"text after {MAX_VALUE_BYTES >> 20} MiB",
        f"form | {MAX_SHOWN_CHARS:,} characters",
        f"whole up to {MAX_TEXT_BYTES >> 10} KiB of UTF-8",
        f"slices of {SLICE_CHARS:,} characters",
        f"tau2) | {MAX_DOCUMENT_BYTES:,} bytes",
        f"run lines | {MAX_LINE_BYTES:,} bytes",
        f"run lines | {MAX_RATIO} times",
        f"line | {MAX_PARTS:,}; refused",
        f"golden task | {MAX_RECORDING_BYTES:,} bytes and {MAX_RECORDING_PARTS:,} commas",
        f"golden folder | {MAX_BLOB_BYTES:,} bytes",
        f"`tools.yaml` | {MAX_CONFIG_BYTES:,} bytes, {MAX_DEPTH} levels",
        f"--file` | {MAX_QUERY_BYTES:,} bytes",
        f"store | {MAX_ROWS_PER_BYTE} rows per byte",
    ],
)
def test_page_states_the_limit_of_the_code(sentence: str) -> None:
    assert sentence in PAGE
