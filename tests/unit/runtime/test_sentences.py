"""One sentence per stop reason, for people who know nothing of the inside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flightlog.runtime.budget import Budget, Used
from flightlog.runtime.sentences import MAX_NAME_CHARS, SENTENCES, sentence_of
from flightlog.trace.vocab import RunStatus, StopReason

ALL_LIMITS = Budget(max_steps=30, max_seconds=90, max_tool_calls=15, max_usd=1.0, max_tokens=1000)
SPENT = Used(steps=30, seconds=90.0042, tool_calls=15, usd=0.95, tokens=950)
INTERNALS = re.compile(r"max_|_|=|\d{4,}|budget|outcome|digest|gateway|allowlist|[{}\[\]<>]")


def said(reason, *, budget=ALL_LIMITS, usage=SPENT, tool="refund", **more):
    return sentence_of(reason, budget=budget, usage=usage, tool=tool, **more)


def used(**amounts):
    spent = {"steps": 1, "seconds": 1.0, "tool_calls": 1, "usd": 0.0, "tokens": 0} | amounts
    return Used(**spent)


def table_of_reasons() -> str:
    """The rows of the table in docs/results.md."""
    rows = [f"| `{reason}` | {reason.status} | {said(reason)} |" for reason in StopReason]
    return "\n".join(rows)


def test_the_page_about_results_shows_every_reason_with_its_status_and_sentence():
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
    table = page.split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    assert table == table_of_reasons()


def test_every_stop_reason_has_a_sentence_of_its_own():
    assert set(SENTENCES) == set(StopReason)
    assert len({said(reason) for reason in StopReason}) == len(StopReason)


@pytest.mark.parametrize("reason", StopReason)
@pytest.mark.parametrize("tool", ["refund", None])
def test_a_sentence_reads_well_and_shows_nothing_of_the_inside(reason, tool):
    sentence = said(reason, tool=tool)
    assert re.fullmatch(r"[A-Z][^.]*(?:\d\.\d[^.]*)*\.", sentence), sentence
    assert "  " not in sentence
    assert 20 <= len(sentence) <= 130
    assert not INTERNALS.search(sentence), sentence
    if reason.status is RunStatus.STOPPED and reason is not StopReason.CANCELLED:
        assert " stopped " in sentence


@pytest.mark.parametrize("reason", StopReason)
def test_only_sentences_about_a_tool_name_it(reason):
    about_tools = {
        StopReason.TOOL_DENIED,
        StopReason.APPROVAL_DENIED,
        StopReason.APPROVAL_PENDING,
        StopReason.INVALID_TOOL_INPUT,
        StopReason.INVALID_TOOL_OUTPUT,
        StopReason.TOOL_FAILED,
        StopReason.CIRCUIT_OPEN,
        StopReason.REPLAY_MISS,
    }
    assert ('the tool "refund"' in said(reason)) == (reason in about_tools)


@pytest.mark.parametrize(
    ("reason", "limit", "amounts", "wanted"),
    [
        ("max_steps", 30, {"steps": 30}, "after 30 steps, its limit."),
        ("max_steps", 1, {"steps": 1}, "after 1 step, its limit."),
        ("max_steps", 0, {"steps": 0}, "after 0 steps, its limit."),
        ("max_tool_calls", 15, {"tool_calls": 15}, "after 15 tool calls, its limit."),
        ("max_tool_calls", 1, {"tool_calls": 1}, "after 1 tool call, its limit."),
        ("max_tool_calls", 1500, {"tool_calls": 1500}, "after 1,500 tool calls, its limit."),
        ("max_seconds", 90, {"seconds": 90.0042}, "after 90 seconds, its limit."),
        ("max_seconds", 1, {"seconds": 1.7}, "after 1 second, its limit."),
        ("max_seconds", 0.25, {"seconds": 0.25}, "after 0.25 seconds, its limit."),
        ("max_seconds", 100000.5, {"seconds": 1e6}, "after 100,000.5 seconds, its limit."),
        ("max_usd", 1, {"usd": 0.95}, "after spending $0.95; its limit is $1.00."),
        ("max_usd", 1300, {"usd": 1299.999}, "after spending $1,300.00; its limit is $1,300.00."),
        ("max_usd", 0.004, {"usd": 0.0035}, "after spending $0.0035; its limit is $0.004."),
        ("max_usd", 1e-7, {"usd": 0.0}, "after spending $0.00; its limit is $0.0000001."),
        ("max_tokens", 1000, {"tokens": 950}, "using 950 tokens; its limit is 1,000 tokens."),
        ("max_tokens", 1, {"tokens": 1}, "using 1 token; its limit is 1 token."),
    ],
)
def test_numbers_are_written_as_people_write_them(reason, limit, amounts, wanted):
    budget = Budget(**{reason: limit})
    sentence = said(StopReason(reason), budget=budget, usage=used(**amounts))
    assert sentence.startswith("The agent stopped after ")
    assert sentence.endswith(wanted)


@pytest.mark.parametrize(
    ("reason", "amounts", "limit"),
    [("max_usd", {"usd": None}, "$1.00"), ("max_tokens", {"tokens": None}, "1,000 tokens")],
)
def test_an_unknown_amount_is_said_to_be_unknown(reason, amounts, limit):
    sentence = said(StopReason(reason), usage=used(**amounts))
    assert sentence.endswith(f"nobody can tell whether it kept within its limit of {limit}.")


@pytest.mark.parametrize(
    ("reason", "what"),
    [("max_tool_calls", "tool calls"), ("max_usd", "spending"), ("max_tokens", "tokens")],
)
def test_a_limit_that_runs_share_is_not_called_the_run_s_own(reason, what):
    assert said(StopReason(reason), is_of_tenant=True) == (
        f"The agent stopped because it shares a limit on {what} with other runs, and the limit "
        "is used up for now."
    )


@pytest.mark.parametrize("reason", [r for r in StopReason if r.value in ALL_LIMITS.limits()])
def test_a_limit_that_is_not_set_is_named_by_no_number(reason):
    none = Budget(**dict.fromkeys(ALL_LIMITS.limits()))
    assert said(reason, budget=none) == "The agent stopped because a limit is used up."


def test_a_finish_without_an_answer_is_said():
    assert said(StopReason.OK, has_answer=False) == "The agent finished and gave no answer."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x\x1b[31m\n", '"x\\x1b[31m\\n"'),
        ("a\u202eb", '"a\\u202eb"'),
        ("\ud800", '"\\ud800"'),
        ("{tool}{0}", '"{tool}{0}"'),
        ("größe.lesen", '"größe.lesen"'),
    ],
)
def test_names_of_tools_are_shown_harmlessly(name, shown):
    assert said(StopReason.TOOL_FAILED, tool=name) == (
        f"The agent stopped because the tool {shown} failed."
    )


def test_long_names_of_tools_are_cut():
    sentence = said(StopReason.TOOL_FAILED, tool="x" * 100_000)
    assert f'"{"x" * (MAX_NAME_CHARS - 1)}…"' in sentence
