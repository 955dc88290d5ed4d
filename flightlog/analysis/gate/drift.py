"""The drift check: two sides of a store, paired by task, judged metric by metric."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.contributions import task_changes
from flightlog.analysis.gate.explanations import explanations_of
from flightlog.analysis.gate.metrics import ALWAYS_GATED, Metric, resolved, select_metrics
from flightlog.analysis.gate.pairing import Pairs, pair
from flightlog.analysis.gate.reliability import reliability_of
from flightlog.analysis.gate.selection import Side
from flightlog.analysis.gate.table import custom_of
from flightlog.analysis.gate.tails import tails_of
from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Spike, Verdict
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import Judgement, judge
from flightlog.analysis.stats.labellings import FEWEST_SHUFFLES
from flightlog.analysis.stats.sample import UNKNOWN, Sample
from flightlog.analysis.wording import headline
from flightlog.errors import UsageError

_RANK = {Decision.DRIFT: 0, Decision.INCONCLUSIVE: 1, Decision.OK: 2, Decision.IMPROVED: 3}
STORM_METRIC = "tool_calls_per_run"
LEAST_ALPHA, MOST_ALPHA = 0.001, 0.5
NAMED = 3


def compare(
    traces: Traces,
    baseline: str | Side = "baseline",
    candidate: str | Side = "candidate",
    *,
    metrics: Iterable[str | Metric] | None = None,
    gated: Iterable[str] | None = None,
    alpha: float = 0.05,
    shuffles: int = 4_999,
    interleaved: bool = False,
) -> Verdict:
    """Compares two sides and says what drifted.

    Runs pair by suite, task and task content, one row per started run. Void
    replays (stop reason replay_miss) and runs that still go on are listed and
    not compared. The same data give the same verdict, byte for byte.

    Args:
        traces: open stores.
        baseline: a side such as `variant=baseline`; a bare word is a variant.
        candidate: the other side.
        metrics: names of metrics, or metrics with tolerances of their own from
            `metric_table`; None for all.
        gated: names of the metrics that can fail the check, the others being
            advisory; success gates beside them where a run records it. None
            leaves it to the table of metrics.
        alpha: share of false alarms over all gated metrics together, 0.001 to 0.5.
        shuffles: labellings drawn, at least 999; above some 12,000 runs draws of their normal
            limit stand for them.
        interleaved: take it as given that both sides ran together, in turn.
            Without it, and without a session that holds both sides, latency
            and cost are advisory: they follow the day as much as the agent.

    Raises:
        ConfigError: a metric of your own whose expression is none, or fails.
        DamagedError: a segment of a store has changed or is missing, or does not fit its chain.
        NothingToCompareError: no task has runs on both sides.
        UnknownNameError: a metric, a field or a value that nothing carries.
        UsageError: a run is on both sides; `alpha` or `shuffles` out of range.
    """
    if not LEAST_ALPHA <= alpha <= MOST_ALPHA:
        raise UsageError(
            f"alpha={alpha} is out of range", hint=f"from {LEAST_ALPHA} to {MOST_ALPHA}"
        )
    if shuffles < FEWEST_SHUFFLES:
        raise UsageError(f"shuffles={shuffles} are too few", hint=f"at least {FEWEST_SHUFFLES}")
    sides = [s if isinstance(s, Side) else Side.parse(s) for s in (baseline, candidate)]
    table = resolved(metrics)
    gates = None if gated is None else frozenset(gated)
    select_metrics(None, gated=gates, table=table)
    verified = traces.verified()
    pairs = pair(traces, *sides, custom=custom_of(table))
    sample = pairs.sample
    is_there = ALWAYS_GATED in {metric.name for metric in table}
    if gates is not None and is_there and not np.isnan(sample.values[ALWAYS_GATED]).all():
        gates |= {ALWAYS_GATED}
    chosen = select_metrics(None, gated=gates, table=table)
    if interleaved:
        sample = replace(sample, session=np.zeros(sample.task.size, np.int64))
    settings = Settings(alpha=alpha, shuffles=shuffles)
    judged = judge(sample, chosen, settings)
    must_be_known = _must_be_known(chosen, gates)
    decision = _overall(judged, pairs, must_be_known)
    worst = worst_metric(judged.metrics)
    unavailable = worst.decision is Decision.UNAVAILABLE
    verdict = Verdict(
        decision=decision,
        headline="",
        baseline=sides[0].text,
        candidate=sides[1].text,
        baseline_runs=int((~sample.is_candidate).sum()),
        candidate_runs=int(sample.is_candidate.sum()),
        task_count=sample.task_count,
        metrics=judged.metrics,
        worst_metric=worst.name,
        tasks=() if unavailable else task_changes(sample, worst, pairs.tasks, table=table),
        lost_tasks=pairs.lost_tasks,
        skipped_runs=pairs.skipped_runs,
        spikes=_spikes(judged, pairs),
        is_confounded=judged.sessions.is_confounded,
        notes=_notes(judged, pairs, traces),
        method=judged.method,
        cost_parts=judged.cost_parts,
        tails=tails_of(sample),
        reliability=reliability_of(sample),
        explanations=explanations_of(pairs.chosen, sample, judged.metrics, pairs.tasks),
        verified=verified,
        must_be_known=tuple(m.name for m in chosen if m.name in must_be_known),
        chosen_gates=None if gates is None else tuple(m.name for m in chosen if m.gates),
    )
    return replace(verdict, headline=headline(verdict))


def worst_metric(metrics: tuple[MetricVerdict, ...]) -> MetricVerdict:
    """The metric that decides: gated before advisory, DRIFT before open, then by p-value."""

    def weight(metric: MetricVerdict) -> tuple[int, bool, float]:
        p = 1.0 if metric.p_worse is None else metric.p_worse
        return _RANK.get(metric.decision, len(_RANK)), not metric.is_gated, p

    gated = [m for m in metrics if m.is_gated and m.decision is not Decision.UNAVAILABLE]
    return min(gated or metrics, key=weight)


def _must_be_known(chosen: tuple[Metric, ...], gates: frozenset[str] | None) -> frozenset[str]:
    """Metrics that forbid OK where they have no values: those that gate, and, unless other
    metrics were chosen to gate, tokens and cost."""
    if gates is not None:
        return gates
    return frozenset(metric.name for metric in chosen if metric.gates or metric.zero_is_unknown)


def _overall(judged: Judgement, pairs: Pairs, must_be_known: frozenset[str]) -> Decision:
    """DRIFT on any gated DRIFT; OK when all gated metrics are, and nothing is missing."""
    gated = [m.decision for m in judged.metrics if m.is_gated]
    if Decision.DRIFT in gated:
        return Decision.DRIFT
    is_whole = not pairs.lost_tasks and not pairs.skipped_runs
    needed = [m for m in judged.metrics if m.name in must_be_known]
    is_available = all(m.decision is not Decision.UNAVAILABLE for m in needed)
    all_fine = all(d in (Decision.OK, Decision.IMPROVED) for d in gated)
    fine = gated and all_fine and is_whole and is_available
    return Decision.OK if fine else Decision.INCONCLUSIVE


def _spikes(judged: Judgement, pairs: Pairs) -> tuple[Spike, ...]:
    if judged.storms is None:
        return ()
    sample, calls = pairs.sample, pairs.sample.values[STORM_METRIC]
    return tuple(
        Spike(
            run_id=pairs.run_ids[row].as_py(),
            suite=pairs.tasks[sample.task[row]][0],
            task_id=pairs.tasks[sample.task[row]][1],
            tool_calls=int(calls[row]),
            threshold=float(threshold),
        )
        for row, threshold in zip(
            judged.storms.rows.tolist(), judged.storms.thresholds.tolist(), strict=True
        )
    )


def _notes(judged: Judgement, pairs: Pairs, traces: Traces) -> tuple[str, ...]:
    notes = []
    sample = pairs.sample
    if judged.sessions.is_confounded:
        notes.append(
            "CONFOUNDED: no session holds runs of both sides, so a difference may be the day's "
            "and not the agent's. Latency is advisory, and cost too unless the baseline has 3 "
            "sessions. Run both sides in turn, under one session id."
        )
    elif sample.session is not None:
        alone = _runs_apart(sample)
        if alone:
            notes.append(
                f"{alone} runs are in sessions that hold only one side; they enter the "
                "estimates, not the tests."
            )
    if pairs.degraded:
        named = "; ".join(f"{run} ({side}): {why}" for run, side, why in pairs.degraded[:NAMED])
        more = len(pairs.degraded) - NAMED
        rest = f"; and {more} more" if more > 0 else ""
        are = "replay is" if len(pairs.degraded) == 1 else "replays are"
        notes.append(f"{len(pairs.degraded)} compared {are} degraded: {named}{rest}")
    for store, problem in traces.problems:
        notes.append(f"Store {store}: {problem.path}: {problem.what}")
    return tuple(notes)


def _runs_apart(sample: Sample) -> int:
    """Runs whose session holds runs of one side only, or is unknown."""
    assert sample.session is not None
    arms = sample.is_candidate
    shared = np.intersect1d(sample.session[arms], sample.session[~arms])
    shared = shared[shared != UNKNOWN]
    return int((~np.isin(sample.session, shared)).sum())
