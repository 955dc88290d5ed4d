"""Serves a run with overlays on it: what goes wrong goes wrong, and the state stays right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from threading import Lock

from flightlog.replay.cassette import Cassette
from flightlog.replay.misses import MissPolicies
from flightlog.replay.overlay import Action, Overlay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import PendingCall, Served
from flightlog.trace.canonical import canonical_json
from flightlog.trace.vocab import Outcome


class OverlayExecutor(StateAwareExecutor):
    """Serves one run from its recordings, but for the calls that an overlay changes.

    A failed write changes nothing and one that times out leaves its scopes unknown; so does
    a write whose result is changed. A changed read changes nothing.

    Args:
        cassette: the accepted recordings, indexed.
        overlays: the first that fits a call is taken.
        golden: name of what is replayed, for messages.
        misses: what happens to a call that no recording answers.

    Attributes:
        overlays: as given.
        applied: by place in `overlays`: calls that it changed, or steps that it ruled.
    """

    def __init__(
        self,
        cassette: Cassette,
        overlays: Sequence[Overlay],
        *,
        golden: str,
        misses: MissPolicies | None = None,
    ) -> None:
        super().__init__(cassette, golden=golden, misses=misses or MissPolicies())
        self.overlays = tuple(overlays)
        self.applied: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()
        self._counting = Lock()

    def resolve(self, call: PendingCall) -> Served:
        """The answer to one call, in the order the candidate makes them."""
        overlay = self._overlay_of(call)
        if overlay is None:
            return super().resolve(call)
        if overlay.action is Action.FAIL:
            return Served(
                Outcome.FAILED,
                error=overlay.value["message"],
                error_type=overlay.value["type"],
                latency_ms=self.cassette.median_latency_ms(call.name),
            )
        if overlay.action is Action.TIMEOUT:
            timeout_s = call.tool.timeout_s if call.tool else None
            latency_ms = (timeout_s or 0.0) * 1000
            self._in_doubt(call)
            return Served(
                Outcome.TIMED_OUT,
                error=f"{call.name} timed out",
                error_type="TimeoutError",
                latency_ms=latency_ms or self.cassette.median_latency_ms(call.name),
            )
        return self._changed(overlay, call, super().resolve(call))

    def _overlay_of(self, call: PendingCall) -> Overlay | None:
        with self._counting:
            chosen: int | None = None
            for place, overlay in enumerate(self.overlays):
                if overlay.action.is_of_run:
                    continue
                if overlay.tool is None:
                    fits = overlay.step == call.step
                elif fits := fnmatchcase(call.name, overlay.tool):
                    self._seen[place] += 1
                    fits = overlay.nth in (None, self._seen[place])
                if fits and chosen is None:
                    chosen = place
            if chosen is None:
                return None
            self.applied[chosen] += 1
            return self.overlays[chosen]

    def _changed(self, overlay: Overlay, call: PendingCall, served: Served) -> Served:
        if served.outcome is Outcome.REPLAY_MISS:
            return served
        if overlay.action is Action.DELAY:
            latency_ms = (served.latency_ms or 0.0) + overlay.value
            timeout_s = call.tool.timeout_s if call.tool else None
            if timeout_s is not None and latency_ms > timeout_s * 1000:
                self._in_doubt(call)  # the gateway cuts it
            return replace(served, latency_ms=latency_ms)
        if overlay.action is Action.TRUNCATE:
            if served.result is None or len(served.result) <= overlay.value:
                return served
            self._in_doubt(call)
            return replace(served, result=served.result[: overlay.value])
        value = overlay.value
        self._in_doubt(call)
        text = value if isinstance(value, str) else canonical_json(value)
        return replace(served, outcome=Outcome.OK, result=text, error=None, error_type=None)

    def _in_doubt(self, call: PendingCall) -> None:
        """Nobody knows what a write did; a read did nothing."""
        rule = self.cassette.rules[call.request.name]
        with self._lock:
            self._walk.happened(
                rule, rule.args_of(call.request.arguments), Served(Outcome.TIMED_OUT)
            )
