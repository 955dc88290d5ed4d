"""Events and messages with other texts: digests and references follow what is changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from flightlog.redact.pseudonyms import has_pseudonym
from flightlog.trace.canonical import canonical_args, digest_of_text
from flightlog.trace.events import Event, Label, ToolCall, ToolIntent
from flightlog.trace.messages import Message
from flightlog.trace.slices import utf8_size

RUN_IDS: Final = frozenset({"run_id", "parent_run_id", "source_run_id", "served_from"})
"""Names of runs: the caller looks for them."""
MESSAGE_DIGESTS: Final = ("task_digest", "system_digest", "toolset_digest", "output_digest")
CONTENT_DIGESTS: Final = frozenset(
    {*MESSAGE_DIGESTS, "args_digest", "result_digest", "idempotency_key", "state_key"}
)
_HEX_NAMES: Final = CONTENT_DIGESTS | {"config_digest", "result_blob"}
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_REMEMBERED: Final = 1 << 17

Clean = Callable[[str], str]


@lru_cache(maxsize=64)
def _names(kind: type[Event]) -> tuple[str, ...]:
    return tuple(kind.__struct_fields__)


def texts_of(event: Event) -> dict[str, str]:
    """The texts of an event by column: no enums, no digests, no labels."""
    return {
        name: value
        for name in _names(type(event))
        if type(value := getattr(event, name)) is str
        and not (name in _HEX_NAMES and _HEX.fullmatch(value))
    }


class Rewriter:
    """Remembers which messages were changed, so that events name them by their new digests."""

    __slots__ = ("_digests",)

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    @property
    def has_changed(self) -> bool:
        """True when a message was changed so far."""
        return bool(self._digests)

    def changed(self, before: str, after: str) -> None:
        """A message of the digest `before` is written under the digest `after`."""
        if before == after:
            return
        if len(self._digests) >= _REMEMBERED:
            self._digests.clear()
        self._digests[before] = after

    def references(self, event: Event) -> dict[str, Any]:
        """The columns of an event that name changed messages, as they are to be."""
        changed: dict[str, Any] = {}
        for name in MESSAGE_DIGESTS:
            new = self._digests.get(getattr(event, name, None) or "")
            if new is not None:
                changed[name] = new
        added = getattr(event, "prompt_added", ())
        if added:
            mapped = tuple(self._digests.get(digest, digest) for digest in added)
            if mapped != added:
                changed["prompt_added"] = mapped
        return changed


def consequences(
    event: Event, changed: dict[str, Any], key_of: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """What follows from changed arguments and results: their digests and sizes.

    Args:
        event: as it was.
        changed: its columns that are to be replaced.
        key_of: what stands for an idempotency key, which is a digest over the arguments, where
            these hold a pseudonym; None leaves it.
    """
    follows: dict[str, Any] = {}
    if "result" in changed:
        result = changed["result"]
        follows |= {"result_digest": digest_of_text(result), "result_bytes": utf8_size(result)}
    if not isinstance(event, (ToolCall, ToolIntent)):
        return follows
    if "args" in changed:
        args = canonical_args(changed["args"])  # another name may have another place
        follows |= {"args": args.text, "args_digest": args.digest}
        if isinstance(event, ToolCall):
            follows["args_flag"] = changed.get("args_flag") or event.args_flag or args.flag
    key = changed.get("idempotency_key") or event.idempotency_key
    if key_of is not None and type(key) is str and _HEX.fullmatch(key):
        args_text = follows.get("args", event.args)
        if type(args_text) is str and has_pseudonym(args_text):
            follows["idempotency_key"] = key_of(key)
    return follows


def clean_labels(labels: Any, clean: Callable[[str, str | None], str]) -> tuple[Label, ...] | None:
    """The labels with other texts; None where nothing changed.

    Args:
        labels: any; what is no tuple of labels is left alone.
        clean: gets a text, and for a value also the key that it stands under.
    """
    if type(labels) is not tuple or not all(type(one) is Label for one in labels):
        return None
    cleaned = tuple(
        Label(
            clean(one.key, None) if type(one.key) is str else one.key,
            clean(one.value, one.key) if type(one.value) is str else one.value,
        )
        for one in labels
    )
    return None if cleaned == labels else cleaned


def replaced(event: Event, changed: dict[str, Any]) -> Event:
    """The event with other columns; itself where there are none."""
    return msgspec.structs.replace(event, **changed) if changed else event


def message_of(message: Message) -> Message:
    """The message as texts, whatever was put in it."""
    return message if message.is_long else message.cleaned
