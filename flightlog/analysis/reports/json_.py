"""The verdict as JSON, for machines: stable keys, and a version that counts their changes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any, Final

from flightlog.analysis.gate.verdict import Verdict

SCHEMA_VERSION: Final = 3


def to_json(verdict: Verdict) -> str:
    """The whole verdict as JSON text, keys in a fixed order, ASCII only.

    `verified` holds what `flightlog verify` found before the comparison, or null where
    the traces came from memory. A number that is unknown or infinite is null;
    `from_zero` is true where a metric rose from 0 and so has no ratio.
    """
    values = asdict(verdict)
    for metric in values["metrics"]:
        metric["from_zero"] = metric["change"] == math.inf
    document = {
        "schema_version": SCHEMA_VERSION,
        "exit_code": int(verdict.exit_code()),
        "exit_code_strict": int(verdict.exit_code(strict=True)),
        **values,
    }
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
