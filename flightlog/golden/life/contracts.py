"""How a contract changed: which checks are gone, which tolerances are looser.

Each replayed run keeps the contract that it was judged by, so that two sides of a comparison,
or a run and the folder of today, can be held against each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from flightlog.golden.judging.reading import plain_rules
from flightlog.golden.task import GoldenTask
from flightlog.replay.cassette import Recording
from flightlog.trace.canonical import canonical_json

CONTRACT: Final = "contract"
"""Name of the evaluation that holds it; it judges nothing, so `passed` is null."""
_WIDENING: Final = frozenset({"judge.stop_reasons", "recordings"})
"""Lists whose further items allow more."""
_IGNORED: Final = "ignore"
"""A value that turns a check off."""
_MAX_CHARS: Final = 120


class Way(StrEnum):
    """What a change does to the strength of a contract."""

    DELETED = "deleted"
    LOOSENED = "loosened"
    TIGHTENED = "tightened"
    CHANGED = "changed"

    @property
    def is_weaker(self) -> bool:
        """True where runs may pass now that failed before."""
        return self in (Way.DELETED, Way.LOOSENED)


@dataclass(frozen=True, slots=True)
class ContractChange:
    """One difference of two contracts.

    Attributes:
        way: what it does.
        key: where in task.yaml it stands.
        what: the difference, in words; out of files that others write.
    """

    way: Way
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.way} {self.key}: {self.what}"


def contract_text(golden: GoldenTask, recordings: Sequence[Recording] = ()) -> str:
    """What a run is judged by, as canonical JSON: checks, budgets, and whose writes are accepted.

    Args:
        golden: the contract.
        recordings: the accepted recordings.
    """
    return canonical_json(
        {
            "judge": _given(plain_rules(golden.judge)),
            "budgets": dict(golden.budgets),
            "recordings": sorted(one.run_id for one in recordings),
        }
    )


def contract_changes(before: str, after: str) -> list[ContractChange]:
    """What differs between two contracts, weaker ones first.

    Args:
        before, after: from `contract_text`; one that cannot be read differs as a whole.
    """
    if before == after:
        return []
    try:
        old, new = dict(_flat("", json.loads(before))), dict(_flat("", json.loads(after)))
    except (ValueError, RecursionError):
        return [ContractChange(Way.CHANGED, CONTRACT, "one of them cannot be read")]
    found = [
        change
        for key in sorted({*old, *new})
        for change in _change(key, old.get(key), new.get(key))
    ]
    return sorted(found, key=lambda one: (not one.way.is_weaker, one.key))


def _given(value: Any) -> Any:
    """Without what is empty, so that a new key with its default changes nothing."""
    if isinstance(value, Mapping):
        inner = {name: _given(item) for name, item in value.items()}
        return {name: item for name, item in inner.items() if item not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(f"{path}.{name}" if path else name, item)
    else:
        yield path, value


def _change(key: str, old: Any, new: Any) -> Iterator[ContractChange]:
    if old == new:
        return
    if isinstance(old, list) or isinstance(new, list):
        yield from _of_lists(key, old or [], new or [])
    elif new is None or new == _IGNORED:
        yield ContractChange(Way.DELETED, key, f"it was {_short(old)}")
    elif old is None or old == _IGNORED:
        yield ContractChange(Way.TIGHTENED, key, f"it is {_short(new)}")
    else:
        yield ContractChange(_way(old, new), key, f"{_short(old)} -> {_short(new)}")


def _way(old: Any, new: Any) -> Way:
    if isinstance(old, bool) or isinstance(new, bool):
        return Way.LOOSENED if old is True else Way.TIGHTENED
    if _is_range(old) and _is_range(new):
        return Way.LOOSENED if new[0] < old[0] or new[1] > old[1] else Way.TIGHTENED
    if not isinstance(old, (int, float)) or not isinstance(new, (int, float)):
        return Way.CHANGED
    return Way.LOOSENED if new > old else Way.TIGHTENED


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(item, (int, float)) for item in value)
    )


def _of_lists(key: str, old: list[Any], new: list[Any]) -> Iterator[ContractChange]:
    gone = [item for item in old if item not in new]
    more = [item for item in new if item not in old]
    widens = key in _WIDENING
    for item in gone:
        other = next((one for one in more if _other_value(item, one)), None)
        name = _other_value(item, other)
        if name and other is not None:
            more.remove(other)
            way = _way(item[name], other[name])
            what = f"{_short(item)} -> {_short(other)}"
            yield ContractChange(way, f"{key}[].{name}", what)
        else:
            way = Way.TIGHTENED if widens else Way.DELETED
            yield ContractChange(way, key, f"without {_short(item)}")
    for item in more:
        way = Way.LOOSENED if widens else Way.TIGHTENED
        yield ContractChange(way, key, f"with {_short(item)}")


def _other_value(old: Any, new: Any) -> str | None:
    """The one key in which two rules differ that are alike else: the rule's tolerance moved."""
    if not isinstance(old, dict) or not isinstance(new, dict) or old.keys() != new.keys():
        return None
    names = [name for name in old if old[name] != new[name]]
    is_amount = len(names) == 1 and not isinstance(old[names[0]], str)
    return names[0] if is_amount else None


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
