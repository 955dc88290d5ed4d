"""The recorder: the sink that puts events into a store, one `write` each."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from flightlog.control.control import CONTROL_FOLDER, Control
from flightlog.control.redacting import redactor_at
from flightlog.errors import FlightlogError, StoreError
from flightlog.recorder.background import BackgroundSealer
from flightlog.recorder.disk import DISK, Disk
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.frames import FrameType
from flightlog.recorder.inside import INSIDE
from flightlog.recorder.journal import Journal, JournalLimits
from flightlog.recorder.layout import create_layout
from flightlog.recorder.prepared import redacted_payloads
from flightlog.recorder.process import MARK, notice_fork, unwatch, watch
from flightlog.recorder.records import NewFile, event_payload, message_payload
from flightlog.redact.events import EventRedactor
from flightlog.redact.policy import Capture, Redaction
from flightlog.trace.canonical import clean_text
from flightlog.trace.events import Evaluation, Event, Gap, RunStarted, RunStopped, encode_event
from flightlog.trace.messages import Message

SEEN_MESSAGES: Final = 1 << 17
"""How many message digests are remembered as stored; one forgotten is stored again."""

_DEFAULT_REDACTION: Final = Redaction()
_OF_NO_OPEN_RUN: Final = frozenset({Evaluation, Gap, RunStopped})
_PATIENCE_S: Final = 1.0
_left_behind: Final[list[Journal]] = []
"""Those that threads had in their hands when the interpreter ended them."""
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

    _is_closed = True

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
        self._reset()
        self._is_closed = False
        try:
            self._open()
        except OSError as error:
            raise StoreError(
                f"cannot write a journal: {error.strerror or error}",
                where=str(self._layout.journals),
                hint="Give a store that this user may write to.",
            ) from error
        watch(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._is_writing = False
        # None: to be closed, as soon as all that was parked before and after is written.
        self._parked: deque[tuple[Event, Sequence[Message], bool] | None] = deque()
        self._before: str | None = None
        self._no_events = 0
        self._is_unsure = False
        self._journal: Journal | None = None
        self._finalizer: Any = None
        self._retired: list[Journal] = []
        self._open_runs: dict[str, None] = {}
        self._seen: set[str] = set()
        self._unwritten_gap = 0
        self._gap_detail = ""
        self._gaps = 0

    def _open(self) -> Journal:
        write_parked = weakref.WeakMethod(self._write_parked)

        def on_idle() -> None:
            if (write := write_parked()) is not None:
                write()

        journal = Journal(
            self._layout,
            self._limits,
            continues=self._before,
            open_runs=tuple(self._open_runs),
            on_idle=on_idle,
        )
        # Frees lock and descriptor of a recorder that was never closed.
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = weakref.finalize(self, journal.close)
        self._finalizer.atexit = False  # threads may still record then: see `at_exit`
        self._journal = journal
        self._before = journal.journal_id
        self._no_events = 0
        self._seen.clear()
        return journal

    def _rotate(self, old: Journal) -> None:
        """Lets another journal take over; this one is sealed by a process beside this."""
        try:
            self._open()
        except (OSError, MemoryError) as error:
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
        returns. So it does in a thread of the recorder itself, which runs the
        finalisers of others, too: that one writes it once it holds no lock.

        Returns:
            True when the event is recorded (and durable where asked); False when it was
            dropped or could not be made durable. A parked event is True, unless it was to
            be durable: that cannot be promised from there.
        """
        if not MARK[0]:
            self._look_around()
        if INSIDE.depth and not self._is_closed:
            self._parked.append((event, messages, durable))
            return not durable
        try:
            with self._lock:
                if self._is_writing:
                    self._parked.append((event, messages, durable))
                    return not durable
                self._is_writing = True
                try:
                    journal = self._write(event, messages)
                finally:
                    self._is_writing = False
        finally:
            # Also when a signal handler parked something and then raised.
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
                is_to_close = False
                try:
                    while self._parked:
                        parked = self._parked.popleft()
                        if parked is None:
                            is_to_close = True
                            continue
                        event, messages, durable = parked
                        journal = self._write(event, messages)
                        if journal is not None and durable:
                            to_sync[id(journal)] = journal
                finally:
                    self._is_writing = False
            for journal in to_sync.values():
                self._sync(journal)
            if is_to_close:
                self.close()

    def _look_around(self) -> None:
        """Called where this process may be a child that nobody told of, or is about to end."""
        notice_fork()
        # The interpreter ends threads wherever they are; their locks are never given back.
        if sys.is_finalizing() and self._is_held_for_ever():
            if self._journal is not None:
                _left_behind.append(self._journal)
            if self._finalizer is not None:
                self._finalizer.detach()
            gap, detail, before = self._unwritten_gap, self._gap_detail, self._before
            self._reset()
            self._unwritten_gap, self._gap_detail, self._before = gap, detail, before

    def _is_held_for_ever(self) -> bool:
        if not self._lock.acquire(blocking=False):
            return True
        try:
            return self._journal is not None and self._journal.is_stuck()
        finally:
            self._lock.release()

    def _write(self, event: Event, messages: Sequence[Message]) -> Journal | None:
        """Writes the event; the journal that has it now, or None where it was dropped."""
        journal = self._journal
        try:
            if journal is None or not journal.is_usable:
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
            if journal is not None and journal is self._journal and not journal.is_usable:
                # Its descriptor was taken away, so that nothing was written: into another one.
                return self._write(event, messages)
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
        if type(event) is RunStarted and event.capture is None:
            event = msgspec.structs.replace(event, capture=Capture.FULL.value)
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
        self._no_events += len(messages)
        if self._unwritten_gap:
            self._gap_is_written()

    def _gap_is_written(self) -> None:
        # The events that it tells of are lost again if the journal is.
        self._no_events += 1 - self._unwritten_gap
        self._unwritten_gap = 0
        self._gaps += 1

    def _remember(self, digests: Iterable[str]) -> None:
        if len(self._seen) >= SEEN_MESSAGES:
            self._seen.clear()
        self._seen.update(digests)

    def _reopen(self) -> Journal:
        if self._is_closed:
            raise StoreError("the recorder is closed", where=str(self.store_path))
        journal, self._journal = self._journal, None
        if journal is not None:
            self._count_removed(journal)
            journal.close()
            if journal.sync_error is not None:
                self._is_unsure = True
                self._layout = replace(self._layout, trusts_cache=False)
        return self._open()

    def _count_removed(self, journal: Journal) -> None:
        """Counts the events that went with a removed journal, though they were recorded."""
        if not journal.is_removed:
            return
        lost = journal.records - self._no_events
        self._no_events = journal.records
        if lost:
            self._count_lost(lost, f"the journal {journal.journal_id} was removed")

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
        self._count_lost(1, self._redacting.detail(told) if self._redacting else told)

    def _count_lost(self, events: int, why: str) -> None:
        self.last_error = why
        self.dropped_events += events
        if not self._unwritten_gap:
            self._gap_detail = why
        self._unwritten_gap += events

    def _sync(self, journal: Journal) -> bool:
        INSIDE.depth += 1
        try:
            journal.sync()
        except (OSError, MemoryError) as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return False
        finally:
            INSIDE.depth -= 1
            if self._parked and not INSIDE.depth:
                self._write_parked()
        return True

    def sync(self) -> bool:
        """Makes durable all that was recorded; False when some of it may not be.

        For threads that may wait for a disk, on behalf of an event loop that may not.
        Where another journal took over from one that could not be synced, the first call
        after that says so; inside `emit` (a signal handler) it says False too.
        """
        if not MARK[0]:
            self._look_around()
        with self._lock:
            is_sure = not (self._is_unsure or self._is_writing)
            self._is_unsure = False
            journals = [*self._retired, *([] if self._journal is None else [self._journal])]
        synced = [self._sync(journal) for journal in journals]
        return is_sure and all(synced)

    def close(self) -> None:
        """Ends the journal and, unless told otherwise, seals the store's finished journals.

        Does not raise: a journal that cannot be sealed now stays readable and
        is sealed by the next `flightlog seal`; `last_error` then says why.
        """
        if not MARK[0]:
            self._look_around()
        with self._lock:
            if self._is_closed:
                return
            if self._is_writing:
                self._parked.append(None)  # inside `emit`, which closes when it is done
                return
            while not self._is_closed:
                self._write_last()
                self._is_closed = not self._parked
            journal, self._journal = self._journal, None
        unwatch(self)
        self.control.close()
        if journal is not None:
            journal.close()
        if self._before is not None:  # this process, not only its parent, has recorded
            for retired in self._retired:
                retired.join()
            self._sealer.wait()
            if self._seal_on_close:
                self._seal()

    def _write_last(self) -> None:
        """Writes what was parked, and the gap that is due."""
        self._write_parked()
        self._is_writing = True
        try:
            if self._journal is not None:
                self._count_removed(self._journal)
            if self._unwritten_gap:
                journal = self._journal
                if journal is None or not journal.is_usable or journal.is_removed:
                    journal = self._reopen()
                journal.append(_EVENT, encode_event(self._gap()))
                self._gap_is_written()
        except (OSError, MemoryError, StoreError) as error:
            self.last_error = f"{type(error).__name__}: {error}"
        finally:
            self._is_writing = False

    def _seal(self) -> None:
        # Here, so that a process that only records never loads pyarrow.
        from flightlog.recorder.seal import seal_after_recording  # noqa: PLC0415

        self.last_error = seal_after_recording(self.store_path) or self.last_error

    def __del__(self) -> None:
        if not self._is_closed:
            self.at_exit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def at_exit(self) -> None:
        """Writes what is due and syncs, for a recorder that nobody may close any more."""
        if not MARK[0]:
            self._look_around()
        # A disk that hangs does not keep the process; what is written stays written.
        if not self._lock.acquire(timeout=_PATIENCE_S):
            return
        try:
            if self._is_closed or self._is_writing:
                return
            self._write_last()
            journal = self._journal
            if journal is not None and not journal.is_stuck(patience_s=_PATIENCE_S):
                self._journal = None
                journal.close()
        finally:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's journals; the next event opens one."""
        journals = [*self._retired, *([self._journal] if self._journal is not None else [])]
        self._reset()
        self._sealer.forget()
        self.dropped_events = 0
        for journal in journals:
            journal.abandon()
