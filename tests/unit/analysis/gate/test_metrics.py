from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flightlog.analysis.gate.metrics import METRICS, resolved, select_metrics
from flightlog.analysis.gate.page import metrics_page
from flightlog.config import TRACKABLE_METRICS
from flightlog.errors import UnknownNameError, UsageError


def test_every_metric_can_be_tracked_and_every_tracked_one_is_a_metric():
    assert {metric.name for metric in METRICS} == set(TRACKABLE_METRICS)


def test_none_means_all_and_names_keep_the_order_of_the_table():
    assert select_metrics(None) == METRICS
    chosen = select_metrics(["stop_reason", "success", "stop_reason"])
    assert [metric.name for metric in chosen] == ["success", "stop_reason"]


def test_a_metric_given_by_itself_takes_the_place_of_the_one_in_the_table():
    [cost] = select_metrics(["cost_usd"])
    tight = replace(cost, tolerance=0.01)
    assert resolved([tight, "success"]) == (select_metrics(["success"])[0], tight)


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(UnknownNameError, match="nearest: latency_p95"):
        select_metrics(["latency_p59"])


def test_no_metric_at_all_is_an_error():
    with pytest.raises(UsageError, match="no metric"):
        select_metrics([])


def test_the_page_of_metrics_is_made_from_their_table():
    assert Path("docs/metrics.md").read_text(encoding="utf-8") == metrics_page()
