"""A postmortem as JSON, for machines: stable keys, and a version that counts their changes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from flightlog.analysis.postmortem.found import Postmortem
from flightlog.analysis.reports.postmortem import words

SCHEMA_VERSION: Final = 1


def to_json(found: Postmortem) -> str:
    """The whole postmortem as JSON text, keys in a fixed order, ASCII only, times in UTC."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "headline": words.headline(found),
        **asdict(found),
    }
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
