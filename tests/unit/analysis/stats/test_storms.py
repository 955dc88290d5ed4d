from __future__ import annotations

from flightlog.analysis.stats.storms import storms_of


def stormy(sample_of, spikes, tasks=50):
    candidate = [[100.0 if t < spikes else 4.0, 4.0] for t in range(tasks)]
    sample = sample_of([[4.0, 4.0]] * tasks, candidate)
    return storms_of(sample, sample.values["tool_calls_per_run"])


def test_three_spikes_in_a_hundred_runs_are_a_storm(sample_of):
    assert [stormy(sample_of, n).is_storm for n in (0, 2, 3)] == [False, False, True]
    assert [stormy(sample_of, n).is_suspicious for n in (1, 2)] == [False, True]


def test_more_runs_need_more_spikes(sample_of):
    # 400 candidate runs: 1 + 2 % of 400 = 9.
    assert not stormy(sample_of, 8, tasks=200).is_storm
    assert stormy(sample_of, 9, tasks=200).is_storm


def test_a_task_that_always_needs_many_calls_is_no_spike(sample_of):
    sample = sample_of([[4.0]] * 9 + [[90.0]], [[4.0]] * 9 + [[100.0]])
    assert storms_of(sample, sample.values["tool_calls_per_run"]).rows.size == 0


def test_an_easy_task_is_measured_by_the_suite(sample_of):
    sample = sample_of([[10.0]] * 9 + [[0.0]], [[10.0]] * 9 + [[40.0]])
    assert storms_of(sample, sample.values["tool_calls_per_run"]).rows.size == 0


def test_spikes_come_largest_first(sample_of):
    sample = sample_of([[4.0]] * 6, [[4.0]] * 4 + [[50.0], [90.0]])
    found = storms_of(sample, sample.values["tool_calls_per_run"])
    assert sample.values["tool_calls_per_run"][found.rows].tolist() == [90.0, 50.0]
    assert found.thresholds.tolist() == [20.0, 20.0]
