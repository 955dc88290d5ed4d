"""The sequential gate: both sides replayed in turn, round by round, until the verdict is settled.

Round r has k_r trials per task and side, and spends the part (k_r - k_{r-1}) / k_max of the
error rate, for DRIFT and for the bounds of OK alike. By the union bound any number of looks
together keeps the rate, whatever the data are and whenever it stops.

Source: alpha spending, Lan and DeMets 1983, with a linear function; Pocock-type designs come
out alike, O'Brien and Fleming's need 1.3 to 1.8 times the trials to see a drift.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import LEAST_ALPHA, compare
from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.gate.selection import Side, Term
from flightlog.analysis.gate.verdict import Decision, Sequential, Strength, Verdict
from flightlog.errors import GoldenError, NothingToCompareError, UsageError
from flightlog.golden.entries import GoldenEntry
from flightlog.golden.judging.verdicts import check_judgeable
from flightlog.golden.replay_report import TrialReport
from flightlog.golden.replay_side import ReplaySide
from flightlog.golden.schedule import Spending, play_all
from flightlog.runtime.cancel import CancelToken

DEFAULT_ROUNDS = (1, 2, 3, 5, 8)
ALPHA = 0.05
USD_DIGITS = 9
"""Beyond these a sum depends on the order of its parts."""
_Todo: TypeAlias = tuple[ReplaySide, GoldenEntry, int]


@dataclass(frozen=True)
class Demands:
    """What the gate compares, and when it is content.

    Attributes:
        metrics: what is compared.
        gated: names of those that can fail the gate; None leaves it to the table.
        rounds: trials per task and side after each round, rising.
        alpha: error rate over all gated metrics and rounds together.
        needs_confirmed: a drift that is only likely does not end it.
    """

    metrics: Sequence[Metric]
    gated: frozenset[str] | None = None
    rounds: tuple[int, ...] = DEFAULT_ROUNDS
    alpha: float = ALPHA
    needs_confirmed: bool = False

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in itertools.pairwise((0, *self.rounds)))
        if not self.rounds or not rising:
            raise UsageError(
                f"rounds {', '.join(map(str, self.rounds)) or 'none'} do not rise from 1",
                hint="Give the trials after each round, such as 1,2,3,5,8.",
            )
        least = min(self.alpha_of(number) for number in range(len(self.rounds)))
        if least < LEAST_ALPHA:
            raise UsageError(
                f"a round would get {least:.2g} of the error rate, less than {LEAST_ALPHA:g}",
                hint="Take fewer rounds, or more trials in the smallest one.",
            )

    def alpha_of(self, number: int) -> float:
        """The part of the error rate that a round spends, from 0."""
        before = self.rounds[number - 1] if number else 0
        return self.alpha * (self.rounds[number] - before) / self.rounds[-1]

    def is_settled(self, verdict: Verdict) -> bool:
        """True where more trials cannot change what the gate says.

        That is on the first drift, and once every gated metric is shown to be fine: where void
        replays or lost tasks forbid OK even so, further trials would not help.
        """
        gated = [metric for metric in verdict.metrics if metric.is_gated]
        drifted = [metric for metric in gated if metric.decision is Decision.DRIFT]
        if self.needs_confirmed:
            drifted = [metric for metric in drifted if metric.strength is Strength.CONFIRMED]
        fine = (Decision.OK, Decision.IMPROVED, Decision.UNAVAILABLE)
        return bool(drifted) or all(metric.decision in fine for metric in gated)


@dataclass(frozen=True)
class Looked:
    """What one round gave.

    Attributes:
        number: of the round, from 1.
        verdict: after it.
        is_last: none follows.
        is_capped: the spending cap left trials of it undone.
        usd: spent so far.
    """

    number: int
    verdict: Verdict
    is_last: bool
    is_capped: bool
    usd: float


def run_rounds(
    entries: Sequence[GoldenEntry],
    sides: tuple[ReplaySide, ReplaySide],
    demands: Demands,
    *,
    max_usd: float | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Iterator[Looked]:
    """Replays both sides round by round, and gives the verdict after each; the last is settled,
    out of rounds, or out of money.

    The baseline and the candidate of one trial follow each other, in random order, so that the
    day and the hour are the same for both. A session that was interrupted goes on: finished
    trials are kept, and rounds that were decided are decided again alike.

    Args:
        entries: golden tasks.
        sides: baseline and candidate, of one session and one recorder.
        demands: what is compared, and the plan of the rounds.
        max_usd: spending cap of both sides together.
        on_progress: called with trials done and trials of the whole plan.

    Raises:
        GoldenError: the sides do not belong together.
        PriceError: there is a cap, and what a trial cost is unknown.
    """
    base, cand = sides
    if base.variant == cand.variant or base.session_id != cand.session_id:
        raise GoldenError(
            "both sides of a gate need names of their own, and one session",
            hint="Give each side a variant.",
        )
    for entry in entries:
        has_grader = base.how.grader is not None and cand.how.grader is not None
        check_judgeable(entry.golden, has_grader=has_grader, where=str(entry.folder))
    finished = {side.variant: side.finished(entries) for side in sides}
    spending = Spending(max_usd)
    for reports in finished.values():
        for report in reports.values():
            spending.add(report.cost_usd)
    done = itertools.count(1 + sum(map(len, finished.values())))
    planned = 2 * len(entries) * demands.rounds[-1]
    before = 0
    for number, trials in enumerate(demands.rounds):
        todo = [
            one
            for one in _interleaved(entries, sides, range(before, trials))
            if (one[1].name, one[2]) not in finished[one[0].variant]
        ]
        played = play_all(
            todo,
            _play,
            cost_of=lambda report: report.cost_usd,
            concurrency=cand.how.concurrency,
            spending=spending,
            on_done=lambda: on_progress(next(done), planned),
        )
        is_capped = bool(played.skipped)
        verdict = _verdict(sides, demands, number)
        is_last = is_capped or demands.is_settled(verdict) or trials == demands.rounds[-1]
        per_trial = spending.usd / spending.trials if spending.trials else None
        saved = planned - 2 * len(entries) * trials
        told = Sequential(
            round=number + 1,
            rounds=demands.rounds,
            trials=trials,
            alpha=demands.alpha,
            session_id=base.session_id,
            saved_trials=saved,
            planned_trials=planned,
            saved_usd=None if per_trial is None else round(per_trial * saved, USD_DIGITS),
            spent_usd=round(spending.usd, USD_DIGITS) if spending.trials else None,
            is_capped=is_capped,
        )
        yield Looked(
            number + 1, replace(verdict, sequential=told), is_last, is_capped, spending.usd
        )
        if is_last:
            return
        before = trials


def _play(todo: _Todo, cancel: CancelToken) -> TrialReport:
    side, entry, number = todo
    return side.play(entry, number, cancel)


def _interleaved(
    entries: Sequence[GoldenEntry], sides: tuple[ReplaySide, ReplaySide], numbers: range
) -> Iterator[_Todo]:
    """All trials of these numbers: tasks in random order, and both sides of a task in a row.

    The order is the same in every run of the same plan; a session that goes on needs that.
    """
    for number in numbers:
        order = random.Random(number)  # noqa: S311  (it orders trials)
        shuffled = list(entries)
        order.shuffle(shuffled)
        for entry in shuffled:
            first = order.random() < 0.5
            for side in sides if first else sides[::-1]:
                yield side, entry, number


def _verdict(sides: tuple[ReplaySide, ReplaySide], demands: Demands, number: int) -> Verdict:
    session = sides[0].session_id
    base, cand = (
        Side(
            side.variant,
            (Term("variant", side.variant), Term("session_id", session)),
            trials=demands.rounds[number],
        )
        for side in sides
    )
    sides[0].recorder.sync()
    with Traces(sides[0].recorder.store_path) as traces:
        try:
            return compare(
                traces,
                base,
                cand,
                metrics=demands.metrics,
                gated=demands.gated,
                alpha=demands.alpha_of(number),
            )
        except NothingToCompareError as error:
            raise NothingToCompareError(
                error.what, where=error.where, hint=f"{error.hint} Session {session}."
            ) from error
