"""What commands say of an encrypted store: the same as of a plain one, or that the key lacks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from flightlog.analysis.questions import question_names
from flightlog.cli import run
from flightlog.commands import demo_agent
from flightlog.recorder.encryption.keys import KEY_FILE_VARIABLE, KEY_VARIABLE
from flightlog.recorder.record import record

AGENT = f"{demo_agent.__name__}:drifted"
CANARIES = (b"refund", b"support-desk", b"tool_call")
"""Words that are all over the content of the demo."""

FOREIGN_RUN = (
    json.dumps(
        {
            "source": "harness",
            "run_id": "r1",
            "task_id": "t1",
            "model": "m",
            "success": True,
            "stop_reason": "answered",
            "events": [{"type": "model", "name": "m", "result": "Yes.", "latency_ms": 1.0}],
        }
    )
    + "\n"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `plain` and `encrypted` with the same store, and the key of the latter."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(KEY_VARIABLE, raising=False)
        patch.delenv(KEY_FILE_VARIABLE, raising=False)
        patch.chdir(folder)
        assert run(["demo", "--dir", "plain"]) == 1
        shutil.copytree("plain", "encrypted")
        assert run(["keygen", "--out", "key"]) == 0
        patch.setenv(KEY_FILE_VARIABLE, str(folder / "key"))
        assert run(["rekey", "--store", "encrypted/store"]) == 0
    return folder


@pytest.fixture
def key(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key, given."""
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(made / "key"))
    return made / "key"


