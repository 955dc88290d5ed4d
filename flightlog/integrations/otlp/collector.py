"""The collector: OTLP in, runs in a store out.

What is acknowledged is kept: it is in the inbox, synced. A thread records each trace with its
runs when its top is there and nothing more came for a moment, or when nothing came for long.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flightlog.errors import FlightlogError
from flightlog.integrations.otlp.inbox import FOLDER, INBOX_FILE, Inbox, held
from flightlog.integrations.otlp.intake import Intake, Limits
from flightlog.integrations.otlp.recording import Recorded, Recording
from flightlog.integrations.otlp.sealing import Sealing
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.layout import create_layout
from flightlog.recorder.recorder import Recorder
from flightlog.redact.policy import Redaction
from flightlog.runtime.prices import PriceTable

_LOOK_S: Final = 0.2
_LOT_TRACES: Final = 100
_LONGEST_WAIT_S: Final = 5.0
_FORGET_EVERY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Waits:
    """When a trace is recorded.

    Attributes:
        grace_s: after the last span of one whose top is there, in seconds.
        idle_s: after the last span of one whose top is not.
        forget_s: after which the ids of its spans are forgotten: one that comes again then
            is taken for new.
    """

    grace_s: float = 2.0
    idle_s: float = 300.0
    forget_s: float = 86_400.0


class Collector:
    """Keeps spans and records their runs. A context manager.

    Attributes:
        intake: takes requests.
        last_error: why runs cannot be recorded at the moment; None when they can.

    Args:
        store: folder of the store; made when absent.
        redaction: what is taken out before anything is written.
        prices: for calls whose span tells no cost; None leaves them unpriced.
        limits: how much is taken.
        waits: when a trace is recorded.

    Raises:
        StoreError: the folder is no store, cannot be written to, or another process collects
            into it.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        redaction: Redaction | None = None,
        prices: PriceTable | None = None,
        limits: Limits | None = None,
        waits: Waits | None = None,
    ) -> None:
        self._waits = waits or Waits()
        self._prices = prices
        self.last_error: str | None = None
        self._closing = ExitStack()
        with ExitStack() as undo:
            layout = for_writing(create_layout(store))
            folder = layout.root / FOLDER
            undo.enter_context(held(folder))
            self._recorder = undo.enter_context(Recorder(store, redaction=redaction or Redaction()))
            self._path = folder / INBOX_FILE
            self._sealing = Sealing(layout, self._recorder.redactor)
            self._open_inbox().close()
            self.intake = Intake(self._open_inbox, limits or Limits())
            self._closing = undo.pop_all()
        self._stop = threading.Event()
        self._recorded = Recorded()
        self._thread = threading.Thread(target=self._record, name="flightlog-runs", daemon=True)
        self._thread.start()

    @property
    def recorded(self) -> Recorded:
        """What was recorded so far."""
        return self._recorded

    def waiting(self) -> int:
        """Spans that are kept and not yet recorded.

        Raises:
            StoreError: the inbox cannot be read.
        """
        inbox = self._open_inbox()
        try:
            return inbox.waiting()[0]
        finally:
            inbox.close()

    def close(self) -> None:
        """Keeps what was offered, records the traces that are whole, and lets go of the store.

        The others wait in the inbox for the next collector of this store.
        """
        if self._stop.is_set():
            return
        self.intake.close()
        self._stop.set()
        self._thread.join()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_inbox(self) -> Inbox:
        return Inbox(self._path, self._sealing)

    def _record(self) -> None:
        inbox = self._open_inbox()
        recording = Recording(inbox, self._recorder, prices=self._prices)
        self._recorded = recording.recorded
        pause_s, forgot_s, is_begun = _LOOK_S, time.monotonic(), False
        while not self._stop.wait(pause_s):
            try:
                if not is_begun:
                    recording.go_on()
                    is_begun = True
                self._record_ready(inbox, recording, self._waits.grace_s)
                if time.monotonic() - forgot_s > _FORGET_EVERY_S:
                    forgot_s = time.monotonic()
                    inbox.forget(older_than_s=self._waits.forget_s)
            except FlightlogError as error:
                self.last_error = str(error)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            else:
                self.last_error, pause_s = None, _LOOK_S
        try:
            self._record_ready(inbox, recording, 0.0)
        except FlightlogError as error:
            self.last_error = str(error)
        inbox.close()

    def _record_ready(self, inbox: Inbox, recording: Recording, grace_s: float) -> None:
        while ready := inbox.ready(grace_s=grace_s, idle_s=self._waits.idle_s, most=_LOT_TRACES):
            self._let_requests_pass()
            recording.record(ready)

    def _let_requests_pass(self) -> None:
        """Waits while requests do: what is kept has time, who sends has not."""
        until_s = time.monotonic() + _LONGEST_WAIT_S
        while self.intake.is_busy and not self._stop.is_set() and time.monotonic() < until_s:
            self._stop.wait(_LOOK_S)
