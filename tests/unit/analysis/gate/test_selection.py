from __future__ import annotations

from datetime import datetime

import pytest

from flightlog.analysis.gate.selection import Side, Term
from flightlog.errors import UnknownNameError, UsageError


def test_a_bare_word_is_a_variant():
    assert Side.parse("candidate").terms == (Term("variant", "candidate"),)


def test_parts_are_joined_by_commas():
    side = Side.parse("model=gpt-4o, label:prompt=v2,suite=air=line")
    assert side.terms == (
        Term("model", "gpt-4o"),
        Term("label:prompt", "v2"),
        Term("suite", "air=line"),
    )


@pytest.mark.parametrize("text", ["", "variant=", "=x", "a,,b", "label:=x", " "])
def test_an_empty_part_is_an_error(text):
    with pytest.raises(UsageError, match="empty part"):
        Side.parse(text)


def test_one_field_twice_is_an_error():
    with pytest.raises(UsageError, match="sets variant twice"):
        Side.parse("a,variant=b")


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown field 'modle'[^$]*nearest: model"):
        Side.parse("modle=gpt-4o")


def test_an_unknown_value_names_the_nearest(traces_of, pairs_of_runs):
    traces = traces_of(pairs_of_runs(1, 1))
    with pytest.raises(UnknownNameError, match=r"unknown variant 'candidat'[^$]*candidate"):
        Side.parse("candidat").check_known(traces)
    with pytest.raises(UnknownNameError, match="No run has a label:prompt"):
        Side.parse("label:prompt=v2").check_known(traces)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("baseline,since=2026-11-02", 2),
        ("baseline,until=2026-11-02", 1),
        ("baseline,since=2026-11-02,until=2026-11-03T00:00:00+01:00", 1),
        ("baseline,git=abc1", 1),
        ("baseline,git=ab", 2),
    ],
)
def test_a_time_window_and_a_commit_choose_runs(traces_of, pairs_of_runs, text, count):
    days, commits = ("2026-11-01", "2026-11-02", "2026-11-03"), ("abc1f", "ab99", "fff")
    runs = [
        {
            **pairs_of_runs(1, 1)[0], "run_id": f"r{n}",
            "at": datetime.fromisoformat(f"{day}T01:00"),
            "labels": [("git_revision", commit)],
        }
        for n, (day, commit) in enumerate(zip(days, commits, strict=True))
    ]  # fmt: skip
    condition, values = Side.parse(text).condition("b")
    [row] = traces_of(runs).rows(f"SELECT count(*) AS n FROM runs WHERE {condition}", values)
    assert row["n"] == count


@pytest.mark.parametrize("text", ["since=yesterday", "until=2026-13-01", "since=9999-12-31T23-99"])
def test_a_moment_that_is_none_is_an_error(text):
    with pytest.raises(UsageError, match="is no date or time"):
        Side.parse(text)


def test_an_unknown_commit_names_the_known(traces_of, pairs_of_runs):
    runs = [{**run, "labels": [("git_revision", "abcdef")]} for run in pairs_of_runs(1, 1)]
    Side.parse("git=abc").check_known(traces_of(runs))
    with pytest.raises(UnknownNameError, match="abcdef"):
        Side.parse("git=abx").check_known(traces_of(runs))


def test_values_reach_the_query_as_parameters(traces_of, pairs_of_runs):
    name = "x' OR 'a'='a"
    runs = [{**run, "labels": [("who's", name)]} for run in pairs_of_runs(2, 1)]
    traces = traces_of([*runs, {**runs[0], "labels": [], "run_id": "other"}])
    condition, values = Side.parse(f"label:who's={name}").condition("b")
    assert name not in condition
    [row] = traces.rows(f"SELECT count(*) AS n FROM runs WHERE {condition}", values)
    assert row["n"] == 4
