"""What an agent may do when its prompt gets too long: functions for `Agent.fit`.

Each takes the whole conversation and gives the messages that are sent. What is
left out is recorded as truncated, so that nobody has to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flightlog.errors import ConfigError
from flightlog.trace.messages import Message

Fit = Callable[[tuple[Message, ...]], Sequence[Message]]
"""From the whole conversation to the messages that are sent."""


def keep_last(messages: int) -> Fit:
    """Sends the last messages only, as prototypes do: the system policy goes first.

    Args:
        messages: how many, from 1.

    Raises:
        ConfigError: less than one.
    """
    _check(messages=messages)

    def fit(conversation: tuple[Message, ...]) -> Sequence[Message]:
        return _without_orphans(conversation[-messages:])

    return fit


def keep_policy_and_last(messages: int | None = None, *, max_bytes: int | None = None) -> Fit:
    """Sends the system messages, the first user message and as many of the last as fit.

    A tool result is never separated from the message that asked for it, which
    providers refuse. The system messages and the first user message are sent in
    any case; so are the latest request for tools and its results.

    Args:
        messages: how many in all, from 1; None is no limit.
        max_bytes: UTF-8 bytes in all, from 1; None is no limit.

    Raises:
        ConfigError: a limit below one, or no limit at all.
    """
    if messages is None and max_bytes is None:
        raise ConfigError("no limit to fit a prompt to", hint="Give messages or max_bytes.")
    _check(messages=messages, max_bytes=max_bytes)

    def fit(conversation: tuple[Message, ...]) -> Sequence[Message]:
        first_user = next((m for m in conversation if m.role == "user"), None)
        pinned = [m.role == "system" or m is first_user for m in conversation]
        kept = {place for place, is_pinned in enumerate(pinned) if is_pinned}
        left = None if messages is None else messages - len(kept)
        size = sum(conversation[place].size_bytes for place in kept)
        for number, turn in enumerate(reversed(_turns(conversation, pinned))):
            size += sum(conversation[place].size_bytes for place in turn)
            is_over = (left is not None and len(turn) > left) or (
                max_bytes is not None and size > max_bytes
            )
            if is_over and number > 0:
                break
            kept.update(turn)
            left = None if left is None else left - len(turn)
        return tuple(conversation[place] for place in sorted(kept))

    return fit


def _turns(conversation: Sequence[Message], pinned: Sequence[bool]) -> list[list[int]]:
    """Places of messages that belong together: a request for tools and its results."""
    turns: list[list[int]] = []
    for place, message in enumerate(conversation):
        if pinned[place]:
            continue
        if message.role == "tool" and turns:
            turns[-1].append(place)
        else:
            turns.append([place])
    return turns


def _without_orphans(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages from the first one on that is no tool result without its request."""
    start = next((i for i, message in enumerate(messages) if message.role != "tool"), len(messages))
    return tuple(messages[start:])


def _check(**limits: int | None) -> None:
    for name, limit in limits.items():
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ConfigError(f"{name}={limit!r} is no limit", hint="Give a whole number from 1.")
