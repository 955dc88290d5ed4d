"""The spans of one trace as runs: who called which model and which tool on whose behalf.

A run is the span of an agent or of a workflow; a call belongs to the nearest one above it.
Calls without one belong to the run that the top of the trace is. Where two instrumentations
saw the same call (a framework's span around its SDK's), it is one call: of a model the inner
spans, of a tool the outer one, each completed by what only the other knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.foreign_run import (
    ForeignRun,
    Judgement,
    ModelTurn,
    Turn,
)
from flightlog.integrations.importers.native_run import NativeRun
from flightlog.integrations.otlp.contents import system_of
from flightlog.integrations.otlp.native import SCOPE, is_native, native_runs
from flightlog.integrations.otlp.reading import (
    Reading,
    SpanKind,
    is_workflow,
    kind_of,
)
from flightlog.integrations.otlp.spans import Span
from flightlog.integrations.otlp.turns import judgement_of, model_turn, tool_turn
from flightlog.runtime.prices import PriceTable
from flightlog.trace.canonical import clean_text
from flightlog.trace.stop_words import stop_word

FORMAT: Final = "otlp"
NO_ROOT: Final = "top of the trace missing"
"""Label of a run whose own span has not come."""

_LATE: Final = 1 << 63


@dataclass(slots=True)
class Trace:
    """The spans of one trace, sorted out.

    Attributes:
        runs: by the id of the span that the run is; a span that has not come counts too.
        owners: span id -> the run that it belongs to, for spans that come later.
        merged: spans that told of a call that another span tells of too.
        others: spans that are neither a run nor a call.
        native: runs that flightlog itself recorded and exported.
    """

    runs: dict[str, ForeignRun] = field(default_factory=dict)
    native: list[NativeRun] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    merged: int = 0
    others: int = 0


def runs_of(
    spans: Iterable[Span],
    *,
    prices: PriceTable | None = None,
    owners: Mapping[str, str] | None = None,
    is_strict: bool = True,
) -> Trace:
    """The runs of the spans of one trace.

    Args:
        spans: all of one trace; each id once.
        prices: prices calls whose span tells no cost; None leaves them unpriced.
        owners: runs of the spans of this trace that came before.
        is_strict: False takes spans that only look like our own export for foreign ones.

    Raises:
        TraceFormatError: with `is_strict`, an event of our own export is none.
    """
    found = list(spans)
    own = [span for span in found if is_native(span)]
    native: list[NativeRun] = []
    try:
        native = native_runs(own)
    except TraceFormatError:
        if is_strict:
            raise
        own = []
    others = [span for span in found if not is_native(span)] if own else found
    trace = _Sorting(others, prices, owners or {}).trace()
    if own:
        trace.native = native
        trace.owners.update({span.span_id: SCOPE for span in own})
    return trace


class _Sorting:
    """Sorts out one trace."""

    def __init__(
        self, spans: list[Span], prices: PriceTable | None, owners: Mapping[str, str]
    ) -> None:
        self._spans = _without_circles(sorted(spans, key=_order))
        self._by_id = {span.span_id: span for span in self._spans}
        self._kinds = {span.span_id: kind_of(span) for span in self._spans}
        self._prices = prices
        self._before = owners
        self._owners: dict[str, str] = {}

    def trace(self) -> Trace:
        found = Trace()
        calls, found.merged = self._calls()
        turns: dict[str, list[Turn]] = {}
        for span in self._spans:
            owner = self._owner(span)
            found.owners[span.span_id] = owner
            if self._kinds[span.span_id] in (SpanKind.RUN, SpanKind.OTHER):
                found.others += self._kinds[span.span_id] is SpanKind.OTHER
                continue
            if (call := calls.get(span.span_id)) is not None:
                turns.setdefault(owner, []).append(self._turn(call))
        awaited = set(self._before.values())
        for span in self._spans:
            if self._kinds[span.span_id] is SpanKind.RUN or span.span_id in awaited:
                turns.setdefault(span.span_id, [])
        judged = self._judgements(found.owners, turns)
        for owner, its in turns.items():
            found.runs[owner] = self._run(owner, tuple(its), judged.get(owner, ()))
        return found

    def _owner(self, span: Span) -> str:
        """The run that a span belongs to; one that is a run itself belongs to none but itself."""
        at = span
        while True:
            known = self._owners.get(at.span_id) or self._before.get(at.span_id)
            if known is None and self._kinds.get(at.span_id) is SpanKind.RUN:
                known = at.span_id
            above = at.parent_id
            if known is None and above is None:
                known = at.span_id
            if known is None and above is not None and above not in self._by_id:
                known = self._before.get(above, above)
            if known is not None:
                break
            at = self._by_id[above or ""]
        self._owners[span.span_id] = known
        return known

    def _above(self, span: Span) -> Iterable[Span]:
        """The spans above one, up to the run that it belongs to."""
        while (above := self._by_id.get(span.parent_id or "")) is not None:
            if self._kinds[above.span_id] is SpanKind.RUN:
                return
            yield above
            span = above

    def _calls(self) -> tuple[dict[str, Span], int]:
        """The spans that are calls, each completed by those that tell of the same call."""
        inside: dict[str, list[Span]] = {}
        dropped: set[str] = set()
        for span in self._spans:
            kind = self._kinds[span.span_id]
            if kind not in (SpanKind.MODEL, SpanKind.TOOL):
                continue
            same = next((s for s in self._above(span) if self._kinds[s.span_id] is kind), None)
            if same is None:
                continue
            inside.setdefault(same.span_id, []).append(span)
            dropped.add(same.span_id if kind is SpanKind.MODEL else span.span_id)
        calls: dict[str, Span] = {}
        for span in self._spans:
            kind = self._kinds[span.span_id]
            if kind not in (SpanKind.MODEL, SpanKind.TOOL) or span.span_id in dropped:
                continue
            calls[span.span_id] = self._completed(span, kind, inside)
        return calls, len(dropped)

    def _completed(self, span: Span, kind: SpanKind, inside: Mapping[str, list[Span]]) -> Span:
        if kind is SpanKind.TOOL:
            inner = inside.get(span.span_id, ())
            if len(inner) == 1:
                return replace_attributes(span, {**inner[0].attributes, **span.attributes})
            return span
        for above in self._above(span):
            if self._kinds[above.span_id] is kind and len(inside[above.span_id]) == 1:
                span = replace_attributes(span, {**above.attributes, **span.attributes})
        return span

    def _turn(self, span: Span) -> Turn:
        reading = Reading(span)
        if self._kinds[span.span_id] is SpanKind.TOOL:
            return tool_turn(reading)
        return model_turn(reading, self._prices)

    def _judgements(
        self, owners: Mapping[str, str], turns: dict[str, list[Turn]]
    ) -> dict[str, tuple[Judgement, ...]]:
        found: dict[str, tuple[Judgement, ...]] = {}
        for span in self._spans:
            its = tuple(
                judgement_of(event.attributes)
                for event in span.events
                if event.name == "gen_ai.evaluation.result"
            )
            if its:
                owner = owners[span.span_id]
                found[owner] = (*found.get(owner, ()), *its)
                turns.setdefault(owner, [])
        return found

    def _run(
        self, owner: str, turns: tuple[Turn, ...], judgements: tuple[Judgement, ...]
    ) -> ForeignRun:
        span = self._by_id.get(owner)
        trace_id = self._spans[0].trace_id
        its = [one for one in self._spans if self._owners[one.span_id] == owner]
        starts = [one.start_ns for one in its if one.start_ns is not None]
        calls = [turn for turn in turns if isinstance(turn, ModelTurn)]
        reading = Reading(span) if span else None
        system = system_of(span) if span else None
        if system is None and calls and calls[0].prompt:
            first = calls[0].prompt[0]
            system = first if first.role == "system" else None
        error = reading.error if reading else None
        start_ns = span.start_ns if span else min(starts, default=None)
        return ForeignRun(
            format=FORMAT,
            source=FORMAT,
            source_run_id=f"{trace_id}/{owner}",
            where=f"trace {trace_id}",
            turns=turns,
            started={**self._started(reading, its), "model": calls[0].model if calls else None,
                     "parent_run_id": self._parent(span)},
            system=system,
            started_us=None if start_ns is None else start_ns // 1000,
            ended_us=span.end_ns // 1000 if span and span.end_ns is not None else None,
            duration_ms=span.latency_ms if span else None,
            stop_reason=_stop_word(span, error, turns),
            stop_detail=error[0] if error else None,
            is_failed=error is not None,
            labels=self._labels(its, is_whole=span is not None),
            judgements=judgements,
            is_judged=False,
        )  # fmt: skip

    def _parent(self, span: Span | None) -> str | None:
        """The run that started this one as a sub-agent."""
        if span is None or span.parent_id is None:
            return None
        above = self._by_id.get(span.parent_id)
        owner = self._owner(above) if above else self._before.get(span.parent_id)
        if owner is None or owner not in {*self._by_id, *self._before.values()}:
            return None
        if self._kinds.get(owner, SpanKind.RUN) is not SpanKind.RUN:
            return None  # the top of the trace is only the place where the agent was called
        return run_id_of(span.trace_id, owner)

    def _started(self, reading: Reading | None, its: Sequence[Span]) -> dict[str, Any]:
        readings = [reading] if reading else []
        readings += [Reading(one) for one in its[:50]]
        found = {
            name: next((text for one in readings if (text := one.text(name)) is not None), None)
            for name in ("conversation_id", "data_subject")
        }
        return {
            "agent": _agent_name(reading, readings),
            "agent_version": _agent_version(reading, its),
            **found,
        }

    @staticmethod
    def _labels(its: Sequence[Span], *, is_whole: bool) -> dict[str, str]:
        labels = {} if is_whole else {"otlp": NO_ROOT}
        resource = its[0].resource if its else {}
        for name in ("service.name", "deployment.environment.name", "deployment.environment"):
            text = clean_text(str(resource.get(name) or ""))
            if text and not text.startswith("unknown_service"):
                labels[name] = text
        return labels


def run_id_of(trace_id: str, owner: str) -> str:
    """The id of the run that a span of a trace is."""
    return ForeignRun(FORMAT, FORMAT, f"{trace_id}/{owner}", "", (), {}).run_id


def replace_attributes(span: Span, attributes: dict[str, Any]) -> Span:
    """The span with other attributes."""
    return msgspec.structs.replace(span, attributes=attributes)


def _without_circles(spans: list[Span]) -> list[Span]:
    """The spans, none of which is above itself: a circle is cut at one of its spans."""
    parents = {span.span_id: span.parent_id for span in spans}
    sound: set[str] = set()
    for span in spans:
        path: dict[str, None] = {}
        at: str | None = span.span_id
        while at is not None and at in parents and at not in sound:
            if at in path:
                parents[at] = None
                break
            path[at] = None
            at = parents[at]
        sound.update(path)
    return [
        span
        if parents[span.span_id] == span.parent_id
        else msgspec.structs.replace(span, parent_id=None)
        for span in spans
    ]


def _order(span: Span) -> tuple[int, int, str]:
    start = _LATE if span.start_ns is None else span.start_ns
    return start, -(span.end_ns or 0), span.span_id


def _agent_name(reading: Reading | None, readings: Sequence[Reading]) -> str | None:
    if reading is not None:
        if (named := reading.text("agent")) is not None:
            return named
        span = reading.span
        if kind_of(span) is SpanKind.RUN or is_workflow(span):
            name = span.name.removeprefix("invoke_agent ").removeprefix("invoke_workflow ")
            return clean_text(name) or None
    return next((text for one in readings if (text := one.text("agent")) is not None), None)


def _agent_version(reading: Reading | None, its: Sequence[Span]) -> str | None:
    named = reading.text("agent_version") if reading else None
    version = its[0].resource.get("service.version") if its else None
    return named or (None if version is None else clean_text(str(version)))


def _stop_word(
    span: Span | None, error: tuple[str, str | None] | None, turns: Sequence[Turn]
) -> str | None:
    """Why a run ended, in a word that `stops` knows; None where its own span has not come."""
    if span is None:
        return None
    if error is not None:
        return stop_word(error[1] or "error", error[0])
    told = span.attributes.get("flightlog.run.source_stop_reason")
    if isinstance(told, str):
        return told
    last = next((one for one in reversed(turns) if isinstance(one, ModelTurn)), None)
    if last is not None and last.finish_reason in ("refusal", "content_filter"):
        return last.finish_reason
    if span.scope.startswith("anthropic") and last is not None:
        # Its loop just ends at the limit, with requests that nobody carried out.
        return "max_iterations" if last.finish_reason == "tool_use" else "completed"
    return "completed"
