"""Reads logs of Inspect: `.eval` (a ZIP archive) and `.json`; each sample and epoch is a run.

Source: UK AISI inspect_ai, "Eval Logs", log format versions 1 to 3 (0.3.x): samples, events,
attachments, the pool of messages.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flightlog.config.regular_file import open_regular
from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.documents import (
    Item,
    count_at,
    items_at,
    not_of_format,
    number_at,
    text_at,
    time_at,
)
from flightlog.integrations.importers.foreign_run import ForeignRun
from flightlog.integrations.importers.inspect_turns import turns_of
from flightlog.integrations.importers.json_input import decode, read_document
from flightlog.integrations.messages import messages_of, text_of
from flightlog.runtime.task import Task
from flightlog.trace.canonical import clean_text
from flightlog.trace.messages import Message

FORMAT: Final = "inspect"
LOOKS_LIKE: Final = "a log of Inspect: .eval, or .json with version, eval and samples"
VERSIONS: Final = (1, 2, 3)
MAX_ENTRY_BYTES: Final = 256 << 20
"""Largest sample, unpacked."""
MAX_RATIO: Final = 500
"""How many times larger than packed an entry may be; real samples stay below 50."""
_SAMPLES: Final = "samples/"
_ATTACHED: Final = re.compile(r"attachment://([0-9a-f]{32})")
_MAX_DEPTH: Final = 64
_LIMITS: Final = {
    "message": "max_steps",
    "time": "timeout",
    "working": "timeout",
    "token": "tokens_limit",
    "cost": "cost_limit",
    "context": "context_length_exceeded",
    "operator": "CancelledError",
}
_ZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError)


class InspectLog:
    """The runs of a log; each iteration reads it anew. Of an archive one sample is in memory.

    Args:
        path: the file.

    Raises:
        TraceFormatError: while iterating, where it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[ForeignRun]:
        samples = self._zipped() if self._is_zip() else self._plain()
        for head, sample, where in samples:
            try:
                yield _run(head, _whole(sample), where)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise not_of_format(what, where, LOOKS_LIKE) from error

    def _is_zip(self) -> bool:
        try:
            with open_regular(self._path) as file:
                return file.read(4) == b"PK\x03\x04"
        except OSError:
            return False  # reading it as JSON tells what is wrong

    def _plain(self) -> Iterator[tuple[Item, Item, str]]:
        log = read_document(self._path, dict[str, Any], looks_like=LOOKS_LIKE)
        _check(log, str(self._path))
        for ix, sample in enumerate(items_at(log, "samples")):
            yield log, sample, f"{self._path}: sample {ix}"

    def _zipped(self) -> Iterator[tuple[Item, Item, str]]:
        try:
            with open_regular(self._path) as file, zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                found = [one for one in ("header.json", "_journal/start.json") if one in names]
                if not found:
                    raise not_of_format("an archive without a header", str(self._path), LOOKS_LIKE)
                head = self._entry(archive, found[0])
                _check(head, str(self._path))
                for name in sorted(one for one in names if one.startswith(_SAMPLES)):
                    yield head, self._entry(archive, name), f"{self._path}: {name}"
        except _ZIP_ERRORS as error:
            raise TraceFormatError(
                f"the archive is damaged, cut or packed in an unknown way: {error}",
                where=str(self._path),
                hint="Let Inspect finish, or copy it again. Nothing was imported.",
            ) from error

    def _entry(self, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
        info = archive.getinfo(name)
        where = f"{self._path}: {name}"
        most = min(MAX_ENTRY_BYTES, MAX_RATIO * max(info.compress_size, 1 << 10))
        with archive.open(info) as packed:
            raw = packed.read(most + 1)
        if len(raw) > most:
            raise TraceFormatError(
                f"an entry of more than {most:,} bytes, unpacked from {info.compress_size:,}",
                where=where,
                hint="Nothing was imported.",
            )
        return decode(raw, dict[str, Any], where=where, looks_like=LOOKS_LIKE)


def _check(head: Item, where: str) -> None:
    version = head.get("version")
    if version is None:
        raise not_of_format("no version", where, LOOKS_LIKE)
    if version not in VERSIONS:
        raise TraceFormatError(
            f"version {str(version)[:40]} of the log format is not known",
            where=where,
            hint=f"Versions {', '.join(map(str, VERSIONS))} are read. Nothing was imported.",
        )
    if not isinstance(head.get("eval"), Mapping):
        raise not_of_format("no eval", where, LOOKS_LIKE)


def _whole(sample: Item) -> Item:
    """The sample with its attachments in their places."""
    attached = sample.get("attachments")
    if not isinstance(attached, Mapping) or not attached:
        return sample
    kept = {name: value for name, value in sample.items() if name != "attachments"}
    whole: Item = _filled(kept, attached, 0)
    return whole


def _filled(value: Any, attached: Mapping[str, Any], depth: int) -> Any:
    if isinstance(value, str):
        if "attachment://" not in value:
            return value
        return _ATTACHED.sub(lambda found: str(attached.get(found[1], found[0])), value)
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, list):
        return [_filled(one, attached, depth + 1) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, attached, depth + 1) for name, one in value.items()}
    return value


