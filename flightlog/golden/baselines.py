"""Pinned baselines: runs of one side as a small store of their own, beside what was demanded.

A pinned baseline holds what a comparison needs and no texts: no prompts, arguments, results or
answers. It is small enough for a repository or for the cache of a CI server.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from flightlog._version import __version__
from flightlog.analysis.db import Traces
from flightlog.analysis.gate.selection import Side
from flightlog.errors import GoldenError, NothingToCompareError, UsageError
from flightlog.golden.guard import CheckState
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.redact.policy import Capture, Redaction
from flightlog.replay.recordings import read_recordings
from flightlog.trace.clock import SystemClock
from flightlog.trace.events import Event, RunStarted

DEFAULT_FOLDER: Final = "baselines"
ABOUT_FILE: Final = "baseline.json"
STORE_FOLDER: Final = "store"
VERSION: Final = 1
_TEXTS: Final = frozenset(
    {
        "answer", "args", "args_flag", "data_subject", "error", "idempotency_key", "output_digest",
        "previous_response_id", "prompt_added", "prompt_base_seq", "prompt_kept", "response_id",
        "result", "result_blob", "result_flag", "state_key", "stop_detail", "tool_call_id",
        "tool_requests",
    }
)  # fmt: skip
"""Columns that a pinned baseline leaves out."""


@dataclass(frozen=True)
class Baseline:
    """A pinned baseline.

    Attributes:
        name: name of its folder.
        folder: where it is.
        side: which runs it was made of, as it was asked for.
        sources: stores that they came from.
        made_at: time of the pinning, UTC.
        runs: how many it holds.
        tasks: of how many tasks.
        sessions: in how many sessions; a guard against the day needs 3.
        revision: commit of the working folder then; None outside of a repository.
        state: what a check demanded then.
    """

    name: str
    folder: Path
    side: str
    sources: tuple[str, ...]
    made_at: str
    runs: int
    tasks: int
    sessions: int
    revision: str | None
    state: CheckState

    @property
    def store(self) -> Path:
        """The store with its runs."""
        return self.folder / STORE_FOLDER

    @property
    def size_bytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def pin_baseline(
    traces: Traces,
    side: Side,
    folder: Path,
    state: CheckState,
    *,
    revision: str | None = None,
    replaces: bool = False,
) -> Baseline:
    """Pins the runs of a side; a folder is there whole or not at all.

    Args:
        traces: open stores.
        side: which runs; those that still go on are left out.
        folder: the new folder.
        state: what a check demands now.
        revision: commit of the working folder.
        replaces: an older one of this name is replaced.

    Raises:
        UsageError: the folder is there already, or is something else.
        NothingToCompareError: no finished run is on that side.
    """
    if folder.exists() and not (replaces and (folder / ABOUT_FILE).is_file()):
        hint = "--replace puts a new one in its place." if (folder / ABOUT_FILE).is_file() else ""
        raise UsageError(f"{folder} is there already", hint=hint or "Choose another name.")
    chosen = _chosen(traces, side)
    about = {
        "version": VERSION,
        "side": side.text,
        "sources": [Path(name).name for name in traces.stores],
        "made_at": _now(),
        "made_by": f"flightlog {__version__}",
        "runs": len(chosen),
        "tasks": len({(row["suite"], row["task_id"], row["task_digest"]) for row in chosen}),
        "sessions": len({row["session_id"] for row in chosen} - {None}),
        "revision": revision,
        "state": state.to_json(),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        made = Path(beside) / folder.name
        _copy_runs(chosen, made / STORE_FOLDER)
        text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
        (made / ABOUT_FILE).write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rename(Path(beside) / "old")
        made.rename(folder)
    return load_baseline(folder)


def load_baseline(folder: Path) -> Baseline:
    """A pinned baseline.

    Raises:
        NothingToCompareError: there is none; the hint has the command that makes one.
        GoldenError: its file cannot be read.
    """
    path = folder / ABOUT_FILE
    if not path.is_file():
        known = [one.name for one in baselines_in(folder.parent)]
        listed = f" There are: {', '.join(known)}." if known else ""
        raise NothingToCompareError(
            f"there is no pinned baseline {folder.name!r}",
            where=str(folder),
            hint=f"Make one: flightlog baseline set {folder.name} --store STORE --side "
            f"variant=baseline{listed}",
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["version"] != VERSION:
            raise GoldenError(
                f"a pinned baseline of version {about['version']}",
                where=str(path),
                hint="This flightlog reads version 1: update it, or set the baseline anew.",
            )
        return Baseline(
            name=folder.name,
            folder=folder,
            side=str(about["side"]),
            sources=tuple(map(str, about["sources"])),
            made_at=str(about["made_at"]),
            runs=int(about["runs"]),
            tasks=int(about["tasks"]),
            sessions=int(about["sessions"]),
            revision=about["revision"],
            state=CheckState.of_json(about["state"], str(path)),
        )
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise GoldenError(
            f"the pinned baseline cannot be read: {error}", where=str(path), hint="Set it anew."
        ) from error


def baselines_in(folder: Path) -> list[Baseline]:
    """The pinned baselines of a folder, by name; empty where there is none.

    Raises:
        GoldenError: the file of one cannot be read.
    """
    if not folder.is_dir():
        return []
    found = sorted(path.parent for path in folder.glob(f"*/{ABOUT_FILE}"))
    return [load_baseline(path) for path in found if not path.name.startswith(".")]


def _chosen(traces: Traces, side: Side) -> list[dict[str, Any]]:
    condition, values = side.condition("b")
    rows = traces.rows(
        "SELECT store, run_id, suite, task_id, task_digest, session_id, status FROM runs "  # noqa: S608
        f"WHERE {condition} ORDER BY store, run_id",
        values,
    )
    finished = [row for row in rows if row["status"] != "running"]
    if not finished:
        side.check_known(traces)
        raise NothingToCompareError(
            f"no finished run is {side.text}", hint="list what there is with: flightlog runs"
        )
    return finished


def _copy_runs(chosen: list[dict[str, Any]], into: Path) -> None:
    by_store: dict[str, list[str]] = {}
    for row in chosen:
        by_store.setdefault(row["store"], []).append(row["run_id"])
    redaction = Redaction(capture=Capture.FULL, environment=False)  # no text is left to redact
    into.parent.mkdir(parents=True, exist_ok=True)
    with Recorder(into, redaction=redaction) as recorder:
        for name, run_ids in by_store.items():
            for recording in read_recordings(Store.open(name), run_ids):
                for event in recording.events:
                    recorder.emit(_without_texts(event))
    seal_store(Store.open(into))
    compact_store(Store.open(into))
    shutil.rmtree(into / "control", ignore_errors=True)


def _without_texts(event: Event) -> Event:
    changes: dict[str, Any] = {
        field.name: _default(field)
        for field in msgspec.structs.fields(event)
        if field.name in _TEXTS
    }
    if isinstance(event, RunStarted):
        changes["capture"] = str(Capture.METADATA)
    changed: Event = msgspec.structs.replace(event, **changes)
    return changed


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


def _now() -> str:
    return datetime.fromtimestamp(SystemClock().wall_us() // 1_000_000, UTC).isoformat()
