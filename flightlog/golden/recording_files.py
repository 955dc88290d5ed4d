"""Recordings of golden tasks as files: JSON lines under a checksum, large texts as blobs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from flightlog.config.regular_file import read_regular
from flightlog.errors import GoldenError
from flightlog.golden.task import BLOBS_FOLDER, TASK_FILE
from flightlog.replay.cassette import Recording
from flightlog.trace.canonical import canonical_json, clean_text, digest_of
from flightlog.trace.events import Event, decode_event, encode_event
from flightlog.trace.messages import Message
from flightlog.trace.versions import GOLDEN_VERSION, check_format

RECORDING_SUFFIX: Final = ".jsonl"
MAX_INLINE_CHARS: Final = 4096
"""Longest message text that stays in a recording; longer ones (system prompts) are blobs."""

MAX_RECORDING_BYTES: Final = 64 << 20
"""Largest recording of a golden task that is read; a run of a hundred steps has one or two MB."""
MAX_RECORDING_PARTS: Final = 5_000_000
"""Most commas and brackets in one: each part costs memory of its own."""
MAX_BLOB_BYTES: Final = 256 << 20
"""Largest blob of a golden folder that is read."""

_DIGEST: Final = re.compile(r"[0-9a-f]{32,128}")
_MESSAGE_KIND: Final = "message"
_SEAL_KIND: Final = "sealed"


def recording_files(folder: Path) -> list[Path]:
    """The recordings of a golden task, oldest first: `1.jsonl`, `2.jsonl`, ..."""
    found = [path for path in folder.glob(f"*{RECORDING_SUFFIX}") if path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))


def recorded_run_ids(goldens: Path) -> set[str]:
    """The runs that the golden tasks of a folder are made of.

    Raises:
        GoldenError: there are none, or a recording cannot be read.
    """
    tasks = sorted(goldens.glob(f"*/{TASK_FILE}"))
    files = [file for task in tasks for file in recording_files(task.parent)]
    if not files:
        raise GoldenError(
            "no golden task with a recording",
            where=str(goldens),
            hint="Give the folder that `flightlog golden pin --goldens` wrote to.",
        )
    return {event.run_id for file in files for event in load_recording(file).events}


def recording_lines(recording: Recording) -> tuple[list[str], dict[str, str]]:
    """A recording as canonical JSON lines, and the blobs that they name.

    A message stands before the first event that names it. Tool messages are
    left out: their text is the result of the tool call. The last line holds the
    digest of all others, so that no change goes unnoticed.
    """
    lines: list[str] = []
    blobs: dict[str, str] = {}
    told: set[str] = set()
    for event in recording.events:
        for digest, message in _new_messages(recording, event, told):
            lines.append(_message_line(message, digest, blobs))
        lines.append(canonical_json(json.loads(encode_event(event))))
        blob = getattr(event, "result_blob", None)
        if blob and recording.blob:
            blobs[blob] = recording.blob(blob)
    return [*lines, _seal_of([line.encode() for line in lines])], blobs


def written_messages(recording: Recording) -> Iterator[Message]:
    """The messages that the recording's own events name; a store gives it those of others too."""
    told: set[str] = set()
    for event in recording.events:
        yield from (message for _, message in _new_messages(recording, event, told))


