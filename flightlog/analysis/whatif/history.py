"""Every call of some runs, as arrays in the order in which each run made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from flightlog.analysis.stats.sample import Bools, Floats, Ints
from flightlog.analysis.window import Window

_FOLDER: Final = "window"


@dataclass(frozen=True, eq=False)
class History:
    """The calls of the agents of some runs. Arrays have one entry per call, shape (calls,).

    Attributes:
        window: the runs.
        run: number of the run in the window, ascending.
        step: of the loop; 0 unknown.
        s: when it was recorded, seconds since the epoch.
        is_tool: True of a tool call, False of a model call.
        name: number of the tool or model in `names`.
        names: tools and models.
        has_run: False of a call that the gateway refused.
        is_ok: True when it succeeded.
        is_write: True of a tool call that changes something, or may.
        same: equal for calls of one tool with equal arguments.
        told: equal for equal observations.
        usd: cost; 0 where there is no price.
        tokens: of a model call, both ways; 0 unknown.
        lost_policy: True of a model call that was sent without the policy message.
        first: of each run that has calls, place of its first call, shape (runs with calls,).
    """

    window: Window
    run: Ints
    step: Ints
    s: Floats
    is_tool: Bools
    name: Ints
    names: tuple[str, ...]
    has_run: Bools
    is_ok: Bools
    is_write: Bools
    same: Ints
    told: Ints
    usd: Floats
    tokens: Floats
    lost_policy: Bools
    first: Ints

    def __len__(self) -> int:
        return len(self.run)

    def counted(self, values: Bools | Floats) -> Floats:
        """Running total within each run, the call itself included, shape (calls,)."""
        total = np.cumsum(values, dtype=np.float64)
        before = np.concatenate([[0.0], total])[self.first]
        lengths = np.diff(np.append(self.first, len(self.run)))
        found: Floats = total - np.repeat(before, lengths)
        return found

    def is_first_of(self, *parts: Ints | Bools) -> Bools:
        """True of a call that is the first in its run with these values, shape (calls,)."""
        if not len(self.run):
            return np.zeros(0, dtype=np.bool_)
        order = np.lexsort((np.arange(len(self.run)), *reversed(parts), self.run))
        is_new = np.ones(len(self.run), dtype=np.bool_)
        is_equal = np.ones(len(self.run) - 1, dtype=np.bool_)
        for part in (self.run, *parts):
            is_equal &= part[order][1:] == part[order][:-1]
        is_new[order[1:]] = ~is_equal
        return is_new


def history_of(window: Window, runs: Ints | None = None) -> History:
    """The calls of a window, or of some of its runs."""
    table = window.ask(_FOLDER, "history", runs=None if runs is None else runs.tolist())
    run = _array(table, "run").astype(np.int64)
    names = table.column("name").combine_chunks().dictionary_encode(null_encoding="encode")
    return History(
        window,
        run=run,
        step=_array(table, "step").astype(np.int64),
        s=_array(table, "s").astype(np.float64),
        is_tool=_array(table, "is_tool").astype(np.bool_),
        name=names.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        names=tuple(str(name) for name in names.dictionary.to_pylist()),
        has_run=_array(table, "has_run").astype(np.bool_),
        is_ok=_array(table, "is_ok").astype(np.bool_),
        is_write=_array(table, "is_write").astype(np.bool_),
        same=_hashes(table, "same"),
        told=_hashes(table, "told"),
        usd=_array(table, "usd").astype(np.float64),
        tokens=_array(table, "tokens").astype(np.float64),
        lost_policy=_array(table, "lost_policy").astype(np.bool_),
        first=np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]]))
        if len(run)
        else np.zeros(0, dtype=np.int64),
    )


def _array(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = table.column(name).combine_chunks().to_numpy(zero_copy_only=False)
    return found


def _hashes(table: pa.Table, name: str) -> Ints:
    column = table.column(name).combine_chunks().fill_null(0).cast(pa.uint64())
    found: Ints = column.to_numpy(zero_copy_only=False).view(np.int64)
    return found
