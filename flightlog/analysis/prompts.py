"""The full prompt of a model call, put together again from the recorded differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flightlog.errors import DamagedError, UnknownNameError, UsageError
from flightlog.trace.messages import Message, PromptDelta, ToolRequest

Rows = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]

_CALLS = """
SELECT store, seq, prompt_base_seq, prompt_kept, prompt_added
FROM base.model_calls
WHERE run_id = $run_id AND seq <= $seq AND ($store::VARCHAR IS NULL OR store = $store)
ORDER BY store, seq
"""
_BODIES = """
SELECT digest, role, coalesce(text, blob_text(store, text_blob)) AS text, tool_requests,
    tool_call_id, name
FROM base.messages
WHERE store = $store AND list_contains($digests::VARCHAR[], digest)
"""


def full_prompt(rows: Rows, run_id: str, seq: int, *, store: str | None) -> list[Message]:
    """All messages that model call `seq` of the run sent; see `Traces.prompt`."""
    calls = rows(_CALLS, {"run_id": run_id, "seq": seq, "store": store})
    holders = sorted({call["store"] for call in calls if call["seq"] == seq})
    if not holders:
        raise UnknownNameError(
            f"run {run_id!r} has no model call with seq {seq}",
            hint=f"list them: flightlog show {run_id}",
        )
    if len(holders) > 1:
        raise UsageError(
            f"run {run_id!r} is in several stores: {', '.join(holders)}", hint="pass store="
        )
    by_seq = {call["seq"]: call for call in calls if call["store"] == holders[0]}
    digests = _digests(by_seq, seq)
    bodies = {
        row["digest"]: message_of(row)
        for row in rows(_BODIES, {"store": holders[0], "digests": sorted(set(digests))})
    }
    missing = [digest for digest in digests if digest not in bodies]
    if missing:
        raise DamagedError(
            f"{len(missing)} of {len(digests)} messages of the prompt are missing",
            where=f"{holders[0]}, run {run_id}, seq {seq}",
            hint=f"first missing digest: {missing[0]}",
        )
    return [bodies[digest] for digest in digests]


def message_of(row: Mapping[str, Any]) -> Message:
    """One row of the messages table as a message."""
    requests = row["tool_requests"]
    return Message(
        role=row["role"],
        text=row["text"],
        tool_requests=tuple(msgspec.json.decode(requests, type=list[ToolRequest]))
        if requests
        else (),
        tool_call_id=row["tool_call_id"],
        name=row["name"],
    )


def _digests(calls: Mapping[int, Mapping[str, Any]], seq: int) -> tuple[str, ...]:
    chain = [calls[seq]]
    while (base := chain[-1]["prompt_base_seq"]) is not None:
        if base not in calls or base >= chain[-1]["seq"]:
            raise DamagedError(f"prompt of model call {seq} builds on call {base}, which is absent")
        chain.append(calls[base])
    digests: tuple[str, ...] = ()
    for call in reversed(chain):
        delta = PromptDelta(
            call["prompt_base_seq"], call["prompt_kept"], tuple(call["prompt_added"] or ())
        )
        digests = delta.applied_to(digests)
    return digests
