"""The verdict as SARIF, for code scanning: one result per metric that is not fine.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from flightlog._version import __version__
from flightlog.analysis.gate.metrics import METRICS
from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Verdict
from flightlog.analysis.terminal import escape_terminal
from flightlog.analysis.wording import change_text, explained, tolerance_text, verified_text

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
DEFAULT_FILE: Final = "flightlog.yaml"
_LEVELS: Final = {
    Decision.DRIFT: "error",
    Decision.INCONCLUSIVE: "warning",
    Decision.UNAVAILABLE: "note",
}


def to_sarif(verdict: Verdict) -> str:
    """SARIF 2.1.0 with one run; results point to the settings file, where tolerances stand."""
    descriptions = {metric.name: metric.description for metric in METRICS}
    shown = [m for m in verdict.metrics if m.is_gated and m.decision in _LEVELS]
    rules = [
        {
            "id": escape_terminal(metric.name),
            "shortDescription": {
                "text": escape_terminal(descriptions.get(metric.name, metric.name))
            },
        }
        for metric in verdict.metrics
    ]
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "flightlog", "version": __version__, "rules": rules},
                },
                "properties": {
                    "headline": escape_terminal(verdict.headline),
                    "verified": verified_text(verdict),
                },
                "results": [_result(verdict, metric) for metric in shown],
            }
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _result(verdict: Verdict, metric: MetricVerdict) -> dict[str, Any]:
    parts = [f"{metric.name}: {metric.decision}: {metric.reason}"]
    if metric.decision is not Decision.UNAVAILABLE:
        parts[0] += f" ({change_text(metric, metric.change)}, tolerance {tolerance_text(metric)})"
    parts += [metric.advice, *explained(verdict, metric.name)]
    key = "\n".join((verdict.baseline, verdict.candidate, metric.name))
    return {
        "ruleId": escape_terminal(metric.name),
        "level": _LEVELS[metric.decision],
        "message": {"text": escape_terminal(". ".join(filter(None, parts)))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": DEFAULT_FILE},
                    "region": {"startLine": 1},
                }
            }
        ],
        "partialFingerprints": {"flightlog/v1": hashlib.sha256(key.encode()).hexdigest()},
    }
