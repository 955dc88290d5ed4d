from __future__ import annotations

import pytest

from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.config import TRACKABLE_METRICS
from flightlog.errors import UnknownNameError, UsageError


def test_every_metric_can_be_tracked_and_every_tracked_one_is_a_metric():
    assert {metric.name for metric in METRICS} == set(TRACKABLE_METRICS)


def test_none_means_all_and_names_keep_the_order_of_the_table():
    assert select_metrics(None) == METRICS
    chosen = select_metrics(["stop_reason", "success", "stop_reason"])
    assert [metric.name for metric in chosen] == ["success", "stop_reason"]


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(UnknownNameError, match="nearest: latency_p95"):
        select_metrics(["latency_p59"])


def test_no_metric_at_all_is_an_error():
    with pytest.raises(UsageError, match="no metric"):
        select_metrics([])
