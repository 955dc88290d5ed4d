"""A verdict read back from its JSON."""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import fields, is_dataclass, replace
from enum import EnumType
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

from flightlog.analysis.gate.verdict import Verdict
from flightlog.analysis.reports.json_ import SCHEMA_VERSION
from flightlog.analysis.reports.schema import hints_of, verdict_schema
from flightlog.errors import TraceFormatError

MOST_BYTES: Final = 64 << 20


def read_verdict(path: str | Path) -> Verdict:
    """The verdict that a check or a gate wrote with `-o FILE.json` or `--json`.

    A number that was infinite is None, but for a change from 0.

    Raises:
        TraceFormatError: not such a file, or one of another version.
    """
    where = str(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ValueError(f"longer than {MOST_BYTES:,} bytes")
        document = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise TraceFormatError(
            f"the verdict cannot be read: {error}", where=where, hint=_HINT
        ) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise TraceFormatError(
            f"no verdict of version {SCHEMA_VERSION}, but {version!r}", where=where, hint=_HINT
        )
    problem = next(_validator().iter_errors(document), None)
    if problem is not None:
        at = "/".join(map(str, problem.absolute_path)) or "the whole"
        raise TraceFormatError(f"{at}: {problem.message[:200]}", where=where, hint=_HINT)
    verdict: Verdict = _decoded(Verdict, document)
    from_zero = {one["name"] for one in document["metrics"] if one["from_zero"]}
    metrics = tuple(
        replace(metric, change=math.inf) if metric.name in from_zero else metric
        for metric in verdict.metrics
    )
    return replace(verdict, metrics=metrics)


_HINT: Final = "Write one with: flightlog check ... -o verdict.json"


@lru_cache(maxsize=1)
def _validator() -> Draft202012Validator:
    return Draft202012Validator(verdict_schema())


def _decoded(hint: Any, value: Any) -> Any:
    """A JSON value, valid by the schema, as the type that it was written from."""
    if value is None:
        return math.nan if hint is float else None
    if isinstance(hint, EnumType):
        return hint(value)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = hints_of(hint)
        return hint(
            **{one.name: _decoded(hints[one.name], value[one.name]) for one in fields(hint)}
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decoded(arguments[0], item) for item in value)
    if origin is tuple:
        return tuple(_decoded(one, item) for one, item in zip(arguments, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        [inner] = [argument for argument in arguments if argument is not type(None)]
        return _decoded(inner, value)
    return float(value) if hint is float else value
