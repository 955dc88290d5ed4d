from __future__ import annotations

import numpy as np

from flightlog.analysis.stats.sample import UNKNOWN, Column
from flightlog.analysis.stats.sessions import exceeds_sessions


def guarded(sample_of, session_factors, candidate_factor):
    """20 tasks, one baseline run in each session, one candidate run."""
    base = [[10.0 * (t + 1) * f for f in session_factors] for t in range(20)]
    cand = [[10.0 * (t + 1) * candidate_factor] for t in range(20)]
    session = np.tile([*range(len(session_factors)), 99], 20)
    sample = sample_of(base, cand, session=session)
    column = Column.of(sample, sample.values["tool_calls_per_run"])
    return exceeds_sessions(sample, column, 1e-9)


def test_a_rise_above_what_sessions_differ_by_passes(sample_of):
    # Logs of the sessions: -.1, 0, .1; sd .1; bound 2.92 * .1 * sqrt(4/3) = .337.
    factors = np.exp([-0.1, 0.0, 0.1])
    assert guarded(sample_of, factors, np.exp(0.35))
    assert not guarded(sample_of, factors, np.exp(0.32))


def test_fewer_than_three_sessions_never_pass(sample_of):
    assert not guarded(sample_of, [1.0, 1.0], 5.0)


def test_runs_without_a_session_do_not_count_as_one(sample_of):
    base = [[10.0, 10.0, 10.0]] * 10
    sample = sample_of(base, [[50.0]] * 10, session=np.tile([0, 1, UNKNOWN, 9], 10))
    column = Column.of(sample, sample.values["tool_calls_per_run"])
    assert not exceeds_sessions(sample, column, 1.0)
