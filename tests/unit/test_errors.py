"""Errors: what, where, what to do; names of traces in them."""

from __future__ import annotations

from flightlog.errors import UnknownNameError


def test_names_of_a_trace_stay_in_their_line() -> None:
    error = UnknownNameError.of("agent", "shop", ["other", "shop\nerror: all is lost\r\t"])
    assert error.hint.count("\n") == 0
    assert "shop\\nerror: all is lost\\r\\t" in error.hint


def test_a_long_name_does_not_fill_the_screen() -> None:
    error = UnknownNameError.of("agent", "shop", ["x" * 5000])
    assert error.hint == f"known: {'x' * 100}…."
