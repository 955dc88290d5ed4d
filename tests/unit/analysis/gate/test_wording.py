from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flightlog.analysis.gate.metrics import Kind
from flightlog.analysis.gate.verdict import Decision, MetricVerdict
from flightlog.analysis.wording import (
    bounds_text,
    change_text,
    counted,
    joined,
    p_text,
    tolerance_text,
    value_text,
)

RATIO = MetricVerdict("cost_usd", "USD", Kind.RATIO, True, 0.2, True, Decision.OK)
POINTS = replace(RATIO, name="success", unit="share of runs", kind=Kind.POINTS, tolerance=0.05)


@pytest.mark.parametrize(
    ("metric", "change", "text"),
    [
        (RATIO, 1.314, "+31.4 %"),
        (RATIO, 0.5, "-50.0 %"),
        (RATIO, 13.345, "+1,234 %"),
        (RATIO, 0.99999, "+0.0 %"),
        (RATIO, math.inf, "from 0"),
        (RATIO, None, "unknown"),
        (POINTS, -0.041, "-4.1 pts"),
    ],
)
def test_a_change_in_words(metric, change, text):
    assert change_text(metric, change) == text


def test_bounds_in_words():
    assert bounds_text(replace(RATIO, lower=0.9, upper=1.25)) == "-10.0 .. +25.0 %"
    assert bounds_text(replace(RATIO, lower=0.9, upper=math.inf)) == "-10.0 .. no limit"
    assert bounds_text(replace(RATIO, lower=math.inf, upper=math.inf)) == "from 0"
    assert bounds_text(replace(POINTS, lower=-0.1, upper=0.02)) == "-10.0 .. +2.0 pts"
    assert bounds_text(RATIO) == "unknown"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("USD", 0.01234, "$0.0123"),
        ("USD", 0.0, "$0.00"),
        ("USD", 1234.5, "$1,234.50"),
        ("ms", 1234.5, "1,234 ms"),
        ("tokens", 3.25, "3.25"),
        ("calls", 6.254, "6.25"),
        ("calls", None, "unknown"),
    ],
)
def test_a_value_in_words(unit, value, text):
    assert value_text(replace(RATIO, unit=unit), value) == text


def test_other_words():
    assert value_text(POINTS, 0.655) == "65.5 %"
    assert tolerance_text(RATIO) == "20 %"
    assert tolerance_text(POINTS) == "5 pts"
    assert [p_text(p) for p in (0.0002, 0.0123, None)] == ["p < 0.001", "p = 0.012", "p unknown"]
    assert [counted(n, "task") for n in (1, 0, 1250)] == ["1 task", "0 tasks", "1,250 tasks"]
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert joined(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
