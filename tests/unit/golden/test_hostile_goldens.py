"""Golden folders and settings that somebody else wrote: bounded, and refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.config import load_yaml
from flightlog.config.reading import MAX_CONFIG_BYTES
from flightlog.errors import ConfigError, GoldenError
from flightlog.golden import recording_files
from flightlog.golden.recording_files import (
    MAX_RECORDING_BYTES,
    MAX_RECORDING_PARTS,
    load_recording,
)
from flightlog.golden.yaml_files import read_yaml
from flightlog.trace.canonical import digest_of


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    (tmp_path / "task").mkdir()
    return tmp_path / "task" / "1.jsonl"


def refused(path: Path) -> str:
    with pytest.raises(GoldenError) as caught:
        load_recording(path)
    assert str(path.parent.parent) in caught.value.where
    return str(caught.value)


def test_recording_above_the_limit_is_refused_unread(recording: Path) -> None:
    with recording.open("wb") as file:
        file.truncate(MAX_RECORDING_BYTES + 1)  # takes no room on the disk
    assert f"it has more than {MAX_RECORDING_BYTES:,} bytes" in refused(recording)


def test_recording_of_many_small_parts_is_refused(recording: Path) -> None:
    recording.write_bytes(b"[" + b"[]," * (MAX_RECORDING_PARTS // 2) + b"[]]")
    assert f"more than {MAX_RECORDING_PARTS:,}" in refused(recording)


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"kind":"message","digest":1}', "9" * 5_000, "\x80\x04.", '"\\ud800"']
)
def test_line_that_is_no_event_is_refused_with_its_place(recording: Path, line: str) -> None:
    recording.write_text(line + "\n", encoding="utf-8")
    assert f"{recording}:1" in refused(recording)


def test_pipe_in_place_of_a_recording_does_not_stall(recording: Path) -> None:
    os.mkfifo(recording)
    assert "is not a regular file but a pipe" in refused(recording)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "..", "a" * 31 + "/", "A" * 32]
)
def test_name_of_a_blob_never_becomes_another_path(recording: Path, name: str) -> None:
    line = f'{{"kind":"message","digest":"{"0" * 32}","role":"user","text_blob":"{name}"}}\n'
    recording.write_text(line, encoding="utf-8")
    assert "is not the digest of a blob" in refused(recording)


def test_blob_above_the_limit_or_no_file_is_refused(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_files, "MAX_BLOB_BYTES", 1 << 20)
    folder = recording.parent.parent / "blobs"
    folder.mkdir()
    for made, what in ((_large, "more than 1,048,576 bytes"), (os.mkfifo, "but a pipe")):
        digest = digest_of(what)
        line = f'{{"kind":"message","digest":"{digest}","role":"user","text_blob":"{digest}"}}\n'
        recording.write_text(line, encoding="utf-8")
        made(folder / digest)
        assert what in refused(recording)


def _large(path: Path) -> None:
    path.write_bytes(b"\0" * ((1 << 20) + 1))


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: [*x, *x]\n",
        "a: !!python/object/apply:os.mkdir [trap-was-sprung]\n",
        "a: !!python/name:os.system\n",
        "? {a: 1}\n: 2\n",
        "[" * 1_000,
        "a: " + "9" * 5_000 + "\n",
        "a: \x00\n",
        "a: 1\na: 2\n",
    ],
    ids=["alias", "object", "name", "mapping as key", "deep", "digits", "nul", "twice"],
)
def test_yaml_that_does_more_than_hold_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flightlog.yaml"
    path.write_text(text, encoding="utf-8")
    if text.startswith("a: 9"):
        assert run(["config", "check", str(path)]) == 64
        return
    with pytest.raises(ConfigError):
        load_yaml(path)
    with pytest.raises(GoldenError):
        read_yaml(path)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_settings_above_the_limit_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flightlog.yaml"
    path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="above 1 MiB"):
        load_yaml(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file but a pipe"):
        load_yaml(path)
    with pytest.raises(ConfigError, match="not a regular file but a device"):
        load_yaml("/dev/zero")


def test_query_file_above_the_limit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "query.sql"
    path.write_bytes(b" " * ((1 << 20) + 1))
    assert run(["sql", "--file", str(path), "--store", str(tmp_path)]) == 64
    assert "the query has more than 1,048,576 bytes" in capsys.readouterr().err