@pytest.fixture
def copies(made: Path, key: Path, tmp_path: Path) -> Path:
    """Copies of both folders, to be changed."""
    for name in ("plain", "encrypted"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def said(
    folder: Path,
    argv: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[int, str]:
    """Exit code and output of a command in one of the folders."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    code = run([*argv, "--store", "store"])
    shown = capsys.readouterr()
    return code, (shown.out + shown.err).replace(str(folder), "FOLDER")


READING = [
    ["runs"],
    ["show", "last"],
    ["sql", "SELECT * FROM events ORDER BY run_id, seq", "--format", "csv"],
    ["sql", "SELECT count(*), min(role) FROM messages", "--format", "json"],
    ["sql", "SELECT * FROM budgets ORDER BY ALL", "--format", "csv"],
    *(["ask", name] for name in question_names()),
    ["verify"],
    ["check", "--baseline", "baseline", "--candidate", "steady"],
    ["check", "--baseline", "baseline", "--candidate", "drifted"],
]


@pytest.mark.parametrize("argv", READING, ids=" ".join)
def test_command_says_the_same_of_an_encrypted_store(
    made: Path,
    key: Path,
    argv: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = said(made / "plain", argv, capsys, monkeypatch)
    assert said(made / "encrypted", argv, capsys, monkeypatch) == plain
    assert plain[0] in (0, 1)
    assert len(plain[1]) > 20


def plain_and_encrypted(
    folder: Path,
    argv: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[tuple[int, str], tuple[int, str]]:
    """What a command that writes says of each; the plain store is for who has no key."""
    encrypted = said(folder / "encrypted", argv, capsys, monkeypatch)
    with monkeypatch.context() as without:
        without.delenv(KEY_FILE_VARIABLE)
        return said(folder / "plain", argv, capsys, monkeypatch), encrypted


def test_store_lives_the_same_life_encrypted(
    copies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ["sql", "SELECT run_id FROM runs ORDER BY run_id LIMIT 1", "--format", "csv"]
    run_id = said(copies / "plain", first, capsys, monkeypatch)[1].splitlines()[1]
    for name in ("plain", "encrypted"):
        (copies / name / "runs.jsonl").write_text(FOREIGN_RUN, encoding="utf-8")
    for argv in (
        ["golden", "pin", run_id, "--goldens", "pinned"],
        ["replay", "pinned", "--agent", AGENT, "--variant", "again", "--quiet"],
        ["import", "--format", "run-lines", "runs.jsonl"],
        ["seal"],
        ["erase", "--run", run_id],
        ["retain", "--older-than", "3000d"],
        ["compact"],
        ["plot", "budgets", "--out", "plot.png"],
        ["verify"],
        ["ask", "stop_reasons"],
    ):
        plain, encrypted = plain_and_encrypted(copies, argv, capsys, monkeypatch)
        # Folders of goldens are told in the order of their names, which differ.
        told = [sorted(_without_sizes(one[1]).splitlines()) for one in (encrypted, plain)]
        assert told[0] == told[1], argv
        assert encrypted[0] == plain[0] in (0, 1), argv
    pinned = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in (folder / "pinned").rglob("*.yaml")
        }
        for folder in (copies / "plain", copies / "encrypted")
    ]
    assert pinned[0] == pinned[1] != {}
    for path in (copies / "encrypted" / "store").rglob("*"):
        found = [word for word in CANARIES if path.is_file() and word in path.read_bytes()]
        assert not found or path.parent.name in ("control", "pins"), path


def _without_sizes(text: str) -> str:
    """Without what differs: sizes, ids, and the number of changes (a rekeying is one)."""
    return re.sub(r"[\d.,]+ (bytes|[kMG]i?B)|[0-9a-f-]{36}|manifest \d+", "~", text)


ALL = [
    *(argv for argv in READING if argv[0] != "verify"),
    ["golden", "pin", "last", "--goldens", "pinned"],
    ["replay", "goldens", "--agent", AGENT, "--quiet"],
    ["seal"],
    ["compact"],
    ["retain", "--older-than", "1d"],
    ["erase", "--subject", "somebody"],
    ["plot", "budgets", "--out", "plot.png"],
    ["rekey"],
]


@pytest.mark.parametrize("given", ["none", "wrong", "malformed", "missing"])
def test_without_the_key_every_command_says_so_and_changes_nothing(
    copies: Path,
    tmp_path: Path,
    given: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = tmp_path / given
    if given == "wrong":
        assert run(["keygen", "--out", str(wrong)]) == 0
    elif given == "malformed":
        wrong.write_text("secret-that-is-no-key\n", encoding="utf-8")
    if given == "none":
        monkeypatch.delenv(KEY_FILE_VARIABLE)
    else:
        monkeypatch.setenv(KEY_FILE_VARIABLE, str(wrong))
    store = copies / "encrypted" / "store"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for argv in ALL:
        code, text = said(copies / "encrypted", argv, capsys, monkeypatch)
        assert code == 64, argv
        assert text.startswith("error: "), argv
        assert "key" in text, argv
        assert "Traceback" not in text
        assert "secret-that-is-no-key" not in text
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert after == before


def test_kill_switch_works_without_the_key(
    copies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_FILE_VARIABLE)
    code, text = said(copies / "encrypted", ["kill", "on"], capsys, monkeypatch)
    assert code == 0
    assert "done, but not recorded in the store" in text
    assert "no key is given" in text
    assert said(copies / "encrypted", ["kill", "status"], capsys, monkeypatch)[0] == 0


def test_verify_without_the_key_is_content_with_the_bytes_and_says_so(
    copies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_FILE_VARIABLE)
    code, text = said(copies / "encrypted", ["verify"], capsys, monkeypatch)
    assert code == 0
    assert "note: not checked without key" in text
    segment = next((copies / "encrypted" / "store" / "events").rglob("*.parquet"))
    segment.write_bytes(segment.read_bytes() + b"x")
    assert said(copies / "encrypted", ["verify"], capsys, monkeypatch)[0] == 64


def test_import_into_an_encrypted_store_needs_the_key(
    copies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_FILE_VARIABLE)
    (copies / "encrypted" / "runs.jsonl").write_text(FOREIGN_RUN, encoding="utf-8")
    argv = ["import", "--format", "run-lines", "runs.jsonl"]
    code, text = said(copies / "encrypted", argv, capsys, monkeypatch)
    assert code == 64
    assert "no key is given" in text


def test_keygen_writes_a_private_file_and_never_over_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "key"
    assert run(["keygen", "--out", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    key = path.read_text(encoding="ascii")
    assert key.strip() not in capsys.readouterr().out
    assert run(["keygen", "--out", str(path)]) == 64
    assert path.read_text(encoding="ascii") == key
    assert run(["keygen"]) == 0
    assert capsys.readouterr().out.startswith("flightlog-key-")


def test_decrypt_shows_what_a_blob_holds_and_nothing_of_other_files(
    tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    text = "long text " * 3_000
    with record(store) as writer:
        writer.tool_call(step=1, tool_name="search", args="{}", result=text)
    (blob,) = (path for path in (store / "blobs").rglob("*") if path.is_file())
    assert run(["decrypt", str(blob), "--store", str(store)]) == 0
    assert capsys.readouterr().out == text
    for other in (store / "FORMAT", store / "none", next(store.rglob("*.parquet"))):
        assert run(["decrypt", str(other), "--store", str(store)]) == 64
        assert "Traceback" not in capsys.readouterr().err
