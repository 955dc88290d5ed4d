"""A sink before a sink: no known value of a credential passes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from flightlog.redact.scrubber import Scrubber
from flightlog.trace.canonical import canonical_args, digest_of_bytes
from flightlog.trace.events import EVENT_TYPES, Event, Label, ToolCall, ToolIntent
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink

_KEPT: Final = frozenset({"run_id", "parent_run_id", "source_run_id", "served_from"})
"""Names of runs: the caller looks for them, and the library makes them."""
_DIGEST: Final = re.compile(r"[0-9a-f]{32}")
_MESSAGE_DIGESTS: Final = ("task_digest", "system_digest", "toolset_digest", "output_digest")
_TEXTS: Final = {
    kind: tuple(name for name in kind.__struct_fields__ if name not in _KEPT)
    for kind in EVENT_TYPES
}


class ScrubbingSink:
    """Passes events and messages on without any known value of a credential.

    Digests fit what is passed on: those of changed messages, arguments and results are
    those of the changed ones.

    Args:
        sink: where the events go; its other attributes, such as `control`, are this one's too.
        scrubber: knows the values of one run.
    """

    def __init__(self, sink: Sink, scrubber: Scrubber) -> None:
        self._sink = sink
        self._scrubber = scrubber
        self._digests: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sink, name)

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        """As `Sink.emit`."""
        passed = [self._cleaned(message) for message in messages]
        return self._sink.emit(self._event(event), messages=passed, durable=durable)

    def _cleaned(self, message: Message) -> Message:
        clean = self._scrubber.clean_message(message)
        if clean is not message:
            self._digests[message.digest] = clean.digest
        return clean

    def _event(self, event: Event) -> Event:
        changed = self._mapped(event) if self._digests else {}
        texts = {
            name: value
            for name in _TEXTS[type(event)]
            if type(value := getattr(event, name)) is str and not _DIGEST.fullmatch(value)
        }
        clean = self._scrubber.clean
        # One look at all texts of an event, since nearly always there is nothing to find.
        if self._scrubber.holds("\0".join(texts.values())):
            for name, text in texts.items():
                if (cleaned := clean(text)) != text:
                    changed[name] = cleaned
            changed |= _consequences(event, changed)
        labels = getattr(event, "labels", ())
        if labels:
            cleaned_labels = tuple(Label(clean(one.key), clean(one.value)) for one in labels)
            if cleaned_labels != labels:
                changed["labels"] = cleaned_labels
        return msgspec.structs.replace(event, **changed) if changed else event

    def _mapped(self, event: Event) -> dict[str, Any]:
        """References to messages that were changed."""
        changed: dict[str, Any] = {}
        for name in _MESSAGE_DIGESTS:
            new = self._digests.get(getattr(event, name, None) or "")
            if new is not None:
                changed[name] = new
        added = getattr(event, "prompt_added", ())
        mapped = tuple(self._digests.get(digest, digest) for digest in added)
        if mapped != added:
            changed["prompt_added"] = mapped
        return changed


def _consequences(event: Event, changed: dict[str, Any]) -> dict[str, Any]:
    """What follows from changed arguments and results: their digests and sizes."""
    follows: dict[str, Any] = {}
    if "result" in changed:
        raw = changed["result"].encode("utf-8", "surrogatepass")
        follows |= {"result_digest": digest_of_bytes(raw), "result_bytes": len(raw)}
    if "args" in changed and isinstance(event, (ToolCall, ToolIntent)):
        args = canonical_args(changed["args"])  # another name may have another place
        follows |= {"args": args.text, "args_digest": args.digest}
        if isinstance(event, ToolCall):
            follows["args_flag"] = changed.get("args_flag") or event.args_flag or args.flag
    return follows
