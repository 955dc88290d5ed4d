"""Keeps secrets out of the repository: a recording that holds one cannot become a golden."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flightlog.errors import GoldenError
from flightlog.golden.recording_files import written_messages
from flightlog.redact.finds import SlowError
from flightlog.redact.policy import Redaction
from flightlog.redact.redactor import Redactor
from flightlog.redact.trial import explained, trial_redactor
from flightlog.replay.cassette import Recording
from flightlog.trace.events import encode_event
from flightlog.trace.terminal_text import escape_terminal

MAX_NAMED: Final = 5
"""Finds that an error names; it counts the others."""
_MAX_NAME_CHARS: Final = 60
_OURS: Final = frozenset({"kind", "run_id", "parent_run_id", "prompt_added", "withheld"})


def secrets_redactor(redaction: Redaction | None, environ: Mapping[str, str]) -> Redactor:
    """What looks for secrets: the project's settings, whatever the run was recorded with."""
    return trial_redactor(redaction or Redaction(), environ)


def refuse_secrets(recording: Recording, redactor: Redactor) -> None:
    """Refuses a recording in which the redactor finds something; values are never shown.

    Args:
        recording: the run to be pinned.
        redactor: from `secrets_redactor`.

    Raises:
        GoldenError: with field and kind of each find, or where there was too much to look at.
    """
    found: list[str] = []
    for place, text in _texts(recording):
        try:
            kinds = sorted({one.rule for one in explained(redactor, text)})
        except SlowError as error:
            raise GoldenError(
                f"{place} cannot be looked through for secrets: {error}",
                where=f"run {recording.run_id}",
                hint="Shorten it, or raise redaction.max_seconds in flightlog.yaml.",
            ) from error
        found += [f"{place}: {kind}" for kind in kinds]
    if not found:
        return
    more = f"; and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    raise GoldenError(
        f"the run holds what should not be in a repository: {'; '.join(found[:MAX_NAMED])}{more}",
        where=f"run {recording.run_id}",
        hint="Record it anew with redaction on, or import the trace anew; what is no secret is "
        "left alone by redaction.off and redaction.ignored_names in flightlog.yaml.",
    )


def _texts(recording: Recording) -> Iterator[tuple[str, str]]:
    """Every text that would be written, each with where it stands."""
    for event in recording.events:
        plain = json.loads(encode_event(event))
        place = f"event {event.seq} ({plain.get('kind')})"
        blob = getattr(event, "result_blob", None)
        if blob and recording.blob:
            plain["result"] = recording.blob(blob)
        yield from _in_value(place, plain)
    for message in written_messages(recording):
        place = f"{_short(message.role)} message"
        texts = (("text", message.text), ("name", message.name))
        yield from ((f"{place}, {name}", text) for name, text in texts if text)
        for request in message.tool_requests:
            yield f"{place}, request of {_short(request.name)}", request.arguments


def _in_value(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for item in value:
            yield from _in_value(place, item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _OURS and not name.endswith(("_digest", "_blob")):
                yield from _in_value(f"{place}, {_short(name)}", item)


def _short(text: str) -> str:
    return escape_terminal(text, max_chars=_MAX_NAME_CHARS)