def load_recording(path: Path) -> Recording:
    """A recording of a golden task.

    Raises:
        GoldenError: a line that is no event or message, not one whole run, or a line that is
            not as it was written.
        NewerFormatError: written by a newer flightlog.
    """
    events: list[Event] = []
    messages: dict[str, Message] = {}
    blob = _blob_reader(path.parent.parent / BLOBS_FOLDER, where=str(path))
    lines = _lines_of(path)
    seal = _last_seal(lines)
    check_format(_version_of(seal), where=str(path), newest=GOLDEN_VERSION)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            plain = json.loads(line)
            if isinstance(plain, dict) and plain.get("kind") == _MESSAGE_KIND:
                messages[plain["digest"]] = _message_of(plain, blob)
            elif not isinstance(plain, dict) or plain.get("kind") != _SEAL_KIND:
                events.append(decode_event(line))
        except (ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            raise GoldenError(
                f"not an event of a recording: {error}",
                where=f"{path}:{number}",
                hint="Restore the file from version control, or pin the run again.",
            ) from error
    recording = Recording(tuple(sorted(events, key=lambda event: event.seq)), messages, blob)
    if problem := problem_of_recording(recording) or _problem_of_seal(lines, seal):
        raise GoldenError(
            problem,
            where=str(path),
            hint="Restore the file from version control, or pin the run again.",
        )
    return recording


def _seal_of(lines: Sequence[bytes]) -> str:
    """The last line of a recording, over all lines before it."""
    seal = {
        "kind": _SEAL_KIND,
        "lines": len(lines),
        "digest": digest_of(b"\n".join(lines)),
        "golden_version": GOLDEN_VERSION,
    }
    return canonical_json(seal)


def _last_seal(lines: Sequence[bytes]) -> dict[str, Any] | None:
    last = next((line for line in reversed(lines) if line.strip()), b"")
    try:
        seal = json.loads(last)
    except (ValueError, RecursionError):
        return None
    return seal if isinstance(seal, dict) and seal.get("kind") == _SEAL_KIND else None


def _version_of(seal: Mapping[str, Any] | None) -> int:
    version = (seal or {}).get("golden_version")
    return version if type(version) is int else 0


def _problem_of_seal(lines: Sequence[bytes], seal: Mapping[str, Any] | None) -> str | None:
    if seal is None:
        return "the recording is not whole: it lacks the last line, which has its digest"
    # Version control may have changed the ends of the lines.
    told = [line.rstrip(b"\r") for line in lines if line.strip()][:-1]
    if json.loads(_seal_of(told)) != seal:
        return "a line of the recording is not as it was written"
    return None


def blob_names(path: Path) -> set[str]:
    """The digests of the blobs that a recording names.

    Raises:
        GoldenError: the recording cannot be read.
    """
    recording = load_recording(path)
    found = {event.result_blob for event in recording.tool_calls if event.result_blob}
    for line in _lines_of(path):
        if b'"text_blob"' in line:
            named = json.loads(line).get("text_blob")
            found |= {named} if isinstance(named, str) else set()
    return found


def problem_of_recording(recording: Recording) -> str | None:
    """What a bad merge or a lost part did to a recording; None when it is whole."""
    events = recording.events
    if not events:
        return "the recording is empty"
    run_ids = sorted({event.run_id for event in events})
    if len(run_ids) > 1:
        return f"the recording holds {len(run_ids)} runs: {', '.join(run_ids[:2])}"
    if len({event.seq for event in events}) < len(events):
        return "the recording holds an event twice"
    if recording.started is None or recording.stopped is None:
        missing = "run_started" if recording.started is None else "run_stopped"
        return f"the recording is not whole: it has no {missing}"
    return None


def _new_messages(
    recording: Recording, event: Event, told: set[str]
) -> Iterator[tuple[str, Message]]:
    for digest in _named(event):
        message = recording.messages.get(digest)
        if message is not None and digest not in told and message.role != "tool":
            told.add(digest)
            yield digest, message


def _named(event: Event) -> Iterable[str]:
    names = ("task_digest", "toolset_digest", "system_digest")
    yield from (digest for name in names if (digest := getattr(event, name, None)))
    yield from getattr(event, "prompt_added", ())
    if output := getattr(event, "output_digest", None):
        yield output


def _message_line(message: Message, digest: str, blobs: dict[str, str]) -> str:
    plain: dict[str, Any] = {"kind": _MESSAGE_KIND, "digest": digest, "role": message.role}
    if message.text is not None and len(message.text) > MAX_INLINE_CHARS:
        plain["text_blob"] = digest_of(message.text)
        blobs[plain["text_blob"]] = message.text
    elif message.text is not None:
        plain["text"] = message.text
    if message.tool_requests:
        plain["tool_requests"] = msgspec.to_builtins(message.tool_requests)
    if message.name is not None:
        plain["name"] = message.name
    return clean_text(canonical_json(plain))


def _message_of(plain: Mapping[str, Any], blob: Callable[[str], str]) -> Message:
    fields = {
        name: plain[name] for name in ("role", "text", "tool_requests", "name") if name in plain
    }
    message = msgspec.convert(fields, Message)
    if "text_blob" in plain:
        return msgspec.structs.replace(message, text=blob(plain["text_blob"]))
    return message


def _lines_of(path: Path) -> list[bytes]:
    raw = _bounded(path, MAX_RECORDING_BYTES)
    parts = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if parts > MAX_RECORDING_PARTS:
        raise GoldenError(
            f"it holds {parts:,} commas and brackets, more than {MAX_RECORDING_PARTS:,}",
            where=str(path),
            hint="Restore the file from version control, or pin the run again.",
        )
    return raw.split(b"\n")


def _bounded(path: Path, max_bytes: int) -> bytes:
    try:
        raw = read_regular(path, max_bytes)
    except OSError as error:
        raise GoldenError(f"cannot read it: {error.strerror}", where=str(path)) from error
    if len(raw) > max_bytes:
        raise GoldenError(
            f"it has more than {max_bytes:,} bytes",
            where=str(path),
            hint="Restore the file from version control, or pin the run again.",
        )
    return raw


def _blob_reader(folder: Path, *, where: str) -> Callable[[str], str]:
    def read(digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise GoldenError(f"{digest!r} is not the digest of a blob", where=where)
        path = folder / digest
        try:
            content = _bounded(path, MAX_BLOB_BYTES)
        except GoldenError as error:
            raise GoldenError(
                f"blob {digest} cannot be read: {error.what}",
                where=where,
                hint=f"Restore {path} from version control, or pin the run again.",
            ) from error
        if digest_of(content) != digest:
            raise GoldenError(
                "the blob's bytes have another digest than its name",
                where=str(path),
                hint="Restore it from version control, or pin the run again.",
            )
        return content.decode("utf-8", "replace")

    return read
