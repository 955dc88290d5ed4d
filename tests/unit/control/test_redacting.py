"""The key of a store: made once, private, and never in what is recorded."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flightlog.control.redacting import KEY_FILE, redactor_at
from flightlog.errors import ConfigError
from flightlog.redact.key_files import KEY_VARIABLE
from flightlog.redact.policy import Capture, Redaction

CARD = "4539578763621486"


def clean(folder: Path, *, environ: dict[str, str] | None = None, key_file: str | None = None):
    redactor = redactor_at(folder, Redaction(key_file=key_file), environ=environ or {})
    assert redactor is not None
    return redactor.clean(CARD)


def test_the_key_is_made_at_the_first_find_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    redactor = redactor_at(tmp_path / "control", Redaction(), environ={})
    assert redactor is not None
    redactor.clean("nothing to find")
    assert not (tmp_path / "control").exists()
    redactor.clean(CARD)
    path = tmp_path / "control" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) == 64
    assert list(path.parent.iterdir()) == [path]


def test_all_who_use_the_store_make_the_same_pseudonyms(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: clean(tmp_path / "control"), range(8)))
    assert len(made) == 1
    assert clean(tmp_path / "other") not in made


def test_a_key_in_the_environment_wins_over_a_file_and_both_over_the_store(tmp_path: Path) -> None:
    file = tmp_path / "the.key"
    file.write_text("f" * 32)
    file.chmod(0o600)
    own = clean(tmp_path)
    of_file = clean(tmp_path, key_file=str(file))
    of_environment = clean(tmp_path, environ={KEY_VARIABLE: "e" * 32}, key_file=str(file))
    assert len({own, of_file, of_environment}) == 3
    assert of_environment == clean(tmp_path / "elsewhere", environ={KEY_VARIABLE: "e" * 32})
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("how", ["short", "readable", "missing", "link"])
def test_a_key_that_cannot_be_used_is_refused_by_name(tmp_path: Path, how: str) -> None:
    file = tmp_path / "the.key"
    file.write_text("short" if how == "short" else "f" * 32)
    file.chmod(0o644 if how == "readable" else 0o600)
    if how == "missing":
        file.unlink()
    if how == "link":
        file.rename(tmp_path / "real.key")
        file.symlink_to(tmp_path / "real.key")
    with pytest.raises(ConfigError) as refused:
        clean(tmp_path, key_file=str(file))
    assert "ffff" not in str(refused.value)


def test_a_store_that_records_everything_needs_no_key(tmp_path: Path) -> None:
    assert redactor_at(tmp_path, Redaction(capture=Capture.FULL), environ={}) is None


def test_the_key_itself_is_taken_out_of_texts(tmp_path: Path) -> None:
    environ = {KEY_VARIABLE: "e1" * 32}
    redactor = redactor_at(tmp_path, Redaction(environment=False), environ=environ)
    assert redactor is not None
    assert "e1e1" not in redactor.clean(f"the key is {'e1' * 32}")
