"""Labellings: which runs would be called candidate if the two sides were the same.

Under the hypothesis that nothing changed, the arms of a task's runs could be
swapped freely within the task (and within the session, where both arms ran in
it). Every test and every bound of the gate compares the observed labelling
with such relabellings; nothing is assumed about distributions.

Source: permutation tests within strata (Pesarin and Salmaso 2010, ch. 2;
Lehmann and Romano 2005, ch. 15).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flightlog.analysis.stats.sample import UNKNOWN, Bools, Floats, Ints, Sample

LABELS_PER_BLOCK = 4_000_000
MOST_LABELS = 60_000_000
"""Runs x labellings above which their normal limit stands for them (`stats.normal`)."""
FEWEST_SHUFFLES = 999
MOST_PATTERNS = 5_000


@dataclass(frozen=True, slots=True)
class Sessions:
    """Whether the two arms ran together.

    Attributes:
        strata: stratum of each run; runs are relabelled within it only.
        are_strata: True when sessions split the strata.
        is_confounded: True when no session holds runs of both arms.
        baseline_sessions: number of known sessions of the baseline.
    """

    strata: Ints
    are_strata: bool
    is_confounded: bool
    baseline_sessions: int


def sessions_of(sample: Sample) -> Sessions:
    """The strata: task, or task and session once any session holds both arms.

    Runs of unknown session, and of sessions with one arm only, then keep
    their arm: swapping them would mix the session's effect into the arm's.
    """
    session, arms = sample.session, sample.is_candidate
    if session is None:
        return Sessions(sample.task, are_strata=False, is_confounded=True, baseline_sessions=0)
    known = session != UNKNOWN
    base, cand = np.unique(session[known & ~arms]), np.unique(session[known & arms])
    shared = np.intersect1d(base, cand)
    if not shared.size:
        return Sessions(
            sample.task, are_strata=False, is_confounded=True, baseline_sessions=len(base)
        )
    block = np.where(np.isin(session, shared), session, -2 - arms.astype(np.int64))
    _, block = np.unique(block, return_inverse=True)
    _, strata = np.unique(sample.task * (block.max() + 1) + block, return_inverse=True)
    return Sessions(
        strata.astype(np.int64), are_strata=True, is_confounded=False, baseline_sessions=len(base)
    )


class Watcher(Protocol):
    """Something that needs the labels themselves, and no sum of scores."""

    def see(self, rows: slice, labels: Bools) -> None:
        """Looks at one block of labellings, columns in the order of `Labellings.order`."""
        ...


@dataclass(frozen=True, eq=False)
class _Group:
    """Strata of one size: each row of `runs` holds the runs of one stratum."""

    runs: Ints
    candidates: int
    observed: Bools


class Labellings:
    """The observed labelling (row 0) and its relabellings.

    All labellings are enumerated where there are at most `shuffles` + 1 of
    them; otherwise `shuffles` are drawn. Rows come in blocks, so memory does
    not grow with their number.

    Attributes:
        order: rows of the sample in the order of a block's columns.
        row_count: labellings, the observed one included.
        is_exact: True when they are all there are.
        seen_rows: labellings that watchers see.
        least_p: smallest p-value that all labellings there are could give.
        min_p: smallest p-value these give.
        is_free: runs that change their arm in some of them.
    """

    is_normal = False

    def __init__(self, strata: Ints, is_candidate: Bools, *, shuffles: int, seed: int) -> None:
        self._groups, fixed = _group(strata, is_candidate)
        self._fixed_labels = is_candidate[fixed]
        self.is_free: Bools = np.ones(len(strata), np.bool_)
        self.is_free[fixed] = False
        self._seed = seed
        self.order = np.concatenate([fixed, *(group.runs.ravel() for group in self._groups)])
        total = _count(self._groups, limit=10**12)
        self.is_exact = total <= shuffles + 1
        self.row_count = total if self.is_exact else shuffles + 1
        self.seen_rows = self.row_count
        self.least_p = 1 / total
        self.min_p = max(self.least_p, 1 / self.row_count)

    def sums(self, columns: Floats, watchers: Sequence[Watcher]) -> Floats:
        """Sums of the columns over each labelling's candidate runs; row 0 is the observed one.

        Args:
            columns: runs x columns, rows in the order of the sample.
            watchers: see each block of labels too.
        """
        ordered = np.ascontiguousarray(columns[self.order])
        sums: Floats = np.empty((self.row_count, columns.shape[1]))
        for rows, labels in self.blocks():
            if columns.shape[1]:
                sums[rows] = labels.astype(np.float64) @ ordered
            for watcher in watchers:
                watcher.see(rows, labels)
        return sums

    def blocks(self) -> Iterator[tuple[slice, Bools]]:
        """Blocks of labellings, in order: their rows, and True where a run is candidate."""
        rng = np.random.Generator(np.random.PCG64(self._seed))
        size = max(1, LABELS_PER_BLOCK // max(1, len(self.order)))
        for start in range(0, self.row_count, size):
            rows = slice(start, min(start + size, self.row_count))
            yield rows, self._block(rows, rng)

    def _block(self, rows: slice, rng: np.random.Generator) -> Bools:
        count = rows.stop - rows.start
        block = np.empty((count, len(self.order)), np.bool_)
        at = len(self._fixed_labels)
        block[:, :at] = self._fixed_labels
        radix = np.arange(rows.start, rows.stop)
        for group in self._groups:
            width = group.runs.size
            target = block[:, at : at + width].reshape(count, *group.runs.shape)
            if self.is_exact:
                labels, radix = _enumerated(group, radix)
            else:
                labels = _drawn(group, count, rng)
                if rows.start == 0:
                    labels[0] = group.observed
            target[...] = labels
            block[:, at : at + width] = target.reshape(count, width)
            at += width
        return block


def _group(strata: Ints, is_candidate: Bools) -> tuple[list[_Group], Ints]:
    """Groups of strata alike in size, and the runs that cannot change their label."""
    order = np.lexsort((np.arange(strata.size), strata))
    size = np.bincount(strata)
    candidates = np.bincount(strata, is_candidate).astype(np.int64)
    is_free = (candidates > 0) & (candidates < size)
    fixed = np.flatnonzero(~is_free[strata])
    groups = []
    shapes = sorted(
        {(int(n), int(c)) for n, c in zip(size[is_free], candidates[is_free], strict=True)}
    )
    for n, c in shapes:
        members = is_free & (size == n) & (candidates == c)
        runs = order[members[strata[order]]].reshape(-1, n)
        groups.append(_Group(runs, c, is_candidate[runs]))
    return groups, fixed


def _count(groups: list[_Group], *, limit: int) -> int:
    """Number of labellings, or `limit` when there are more."""
    total = 1
    for group in groups:
        strata, size = group.runs.shape
        for _ in range(strata):
            total *= math.comb(size, group.candidates)
            if total >= limit:
                return limit
    return total


def _patterns(size: int, candidates: int) -> Bools:
    """All ways to label `candidates` of `size` runs, one per row."""
    chosen = list(itertools.combinations(range(size), candidates))
    patterns = np.zeros((len(chosen), size), np.bool_)
    patterns[np.arange(len(chosen))[:, None], np.array(chosen)] = True
    return patterns


def _enumerated(group: _Group, radix: Ints) -> tuple[Bools, Ints]:
    """Labels of a group for the labellings numbered `radix`; number 0 is the observed one."""
    patterns = _patterns(group.runs.shape[1], group.candidates)
    labels = np.empty((radix.size, *group.runs.shape), np.bool_)
    for stratum, observed in enumerate(group.observed):
        first = int(np.flatnonzero((patterns == observed).all(axis=1))[0])
        labels[:, stratum] = patterns[(radix % len(patterns) + first) % len(patterns)]
        radix = radix // len(patterns)
    return labels, radix


def _drawn(group: _Group, count: int, rng: np.random.Generator) -> Bools:
    """`count` random labellings of a group, each equally likely."""
    strata, size = group.runs.shape
    if math.comb(size, group.candidates) <= MOST_PATTERNS:
        patterns = _patterns(size, group.candidates)
        drawn: Bools = patterns[rng.integers(0, len(patterns), (count, strata), np.int16)]
        return drawn
    labels = np.zeros((count, strata, size), np.bool_)
    for row in range(count):
        keys = rng.random((strata, size), np.float32)
        chosen = np.argpartition(keys, group.candidates - 1, axis=1)[:, : group.candidates]
        labels[row, np.arange(strata)[:, None], chosen] = True
    return labels
