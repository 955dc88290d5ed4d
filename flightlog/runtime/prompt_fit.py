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

    Results whose request is cut off are left out, which providers refuse; a step
    that has more of them than are sent is sent whole.

    Args:
        messages: how many, from 1.

    Raises:
        ConfigError: less than one.
    """
    _check(messages=messages)

    def fit(conversation: tuple[Message, ...]) -> Sequence[Message]:
        last = conversation[-messages:]
        start = next((place for place, one in enumerate(last) if one.role != "tool"), None)
        if start is not None:
            return last[start:]
        return tuple(conversation[place] for turn in _turns(conversation)[-1:] for place in turn)

    return fit


def keep_policy_and_last(messages: int | None = None, *, max_bytes: int | None = None) -> Fit:
    """Sends system messages, the first and the last user message, and what fits of the latest.

    A request for tools is never separated from its results, which providers refuse.
    Those messages are sent in any case; so is what the conversation ends with: the
    latest request for tools with its results. Only these can exceed a limit.

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
        turns = _turns(conversation)
        kept = _pinned(conversation)
        kept.update(turns[-1] if turns else ())
        count, size = len(kept), sum(conversation[place].size_bytes for place in kept)
        for turn in reversed(turns):
            added = [place for place in turn if place not in kept]
            count += len(added)
            size += sum(conversation[place].size_bytes for place in added)
            if added and (
                (messages is not None and count > messages)
                or (max_bytes is not None and size > max_bytes)
            ):
                break
            kept.update(added)
        return tuple(conversation[place] for place in sorted(kept))

    return fit


def _pinned(conversation: Sequence[Message]) -> set[int]:
    """Places of the policy and of what the user wants."""
    users = [place for place, message in enumerate(conversation) if message.role == "user"]
    system = (place for place, message in enumerate(conversation) if message.role == "system")
    return {*system, *users[:1], *users[-1:]}


def _turns(conversation: Sequence[Message]) -> list[list[int]]:
    """Places of messages that belong together: a request for tools and its results."""
    turns: list[list[int]] = []
    for place, message in enumerate(conversation):
        if message.role == "tool" and turns:
            turns[-1].append(place)
        else:
            turns.append([place])
    return turns


def _check(**limits: int | None) -> None:
    for name, limit in limits.items():
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ConfigError(f"{name}={limit!r} is no limit", hint="Give a whole number from 1.")
