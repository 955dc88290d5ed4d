"""Hostile text on a terminal."""

from __future__ import annotations

import io
import unicodedata
from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.analysis.tables import console, print_table, result_table, table_width
from flightlog.analysis.terminal import cell_text, escape_terminal, number_text, share_text

HOSTILE = [
    ("\x1b[2J", "\\x1b[2J"),
    ("\x1b]8;;http://x\x07", "\\x1b]8;;http://x\\x07"),
    ("a\rb", "a\\rb"),
    ("a\nb\tc", "a\\nb\\tc"),
    ("\x9b31m", "\\x9b31m"),
    ("\x7f", "\\x7f"),
    ("\u202egnp.exe", "\\u202egnp.exe"),
    ("\u2066x\u2069", "\\u2066x\\u2069"),
    ("a\u200bb", "a\\u200bb"),
    ("\u2028", "\\u2028"),
    ("\ud800", "\\ud800"),
    ("\U000e0041", "\\U000e0041"),
    ("\ufeff", "\\ufeff"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert escape_terminal(text) == shown


@pytest.mark.parametrize(
    "text", ["plain [bold]", "naïve café", "日本語", "👩‍🚀", "ﷺ", "", "%s $x$"]
)
def test_ordinary_text_stays(text: str) -> None:
    assert escape_terminal(text) == text


@given(st.text(st.characters(), max_size=200), st.booleans())
def test_nothing_that_acts_is_left(text: str, keep_newlines: bool) -> None:
    shown = escape_terminal(text, keep_newlines=keep_newlines)
    left = {char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert left <= ({"\n", "\t"} if keep_newlines else set()) | {"\u200c", "\u200d"}


@given(st.text(st.characters(), max_size=60), st.integers(1, 30))
def test_a_cut_is_no_longer_than_asked(text: str, most: int) -> None:
    shown = escape_terminal(text, max_chars=most)
    assert len(shown) <= most
    assert shown == escape_terminal(text) or shown.endswith("…")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (0, "0"),
        (1234567, "1234567"),
        (0.1 + 0.2, "0.3"),
        (1e-7, "1e-07"),
        (12345678.9, "12345679"),
        (1e30, "1e+30"),
        (float("nan"), "nan"),
        (datetime(2025, 1, 2, 3, 4, 5, 6), "2025-01-02 03:04:05"),
        (["a", 1], '["a", 1]'),
        ({"k": "\x1b"}, '{"k": "\\u001b"}'),
        (b"\x00", "b'\\x00'"),
    ],
)
def test_values_are_shown_short(value: object, shown: str) -> None:
    assert cell_text(value) == shown


def test_a_number_is_not_rounded_to_zero() -> None:
    assert number_text(0.00012345678) == "0.000123457"
    assert number_text(-0.5) == "-0.5"
    assert number_text(0.0) == "0"


def test_a_table_takes_nothing_for_markup() -> None:
    table = pa.table({"[red]x[/red]": ["[bold]y[/bold]", ":smile: http://x"]})
    stream = io.StringIO()
    console(file=stream).print(result_table(table, title="[i]t[/i]"))
    for text in ("[red]x[/red]", "[bold]y[/bold]", ":smile: http://x", "[i]t[/i]"):
        assert text in stream.getvalue()


def test_the_width_of_a_table_is_foretold() -> None:
    table = pa.table({"a": ["x" * 17, "y"], "number": [1, 2_000_000]})
    stream = io.StringIO()
    console(file=stream).print(result_table(table))
    assert max(map(len, stream.getvalue().splitlines())) == table_width(table, max_chars=200)


def test_maps_are_shown_as_objects() -> None:
    labels = pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string()))
    stream = io.StringIO()
    console(file=stream).print(result_table(pa.table({"labels": labels})))
    assert '{"k": "v"}' in stream.getvalue()


def test_a_result_too_wide_for_the_terminal_is_shown_value_by_value(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"column_{n}" for n in range(8)]
    print_table(pa.table({name: [f"value {name}", None] for name in names}))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("of 2")] == ["1 of 2", "2 of 2"]
    assert "  column_7  value column_7" in lines
    assert lines[-1] == "  column_7  -"


def test_only_long_texts_are_folded_where_a_table_fits(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    print_table(pa.table({"at": ["2026-11-23 03:00:00"], "detail": ["long words " * 12]}))
    out = capsys.readouterr().out
    assert "2026-11-23 03:00:00" in out
    assert out.count("long") == 12


def test_values_shown_line_by_line_cannot_act_on_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_table(pa.table({f"c{n}\x1b[2J": ["a\nb\x1b[31m" * 9] for n in range(5)}))
    assert "\x1b" not in capsys.readouterr().out


def test_columns_without_a_value_are_left_out_and_named_where_that_makes_a_table_fit(
    capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "40")
    nothing = pa.nulls(1, pa.string())
    long = "a_column_name_that_is_long"
    print_table(pa.table({"tool": ["search"], long: nothing, "another_one": nothing}))
    out = capsys.readouterr().out
    assert "search" in out
    assert "1 of 1" not in out
    assert " ".join(out.split()).endswith(f"without a value: {long}, another_one")


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.00684932, "0.685 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.406552, "40.7 %"),
        (12.3456, "1235 %"),
        (1e-9, "1e-07 %"),
    ],
)
def test_a_share_is_told_in_percent(share: float, shown: str) -> None:
    assert share_text(share) == shown


def test_columns_of_shares_are_in_percent_in_tables() -> None:
    table = pa.table(
        {"runs": [146], "share": [1 / 146], "error_share": [None], "shared": [0.00684932]},
        schema=pa.schema(
            [
                ("runs", pa.int64()),
                ("share", pa.float64()),
                ("error_share", pa.float64()),
                ("shared", pa.float64()),
            ]
        ),
    )
    told = io.StringIO()
    print_table(table, file=told)
    assert told.getvalue().splitlines()[3].split() == ["146", "0.685", "%", "-", "0.00684932"]
