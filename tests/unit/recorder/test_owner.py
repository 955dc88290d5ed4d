"""What root makes in the store of another user is that user's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flightlog.control.owner import make_folder
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store

USER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")


def made_by_root(path: Path) -> list[str]:
    found = [path, *path.rglob("*")]
    return [str(one.relative_to(path)) for one in found if one.lstat().st_uid != USER]


@as_root
@pytest.mark.parametrize("text", ["short", "long " * 50_000])
def test_root_that_records_and_seals_leaves_nothing_of_its_own(tmp_path: Path, text: str) -> None:
    path = tmp_path / "store"
    Store.create(path)
    for one in (path, *path.rglob("*")):
        os.chown(one, USER, USER)
    (path / "quarantine").rmdir()
    with Recorder(path) as recorder, record(recorder, agent="a") as run:
        run.model_call(step=1, request_model="m", input_tokens=1, output_tokens=1)
        run.tool_call(step=1, tool_name="t", args="{}", result=text)
    seal_store(Store.open(path))
    assert list(path.glob("events/date=*/*.parquet"))
    assert list(path.glob("manifest/.lock"))
    assert made_by_root(path) == []


def test_a_folder_is_made_with_those_above_it_and_kept_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_folder(folder, mode=0o700)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    make_folder(folder, mode=0o755)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a")


@as_root
def test_a_link_in_the_place_of_a_folder_gives_nothing_away(tmp_path: Path) -> None:
    os.chown(tmp_path, USER, USER)
    elsewhere = tmp_path.parent / "of_root"
    elsewhere.mkdir()
    (tmp_path / "a").symlink_to(elsewhere)
    make_folder(tmp_path / "a")
    assert elsewhere.stat().st_uid == 0
