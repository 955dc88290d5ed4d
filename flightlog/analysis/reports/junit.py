"""The verdict as JUnit XML, so that a CI server lists one test case per metric."""

from __future__ import annotations

from xml.etree import ElementTree

from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Verdict
from flightlog.analysis.terminal import escape_terminal
from flightlog.analysis.wording import (
    bounds_text,
    change_text,
    p_text,
    tolerance_text,
    value_text,
    verified_text,
)

_SKIPPED = (Decision.INCONCLUSIVE, Decision.UNAVAILABLE)


def to_junit(verdict: Verdict) -> str:
    """One test case per metric: a gated DRIFT fails, what is not decided is skipped."""
    failed = [m for m in verdict.metrics if m.is_gated and m.decision is Decision.DRIFT]
    skipped = [m for m in verdict.metrics if m.decision in _SKIPPED]
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        suites,
        "testsuite",
        {
            "name": "flightlog check",
            "tests": str(len(verdict.metrics)),
            "failures": str(len(failed)),
            "errors": "0",
            "skipped": str(len(skipped)),
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("decision", verdict.decision),
        ("headline", verdict.headline),
        ("baseline", verdict.baseline),
        ("candidate", verdict.candidate),
        ("seed", str(verdict.method.seed)),
        ("verified", verified_text(verdict)),
    ):
        ElementTree.SubElement(
            properties, "property", {"name": name, "value": escape_terminal(value)}
        )
    for metric in verdict.metrics:
        _case(suite, metric)
    for note in verdict.notes:
        ElementTree.SubElement(suite, "system-out").text = escape_terminal(note)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, metric: MetricVerdict) -> None:
    attributes = {"classname": "flightlog.check", "name": metric.name, "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    advice = f"; {metric.advice}" if metric.advice else ""
    message = escape_terminal(f"{metric.decision}: {metric.reason}{advice}")
    if metric.is_gated and metric.decision is Decision.DRIFT:
        case_end = ElementTree.SubElement(case, "failure", {"type": "DRIFT", "message": message})
    elif metric.decision in _SKIPPED:
        case_end = ElementTree.SubElement(case, "skipped", {"message": message})
    else:
        case_end = ElementTree.SubElement(case, "system-out")
        case_end.text = message
    if metric.decision is not Decision.UNAVAILABLE:
        numbers = (
            f"{value_text(metric, metric.baseline)} -> {value_text(metric, metric.candidate)}, "
            f"{change_text(metric, metric.change)} ({bounds_text(metric)}), "
            f"tolerance {tolerance_text(metric)}, {p_text(metric.p_worse)}"
        )
        case_end.text = f"{case_end.text}\n{numbers}" if case_end.text else numbers
