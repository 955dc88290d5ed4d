from __future__ import annotations

import itertools

import numpy as np
import pytest

from flightlog.analysis.stats.labellings import Labellings, sessions_of
from flightlog.analysis.stats.sample import UNKNOWN, Sample


def rows_of(strata, arms, shuffles=999, seed=1):
    """All labellings, columns in the order of the runs."""
    labellings = Labellings(np.array(strata), np.array(arms), shuffles=shuffles, seed=seed)
    rows = np.empty((labellings.row_count, len(strata)), bool)
    for at, block in labellings.blocks():
        rows[at][:, labellings.order] = block
    return labellings, rows


def test_few_labellings_are_all_enumerated_once_the_observed_first():
    strata, arms = [0, 0, 1, 1, 1, 2, 2], [True, False, False, True, False, True, True]
    labellings, rows = rows_of(strata, arms)
    assert labellings.is_exact
    assert rows[0].tolist() == arms
    expected = {
        (*a, *b, True, True)
        for a in [(True, False), (False, True)]
        for b in set(itertools.permutations((True, False, False)))
    }
    assert len(rows) == 6
    assert {tuple(row) for row in rows.tolist()} == expected


def test_a_single_labelling_gives_p_one():
    labellings, rows = rows_of([0, 0], [True, True])
    assert labellings.min_p == 1.0
    assert len(rows) == 1


@pytest.mark.parametrize("size", [4, 40])
def test_drawn_labellings_keep_the_arm_sizes_of_every_stratum(size):
    strata = np.repeat(np.arange(12), size)
    arms = np.tile(np.arange(size) < size // 4, 12)
    labellings, rows = rows_of(strata, arms)
    assert not labellings.is_exact
    assert rows[0].tolist() == arms.tolist()
    for stratum in range(12):
        assert set(rows[:, strata == stratum].sum(axis=1)) == {size // 4}
    share = rows[1:].mean(axis=0)
    assert np.abs(share - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 999)


def test_same_seed_gives_the_same_labellings_and_another_seed_others():
    strata, arms = np.repeat(np.arange(30), 4), np.tile([True, True, False, False], 30)
    first, again, other = (rows_of(strata, arms, seed=seed)[1] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sums_are_those_over_the_candidate_runs_of_each_labelling():
    strata, arms = np.repeat([0, 1], 4), np.tile([True, True, False, False], 2)
    labellings = Labellings(strata, arms, shuffles=99, seed=1)
    columns = np.arange(16.0).reshape(8, 2)
    sums = labellings.sums(columns, [])
    ordered = columns[labellings.order]
    expected = [row @ ordered for _, labels in labellings.blocks() for row in labels.astype(float)]
    assert sums == pytest.approx(np.array(expected))
    assert sums[0] == pytest.approx(columns[arms].sum(axis=0))


def sample_in(session):
    task = np.repeat([0, 1], 4)
    return Sample(task, np.tile([False, False, True, True], 2), {}, session=session)


def test_shared_sessions_split_the_tasks():
    found = sessions_of(sample_in(np.array([0, 1, 0, 1, 0, 1, 0, 1])))
    assert found.are_strata
    assert not found.is_confounded
    assert found.strata.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_without_a_shared_session_strata_are_tasks_and_the_check_is_confounded():
    for session in (None, np.array([0, 1, 2, 2, 0, 1, 2, 2]), np.full(8, UNKNOWN)):
        found = sessions_of(sample_in(session))
        assert found.is_confounded
        assert found.strata.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_runs_of_one_sided_sessions_keep_their_arm():
    found = sessions_of(sample_in(np.array([0, 1, 0, UNKNOWN, 0, 1, 0, UNKNOWN])))
    _, rows = rows_of(found.strata, sample_in(None).is_candidate)
    assert set(rows[:, 1].tolist()) == {False}
    assert set(rows[:, 3].tolist()) == {True}
    assert len(rows) == 4