def _run(head: Item, sample: Item, where: str) -> ForeignRun:
    of_eval, events = head["eval"], _events(sample)
    suite, model = text_at(of_eval, "task"), text_at(of_eval, "model")
    task_id, epoch = str(sample["id"]), count_at(sample, "epoch") or 1
    name, score = _first_score(sample.get("scores"))
    seconds = number_at(sample, "total_time")
    times = [at for one in events if (at := time_at(one, "timestamp")) is not None]
    started_us = time_at(sample, "started_at") or min(times, default=None)
    system, turns = turns_of(sample, events, model)
    limit, error = text_at(sample, "limit", "type"), sample.get("error")
    return ForeignRun(
        format=FORMAT,
        source=f"inspect/{suite}",
        source_run_id="/".join(
            (text_at(of_eval, "eval_id") or text_at(of_eval, "run_id") or "", task_id, str(epoch))
        ),
        content_digest=text_at(sample, "uuid") or "",
        where=where,
        turns=turns,
        system=system,
        task=_task(sample, task_id, suite),
        started={
            "agent": suite,
            "model": model,
            "suite": suite,
            "task_id": task_id,
            "trial": epoch - 1,
            "session_id": text_at(of_eval, "run_id"),
        },
        started_us=started_us,
        ended_us=time_at(sample, "completed_at") or max(times, default=None),
        duration_ms=None if seconds is None else seconds * 1000,
        stop_reason=_LIMITS.get(limit, limit) if limit else None if error else _ended(sample),
        stop_detail=text_at(error, "message"),
        is_failed=isinstance(error, Mapping),
        passed=passed_of(score),
        score=score_of(score),
        labels={} if name is None else {"scorer": clean_text(name)},
    )


def _ended(sample: Item) -> str | None:
    """The word for a sample that ended by itself."""
    reasons = [text_at(one, "stop_reason") for one in items_at(sample, "output", "choices")]
    if reasons and reasons[0] in ("content_filter", "model_length"):
        return "refusal" if reasons[0] == "content_filter" else "context_length_exceeded"
    return "completed" if sample.get("output") else None


def _task(sample: Item, task_id: str, suite: str | None) -> Message:
    given = sample.get("input")
    asked = text_of(given) if isinstance(given, str) else None
    if asked is None:
        users = [one.text for one in messages_of(given) if one.role == "user"]
        asked = users[-1] if users else None
    inputs = {"target": sample.get("target")}
    return Task(task_id, clean_text(asked or ""), suite=suite, inputs=inputs).message.cleaned


def _events(sample: Item) -> Sequence[Item]:
    return items_at(sample, "events") or items_at(sample, "transcript", "events")


def _first_score(scores: Any) -> tuple[str | None, Any]:
    if isinstance(scores, Mapping):
        for name, one in scores.items():
            return str(name), one.get("value") if isinstance(one, Mapping) else one
    return None, None


def passed_of(value: Any) -> bool | None:
    """A score as success: C or I, true or false, 1 or 0; None for anything between."""
    if isinstance(value, str):
        return {"C": True, "I": False}.get(value.strip())
    if isinstance(value, bool):
        return value
    return {1.0: True, 0.0: False}.get(float(value)) if isinstance(value, (int, float)) else None


def score_of(value: Any) -> float | None:
    """A score as a number: C 1, P 0.5, I and N 0."""
    if isinstance(value, str):
        return {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}.get(value.strip())
    return number_at({"value": float(value)}, "value") if isinstance(value, (int, float)) else None
