"""An analyst's query is bounded in time and memory, and its process reads only the stores."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from flightlog.analysis.sandbox import Bounds, landlock, user_sql
from flightlog.cli import cli, run
from flightlog.errors import UsageError

ENDLESS = [
    "SELECT count(*) FROM range(10000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "SELECT sum(list_sum(range(n))) FROM range(100000000) t(n)",
]
GREEDY = [
    "SELECT list(a.range) FROM range(100000000000) a",
    "SELECT repeat('x', 2000000000) || repeat('y', 2000000000) || n FROM range(64) t(n)",
    "SELECT string_agg(repeat('z', 1000000), '') FROM range(100000)",
    "SELECT a.range, repeat('w', 999) FROM range(100000) a, range(100000) b ORDER BY 2, 1",
]
needs_landlock = pytest.mark.skipif(landlock.version() < 1, reason="this kernel has no Landlock")


def processes_of(session: int) -> list[int]:
    """The processes of a session that are still there and are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(owner) == session and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("query", ENDLESS)
def test_an_endless_query_is_stopped_when_its_time_is_over(tiny_store: Path, query: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"stopped after 2 s|memory") as caught:
        user_sql([tiny_store], query, bounds=Bounds(seconds=2))
    assert "--timeout" in caught.value.hint or "--max-memory" in caught.value.hint
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("query", GREEDY)
def test_a_greedy_query_is_stopped_by_its_memory(tiny_store: Path, query: str) -> None:
    with pytest.raises(UsageError, match="memory") as caught:
        user_sql([tiny_store], query, bounds=Bounds(seconds=60, memory_bytes=512 << 20))
    assert "--max-memory" in caught.value.hint


def test_a_query_with_too_little_memory_to_begin_is_refused() -> None:
    with pytest.raises(UsageError, match="256 MiB or more"):
        Bounds(memory_bytes=1 << 20)


def test_a_query_dies_with_the_process_that_asked(tiny_store: Path) -> None:
    code = (
        "import sys; from flightlog.analysis.sandbox import user_sql; print('asking', flush=True);"
        "user_sql([sys.argv[1]], sys.argv[2])"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", code, str(tiny_store), ENDLESS[0]], stdout=subprocess.PIPE
    )
    assert asker.stdout is not None
    asker.stdout.readline()
    children: list[int] = []
    deadline = time.monotonic() + 30
    while len(children) < 2 and time.monotonic() < deadline:
        task = Path(f"/proc/{asker.pid}/task/{asker.pid}/children").read_text().split()
        children = processes_of(int(task[0])) if task else []
        time.sleep(0.05)
    assert len(children) == 2, "the query has a process, and one that holds the leases"
    session = os.getsid(children[0])
    asker.kill()
    asker.wait()
    asker.stdout.close()
    deadline = time.monotonic() + 10
    while processes_of(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(session) == []


def test_parameters_keep_their_types(tiny_store: Path) -> None:
    query = "SELECT $a + 1 AS a, $b AS b, $c IS NULL AS c, $d AND true AS d"
    values = {"a": 41, "b": "x'; DROP VIEW runs", "c": None, "d": True}
    [row] = user_sql([tiny_store], query, params=values).table.to_pylist()
    assert row == {"a": 42, "b": "x'; DROP VIEW runs", "c": True, "d": True}


def test_a_parameter_that_sql_has_no_value_for_is_refused(tiny_store: Path) -> None:
    with pytest.raises(UsageError, match="no value for"):
        user_sql([tiny_store], "SELECT $a", params={"a": object()})


def test_a_plan_is_shown_and_nothing_is_run(tiny_store: Path) -> None:
    found = user_sql([tiny_store], ENDLESS[0], explain=True).table.column("plan").to_pylist()
    assert "RANGE" in found[0]


def test_only_a_select_is_explained(tiny_store: Path, tmp_path: Path) -> None:
    for query in (
        f"ANALYZE COPY runs TO '{tmp_path}/out.csv'",
        f"COPY runs TO '{tmp_path}/out.csv'",
        f"SELECT 1; COPY runs TO '{tmp_path}/out.csv'",
    ):
        with pytest.raises(UsageError):
            user_sql([tiny_store], query, explain=True)
    assert list(tmp_path.iterdir()) == []


def tried_inside(allowed: Path, attempt: str, *arguments: object) -> str:
    """What an attempt ends in, in a process that may only read one folder."""
    code = (
        "import ctypes, os, signal, socket, subprocess, sys\n"
        "from pathlib import Path\n"
        "from flightlog.analysis.sandbox.landlock import only_read\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "assert only_read([sys.argv[1], sys.base_prefix, *filter(None, sys.path)])\n"
        f"try:\n    {attempt}\nexcept OSError as error:\n    print(type(error).__name__)\n"
        "else:\n    print('done')\n"
    )
    command = [sys.executable, "-c", code, str(allowed), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_landlock
def test_what_may_be_read_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    assert tried_inside(tmp_path, "Path(sys.argv[1], 'a').read_text()") == "done"
    assert tried_inside(tmp_path, "os.listdir(sys.argv[1])") == "done"


@needs_landlock
@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd').read()",
        "os.listdir('/')",
        "Path(sys.argv[1], 'new').write_text('x')",
        "open(Path(sys.argv[1], 'there'), 'a')",
        "os.unlink(Path(sys.argv[1], 'there'))",
        "os.mkdir(Path(sys.argv[1], 'folder'))",
        "os.symlink('/etc/passwd', Path(sys.argv[1], 'link'))",
        "open('/proc/self/environ').read()",
        "subprocess.run(['/bin/true'])",
        "open(Path(sys.argv[1], 'way-out')).read()",
    ],
)
def test_nothing_else_is_read_written_or_run(tmp_path: Path, attempt: str) -> None:
    (tmp_path / "there").write_text("x")
    (tmp_path / "way-out").symlink_to("/etc/passwd")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert tried_inside(tmp_path, attempt) == "PermissionError"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there").read_text() == "x"


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock knows no network")
def test_no_connection_is_made(tmp_path: Path) -> None:
    attempt = "socket.create_connection(('127.0.0.1', 9), timeout=5)"
    assert tried_inside(tmp_path, attempt) == "PermissionError"


@pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock knows no signals")
def test_no_signal_reaches_another_process(tmp_path: Path) -> None:
    attempt = f"os.kill(int(sys.argv[2]), {int(signal.SIGCONT)})"
    assert tried_inside(tmp_path, attempt, os.getpid()) == "PermissionError"


def test_the_command_takes_parameters_and_limits(
    tiny_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sql", "--store", str(tiny_store), "--format", "csv"]
    query = "SELECT count(*) AS n FROM runs WHERE variant = $v"
    assert run([*arguments, query, "-p", "v=candidate"]) == 0
    assert capsys.readouterr().out == "n\n4\n"
    assert run([*arguments, ENDLESS[0], "--timeout", "2s"]) == 64
    assert "--timeout" in capsys.readouterr().err
    assert run([*arguments, GREEDY[0], "--max-memory", "300MB"]) == 64
    assert "--max-memory" in capsys.readouterr().err


def test_the_command_shows_a_plan(tiny_store: Path) -> None:
    asked = CliRunner().invoke(
        cli, ["sql", "--store", str(tiny_store), "--explain", "SELECT count(*) FROM runs"]
    )
    assert asked.exit_code == 0
    assert "Ungrouped Aggregate" in asked.stdout


def test_landlock_has_the_sizes_of_the_kernel() -> None:
    assert ctypes.sizeof(landlock._PathBeneath) == 12
    assert ctypes.sizeof(landlock._Ruleset) == 24
