"""Foreign files that are larger than they look, or no files at all: refused by name, in little
memory. An import reads JSON, plain or gzipped, and nothing else.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers import json_input
from flightlog.integrations.importers.importing import READERS, import_files, reader_of
from flightlog.integrations.importers.json_input import (
    MAX_DOCUMENT_BYTES,
    MAX_LINE_BYTES,
    MAX_PARTS,
    MAX_RATIO,
    LineFile,
)

FORMATS = tuple(READERS)
DOCUMENTS = ("tau-bench", "tau2")


def refused(name: str, path: Path) -> TraceFormatError:
    with pytest.raises(TraceFormatError) as caught:
        for _ in reader_of(name)(path):
            pass
    assert caught.value.where.startswith(str(path))
    assert caught.value.hint
    return caught.value


def zeros_gzip(path: Path, size: int, *, sign: bytes = b" ", end: bytes = b"") -> Path:
    """A gzip file of so many equal bytes, about a thousandth of them in size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(packer.compress(sign * ((1 << 20) // len(sign))))
        file.write(packer.compress(end) + packer.flush())
    return path


def peak_of_child(code: str, *argv: object) -> float:
    """Memory in MB that a process needed beyond what it had before; it must end well."""
    whole = f"""
import resource, sys
from pathlib import Path
from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.importing import reader_of
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
{code}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", whole, *map(str, argv)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return int(done.stdout) / unit


READ_AND_BE_REFUSED = """
try:
    for _ in reader_of(sys.argv[2])(path):
        pass
except TraceFormatError:
    pass
else:
    raise SystemExit("was not refused")
"""


def test_gzip_bomb_of_one_line_is_refused_at_the_longest_line(tmp_path: Path) -> None:
    path = zeros_gzip(tmp_path / "bomb.gz", 2 * MAX_LINE_BYTES)
    assert path.stat().st_size < MAX_LINE_BYTES / 500
    assert f"the line has more than {MAX_LINE_BYTES:,} bytes" in str(refused("run-lines", path))
    assert peak_of_child(READ_AND_BE_REFUSED, path, "run-lines") < 3 * MAX_LINE_BYTES / (1 << 20)


def test_gzip_bomb_of_blank_lines_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = zeros_gzip(tmp_path / "bomb.gz", 2 * MAX_LINE_BYTES, sign=b" " * 99 + b"\n")
    assert MAX_RATIO * path.stat().st_size < 2 * MAX_LINE_BYTES
    assert "the unpacked file has more than" in str(refused("run-lines", path))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_gzip_bomb_of_a_document_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(json_input, "MAX_DOCUMENT_BYTES", 1 << 20)  # half a gigabyte takes long
    path = zeros_gzip(tmp_path / "bomb.gz", 8 << 20)
    assert "the document has more than 1,048,576 bytes" in str(refused(name, path))


def test_a_document_has_a_largest_size() -> None:
    assert MAX_DOCUMENT_BYTES == 512 << 20


def test_gzip_in_gzip_is_unpacked_once(tmp_path: Path) -> None:
    path = tmp_path / "twice.gz"
    path.write_bytes(gzip.compress(gzip.compress(b"[]")))
    for name in FORMATS:
        assert "not JSON" in str(refused(name, path))


def test_many_small_parts_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    path.write_bytes(b"[" + b"[]," * (MAX_PARTS // 2) + b"[]]")
    assert f"more than {MAX_PARTS:,}" in str(refused("tau-bench", path))
    # The text itself, and nothing made of it.
    size = path.stat().st_size / (1 << 20)
    assert peak_of_child(READ_AND_BE_REFUSED, path, "tau-bench") < 3 * size


def test_line_of_many_small_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    path.write_bytes(b'{"a":[' + b"[]," * (MAX_PARTS // 2) + b"[]]}\n")
    assert f"more than {MAX_PARTS:,}" in str(refused("run-lines", path))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "1" * 5_000, "[" + "9" * 100_000 + "]", '"\\ud800"', "NaN"],
    ids=["lists", "objects", "digits", "digits in a list", "surrogate", "nan"],
)
def test_json_that_no_parser_likes_is_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    refused(name, path)


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../etc/cron.d/evil", b"\0" * 1_000_000)
    return stream.getvalue()


def _parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), stream)
    return stream.getvalue()


def _numpy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


class _Trap:
    """Unpickled, it would leave a folder behind."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("trap-was-sprung",)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (_zip(), "a zip archive"),
        (_parquet(), "a Parquet file"),
        (_numpy(), "a NumPy file"),
        (pickle.dumps(_Trap()), "a Python pickle"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 20, "a zstd file"),
        (b"\xfd7zXZ\0" + b"\0" * 20, "an xz file"),
        (b"BZh91AY&SY", "a bzip2 file"),
    ],
    ids=["zip", "parquet", "numpy", "pickle", "zstd", "xz", "bzip2"],
)
def test_other_formats_are_named_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "traces.json"
    path.write_bytes(content)
    why = f"is {kind}, which no importer reads"
    if (name, kind) == ("inspect", "a zip archive"):
        why = "an archive without a header"  # its own logs are such archives
    assert why in str(refused(name, path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["traces.json"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_devices_are_refused_unread(name: str, device: str) -> None:
    with pytest.raises(TraceFormatError, match=r"not a regular file|cannot be read"):
        list(reader_of(name)(Path(device)))


@pytest.mark.parametrize("name", FORMATS)
def test_link_to_a_device_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "link.json").symlink_to("/dev/zero")
    assert "is not a regular file but a device" in str(refused(name, tmp_path / "link.json"))


def row(run_id: str) -> bytes:
    fields = {"source": "s", "run_id": run_id, "task_id": "t", "events": []}
    return json.dumps(fields).encode() + b"\n"


def test_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing.jsonl"
    path.write_bytes(row("1"))
    lines = iter(LineFile(path))
    assert next(lines)[0] == 1
    with path.open("ab") as file:
        file.write(row("2"))
    with pytest.raises(TraceFormatError, match="was written to while it was read"):
        list(lines)


def test_endless_file_is_read_only_as_far_as_it_was_when_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "endless.jsonl"
    path.write_bytes(row("1"))
    seen = []

    def append_to_itself() -> None:
        for number, line in LineFile(path):
            seen.append(number)
            with path.open("ab") as file:
                file.write(line)

    with pytest.raises(TraceFormatError, match="was written to"):
        append_to_itself()
    assert seen == [1]


def test_file_that_changes_between_its_two_readings_writes_nothing_of_the_second(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(row("1"))
    lines = LineFile(path)
    assert len(list(lines)) == 1
    path.write_bytes(b"{}\n")
    with pytest.raises(TraceFormatError, match="was written to"):
        list(lines)


NAMES = ["../../etc/passwd", "/etc/passwd", "..", "a/../../b", "C:\\x", "\0", "x" * 5_000, "~root"]


@pytest.fixture
def hostile_names(tmp_path: Path) -> Path:
    events = [
        {"type": "model", "name": name, "result": name, "calls": [name]} for name in NAMES
    ] + [{"type": "tool", "name": name, "args": name, "call_id": name} for name in NAMES]
    rows = [
        {
            "source": name, "run_id": name, "task_id": name, "events": events, "agent": name,
            "variant": name, "task_group": name, "suite_version": name,
        }
        for name in NAMES
    ]  # fmt: skip
    folder = tmp_path / "inner" / "deep"
    folder.mkdir(parents=True)
    path = folder / "names.jsonl"
    path.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in rows))
    return path


def test_names_in_a_trace_never_become_paths(tmp_path: Path, hostile_names: Path) -> None:
    store = hostile_names.parent / "store"
    [report] = import_files("run-lines", [hostile_names], store)
    assert report.runs == len(NAMES)
    outside = [
        path
        for path in tmp_path.rglob("*")
        if not path.is_relative_to(store) and path not in (hostile_names, *hostile_names.parents)
    ]
    assert outside == []
    inside = [path.relative_to(store).as_posix() for path in store.rglob("*")]
    assert not [name for name in inside if "passwd" in name or ".." in name or "root" in name]


def test_large_file_of_lines_is_imported_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("wb") as file:
        for number in range(2_000):
            file.write(row(f"{number}-{'x' * 4_000}"))
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader_of("run-lines")(path)) == 2_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
