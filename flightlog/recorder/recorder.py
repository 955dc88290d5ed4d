"""The recorder: the sink that puts events into a store, one `write` each."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from flightlog.control.control import CONTROL_FOLDER, Control
from flightlog.control.redacting import redactor_at
from flightlog.errors import FlightlogError, StoreError
from flightlog.recorder.background import BackgroundSealer
from flightlog.recorder.disk import DISK, Disk
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.frames import FrameType
from flightlog.recorder.journal import Journal, JournalLimits
from flightlog.recorder.layout import create_layout
from flightlog.recorder.prepared import redacted_payloads
from flightlog.recorder.records import NewFile, event_payload, message_payload
from flightlog.redact.events import EventRedactor
from flightlog.redact.policy import Redaction
from flightlog.trace.canonical import clean_text
from flightlog.trace.events import Evaluation, Event, Gap, RunStopped, encode_event
from flightlog.trace.messages import Message

SEEN_MESSAGES: Final = 1 << 17
"""How many message digests are remembered as stored; one forgotten is stored again."""

_DEFAULT_REDACTION: Final = Redaction()
_OF_NO_OPEN_RUN: Final = frozenset({Evaluation, Gap, RunStopped})
_EVENT: Final = int(FrameType.EVENT)
_MESSAGE: Final = int(FrameType.MESSAGE)


class Recorder:
    """Records events into a store: journal first, sealed into Parquet at close.

    An event is recorded when `emit` returns True: it survives the death of the
    process. With `durable=True` it survives the loss of power too. A recorder
    never raises out of `emit`: an event that cannot be kept is counted, and
    the count is written as a gap before the next event that can.

    Safe in threads, in signal handlers and over `fork`, where the child opens
    a journal of its own.

    Attributes:
        control: kill switch, breakers, windows and approvals of the store.
        redactor: takes secrets out of texts as this recorder does; None where it records all.

    Args:
        store: folder of the store; made when absent.
        redaction: what is taken out before anything is written.
        seal_on_close: turn journals without a living writer into Parquet at `close`.
        sync_interval_s: longest time that an event is only with the kernel, in seconds.
        seal_at_bytes: size at which a journal is closed, and sealed by a process beside this.
        seal_after_s: age at which it is, in seconds.

    Raises:
        StoreError: the folder is not a store, or cannot be written to.
        NewerFormatError: a newer flightlog made the store.
        StoreKeyError: the store is encrypted and its key is not given.
        ConfigError: the key of the redaction cannot be used.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        redaction: Redaction = _DEFAULT_REDACTION,
        seal_on_close: bool = True,
        sync_interval_s: float = 1.0,
        seal_at_bytes: int = 64 << 20,
        seal_after_s: float = 3600.0,
        disk: Disk = DISK,
    ) -> None:
        self._layout = for_writing(create_layout(store, disk=disk))
        self.store_path = self._layout.root
        self.redactor = redactor_at(self.store_path / CONTROL_FOLDER, redaction)
        self._redacting = EventRedactor(self.redactor) if self.redactor else None
        self.control = Control.at(
            self.store_path, redactor=self.redactor, records_all=self.redactor is None
        )
        self.dropped_events = 0
        self.last_error: str | None = None
        self._seal_on_close = seal_on_close
        self._limits = JournalLimits(sync_interval_s, seal_at_bytes, seal_after_s)
        self._sealer = BackgroundSealer(self.store_path)
        self._is_closed = False
        self._reset()
        try:
            self._open()
        except OSError as error:
            raise StoreError(
                f"cannot write a journal: {error.strerror or error}",
                where=str(self._layout.journals),
                hint="Give a store that this user may write to.",
            ) from error
        _recorders.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._is_writing = False
        self._parked: deque[tuple[Event, Sequence[Message], bool]] = deque()
        self._journal: Journal | None = None
        self._finalizer: Any = None
        self._retired: list[Journal] = []
        self._open_runs: dict[str, None] = {}
        self._seen: set[str] = set()
        self._unwritten_gap = 0
        self._gap_detail = ""
        self._gaps = 0

    def _open(self) -> Journal:
        before = self._journal.journal_id if self._journal is not None else None
        journal = Journal(
            self._layout, self._limits, continues=before, open_runs=tuple(self._open_runs)
        )
        # Frees lock and descriptor of a recorder that was never closed.
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = weakref.finalize(self, journal.close)
        self._journal = journal
        self._seen.clear()
        return journal

    def _rotate(self, old: Journal) -> None:
        """Lets another journal take over; this one is sealed by a process beside this."""
        try:
            self._open()
        except OSError as error:
            self.last_error = f"{type(error).__name__}: {error}"
            old.put_off()
            return
        self._retired = [one for one in self._retired if not one.is_closed]
        self._retired.append(old)
        old.retire(self._sealer.start)

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        """Records one event and those of its messages that are not yet stored.

        Called while this same thread is inside `emit` (a signal handler, a
        finaliser), it parks the event; the outer call writes it before it
        returns.

        Returns:
            True when the event is recorded (and durable where asked); False when it was
            dropped or could not be made durable. A parked event is True, unless it was to
            be durable: that cannot be promised from there.
        """
        with self._lock:
            if self._is_writing:
                self._parked.append((event, messages, durable))
                return not durable
            self._is_writing = True
            try:
                journal = self._write(event, messages)
            finally:
                self._is_writing = False
        if self._parked:
            self._write_parked()
        return journal is not None and (not durable or self._sync(journal))

    def _write_parked(self) -> None:
        # An event parked by a handler that runs just now is either seen by the
        # loop's next test or finds `_is_writing` unset and writes itself.
        while self._parked:
            with self._lock:
                if self._is_writing:
                    return
                self._is_writing = True
                to_sync: dict[int, Journal] = {}
                try:
                    while self._parked:
                        event, messages, durable = self._parked.popleft()
                        journal = self._write(event, messages)
                        if journal is not None and durable:
                            to_sync[id(journal)] = journal
                finally:
                    self._is_writing = False
            for journal in to_sync.values():
                self._sync(journal)

    def _write(self, event: Event, messages: Sequence[Message]) -> Journal | None:
        """Writes the event; the journal that has it now, or None where it was dropped."""
        try:
            journal = self._journal
            if journal is None or journal.sync_error is not None:
                journal = self._reopen()
            new = {m.digest: m for m in messages if m.digest not in self._seen}
            files: list[Path] = []
            payload, rows, run_id = self._payloads(event, new.values(), files.append)
            for path in files:
                journal.sync_with_next(path)
            if rows or self._unwritten_gap:
                self._append_with_more(journal, payload, rows)
            else:
                journal.append(_EVENT, payload)
            if not all(path.exists() for path in files):
                # Who removes blobs that nobody names did so before this event named it.
                self._payloads(event, new.values(), journal.sync_with_next)
            if new:
                self._remember(new)
        except Exception as error:
            # Whatever it is, it must not take the agent down: it is counted and told.
            self._count_drop(error)
            return None
        if type(run_id) is not str:
            pass  # was written as text, and is nobody's to go on with
        elif type(event) is RunStopped:
            self._open_runs.pop(run_id, None)
        elif type(event) not in _OF_NO_OPEN_RUN:
            self._open_runs[run_id] = None
        if journal.is_due:
            self._rotate(journal)
        return journal

    def _payloads(
        self, event: Event, messages: Collection[Message], on_new_file: NewFile
    ) -> tuple[bytes, list[bytes], str]:
        """The event and its new messages as records, and its run, as they are to be recorded."""
        layout = self._layout
        if self._redacting is not None:
            return redacted_payloads(event, messages, self._redacting, layout, on_new_file)
        rows = [message_payload(message, layout, on_new_file) for message in messages]
        return event_payload(event, layout, on_new_file), rows, event.run_id

    def _append_with_more(
        self, journal: Journal, payload: bytes, messages: Sequence[bytes]
    ) -> None:
        """Appends a gap that is due, the messages and the event, in one `write`."""
        records = [(_MESSAGE, message) for message in messages]
        records.append((_EVENT, payload))
        if self._unwritten_gap:
            records.insert(0, (_EVENT, encode_event(self._gap())))
        journal.append_all(records)
        if self._unwritten_gap:
            self._unwritten_gap = 0
            self._gaps += 1

    def _remember(self, digests: Iterable[str]) -> None:
        if len(self._seen) >= SEEN_MESSAGES:
            self._seen.clear()
        self._seen.update(digests)

    def _reopen(self) -> Journal:
        if self._is_closed:
            raise StoreError("the recorder is closed", where=str(self.store_path))
        if self._journal is not None:
            self._journal.close()
            if self._journal.sync_error is not None:
                self._layout = replace(self._layout, trusts_cache=False)
        return self._open()

    def _gap(self) -> Gap:
        return Gap(
            run_id="",
            seq=self._gaps,
            at=time.time_ns() // 1000,
            dropped_events=self._unwritten_gap,
            detail=self._gap_detail,
        )

    def _count_drop(self, error: Exception) -> None:
        text = error.what if isinstance(error, FlightlogError) else str(error)
        told = clean_text(f"{type(error).__name__}: {text}")
        self.last_error = self._redacting.detail(told) if self._redacting else told
        self.dropped_events += 1
        if not self._unwritten_gap:
            self._gap_detail = self.last_error
        self._unwritten_gap += 1

    def _sync(self, journal: Journal) -> bool:
        try:
            journal.sync()
        except OSError as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return False
        return True

    def sync(self) -> bool:
        """Makes durable all that was recorded; False when some of it may not be.

        For threads that may wait for a disk, on behalf of an event loop that may not.
        """
        with self._lock:
            journals = [*self._retired, *([] if self._journal is None else [self._journal])]
        synced = [self._sync(journal) for journal in journals]
        return all(synced)

    def close(self) -> None:
        """Ends the journal and, unless told otherwise, seals the store's finished journals.

        Does not raise: a journal that cannot be sealed now stays readable and
        is sealed by the next `flightlog seal`; `last_error` then says why.
        """
        with self._lock:
            if self._is_closed:
                return
            if self._unwritten_gap and self._journal is not None:
                self._write_last_gap(self._journal)
            self._is_closed = True
            journal, self._journal = self._journal, None
        _recorders.discard(self)
        self.control.close()
        if journal is not None:
            journal.close()
            for retired in self._retired:
                retired.join()
            self._sealer.wait()
            if self._seal_on_close:
                self._seal()

    def _write_last_gap(self, journal: Journal) -> None:
        try:
            journal.append(_EVENT, encode_event(self._gap()))
        except OSError as error:
            self.last_error = f"{type(error).__name__}: {error}"
        else:
            self._unwritten_gap = 0

    def _seal(self) -> None:
        # Here, so that a process that only records never loads pyarrow.
        from flightlog.recorder.seal import seal_after_recording  # noqa: PLC0415

        self.last_error = seal_after_recording(self.store_path) or self.last_error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        journals = [*self._retired, *([self._journal] if self._journal is not None else [])]
        self._reset()
        self._sealer.forget()
        self.dropped_events = 0
        for journal in journals:
            journal.abandon()


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
