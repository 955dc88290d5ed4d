"""The runs that go on over the wire: which request belongs to which, and their events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flightlog.integrations.dialects.dialect import Asked, whole_prompt
from flightlog.integrations.proxy.conversations import Conversation
from flightlog.integrations.proxy.open_run import Ending, Exchange, OpenRun
from flightlog.integrations.proxy.who import Who
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.task import Task
from flightlog.runtime.tools import toolset_message
from flightlog.trace.ids import new_id
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Origin, Outcome

SOURCE: Final = "proxy"
"""Source of the runs, for those who ask where they came from."""
_ERROR_CHARS: Final = 500
K = TypeVar("K")


@dataclass(slots=True)
class Counts:
    """What was recorded.

    Attributes:
        runs: that began.
        calls: model calls, failed ones too.
        lost: calls and ends that the store did not take.
        unread: requests to a known API that could not be read; they were passed on.
    """

    runs: int = 0
    calls: int = 0
    lost: int = 0
    unread: int = 0


@dataclass(slots=True)
class _Index:
    """Where runs are found again; the latest wins."""

    names: dict[tuple[str, str], OpenRun] = field(default_factory=dict)
    said: dict[str, OpenRun] = field(default_factory=dict)
    threads: dict[tuple[str, str], OpenRun] = field(default_factory=dict)
    calls: dict[tuple[str, str], OpenRun] = field(default_factory=dict)
    failed: dict[str, OpenRun] = field(default_factory=dict)

    @staticmethod
    def add(table: dict[K, OpenRun], key: K, run: OpenRun) -> None:
        """Makes a run be found by a key."""
        table[key] = run
        run.found_by.append((table, key))

    @staticmethod
    def forget(run: OpenRun) -> None:
        """Takes a run out of it."""
        for table, key in run.found_by:
            if table.get(key) is run:
                del table[key]


class Book:
    """Keeps the open runs and writes their events, one thing at a time.

    Its methods take what they write to a thread of its own, in order, and give a future: a
    request waits for it without holding up others.

    Args:
        recorder: takes the events.
        prices: of the calls.
        idle_s: a run is over after so long without a request, in seconds.
        origin: of the runs: live, or replay.

    Attributes:
        counts: what was recorded.
        last_error: why something was not.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        prices: PriceTable,
        idle_s: float,
        origin: Origin = Origin.LIVE,
    ) -> None:
        self.counts = Counts()
        self.last_error: str | None = None
        self._recorder = recorder
        self._prices = prices
        self._idle_s = idle_s
        self._origin = origin
        self._runs: dict[str, OpenRun] = {}
        self._index = _Index()
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flightlog-proxy")

    def begin(self, asked: Asked, who: Who, provider: str, retries: int) -> Future[Exchange]:
        """A request came: finds or begins its run, and records the tool results it brings."""
        return self._thread.submit(self._begin, asked, who, provider, retries)

    def end(self, exchange: Exchange, ending: Ending) -> Future[None]:
        """A request was answered, or was not: records it."""
        return self._thread.submit(self._end, exchange, ending)

    def stop(self, who: Who, given: Mapping[str, Any], judged: Mapping[str, Any]) -> Future[str]:
        """Ends a run by its name.

        Args:
            who: names it.
            given: columns of its end that the caller states.
            judged: columns of an evaluation; empty for none.

        Returns:
            Its id; empty where no run of the name is open.
        """
        return self._thread.submit(self._stop_named, who, given, judged)

    def look(self) -> Future[None]:
        """Ends the runs that nothing was heard of for long."""
        return self._thread.submit(self._end_idle)

    def close(self) -> None:
        """Ends all runs; nothing is taken after it."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.submit(self._end_all).result()
        self._thread.shutdown()

    @property
    def open_runs(self) -> int:
        """Runs that go on."""
        return len(self._runs)

    def _begin(self, asked: Asked, who: Who, provider: str, retries: int) -> Exchange:
        said = Conversation(asked.messages, who.scope)
        run = self._named(who) if who.run is not None else self._continued(asked, who.scope, said)
        if run is None:
            run = self._begun(asked, who)
        run.busy += 1
        run.touched_s = time.monotonic()
        self._index.failed.pop(said.key, None)
        run.write_tool_calls(asked)
        before = run.threads.get(asked.previous_id or asked.thread_id or "", ())
        step, attempt = run.place_of(said.key, retries)
        prompt = whole_prompt(before, asked.messages)
        return Exchange(run, asked, prompt, said, step=step, attempt=attempt, provider=provider)

    def _named(self, who: Who) -> OpenRun | None:
        return self._index.names.get((who.scope, who.run or ""))

    def _continued(self, asked: Asked, scope: str, said: Conversation) -> OpenRun | None:
        thread = asked.previous_id or asked.thread_id
        if thread and (run := self._index.threads.get((scope, thread))):
            return run
        if (run := self._index.failed.get(said.key)) is not None:
            return run
        found = None
        for key in said.keys:
            found = self._index.said.get(key, found)
        if found is not None:
            return found
        answers = (one.tool_call_id for one in asked.messages if one.tool_call_id)
        runs = [self._index.calls.get((scope, ident)) for ident in answers]
        return next((one for one in reversed(runs) if one is not None), None)

    def _begun(self, asked: Asked, who: Who) -> OpenRun:
        writer = RunWriter.with_system_clock(self._recorder, new_id())
        run = OpenRun(writer, who.run, who.scope)
        system = next((one for one in asked.messages if one.role == "system"), None)
        toolset = toolset_message(asked.tools) if asked.tools else None
        first = next((one.text for one in asked.messages if one.role == "user"), None)
        task = None if first is None else _task(first, who)
        messages = [one for one in (system, toolset, task) if one is not None]
        writer.started(
            messages=messages,
            origin=self._origin,
            source=SOURCE,
            model=asked.model,
            conversation_id=who.run,
            system_digest=system.digest if system else None,
            toolset_digest=toolset.digest if toolset else None,
            task_digest=task.digest if task else None,
            **who.columns,
        )
        self._runs[run.run_id] = run
        if who.run is not None:
            self._index.add(self._index.names, (who.scope, who.run), run)
        self.counts.runs += 1
        return run

    def _end(self, exchange: Exchange, ending: Ending) -> None:
        try:
            self._end_exchange(exchange, ending)
        except Exception as error:  # what cannot be recorded does not break the agent
            self.not_recorded(error)

    def not_recorded(self, error: Exception) -> None:
        """Counts what was answered and not recorded."""
        self.counts.lost += 1
        self.last_error = f"{type(error).__name__}: {error}"[:_ERROR_CHARS]

    def _end_exchange(self, exchange: Exchange, ending: Ending) -> None:
        run = exchange.run
        run.busy -= 1
        run.touched_s = time.monotonic()
        self.counts.calls += 1
        self.counts.lost += not run.end(exchange, ending, self._prices)
        if run.run_id not in self._runs:
            return  # it was ended by name meanwhile
        index, output = self._index, ending.answered.output
        if ending.outcome is Outcome.OK and output is not None:
            index.add(index.said, exchange.said.key_after(output), run)
            for thread in (ending.answered.response_id, exchange.asked.thread_id):
                if thread:
                    index.add(index.threads, (run.scope, thread), run)
            for request in output.tool_requests:
                if request.id:
                    index.add(index.calls, (run.scope, request.id), run)
        elif ending.outcome is not Outcome.OK and not ending.is_cancelled:
            index.add(index.failed, exchange.said.key, run)

    def _stop_named(self, who: Who, given: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
        run = self._named(who)
        if run is None:
            return ""
        self._stop(run, "its caller ended it", given)
        if judged:
            run.writer.evaluation(**judged)
        return run.run_id

    def _stop(self, run: OpenRun, why: str, given: Mapping[str, Any]) -> None:
        self._index.forget(run)
        del self._runs[run.run_id]
        self.counts.lost += not run.stop(why=why, given=given)

    def _end_idle(self) -> None:
        before_s = time.monotonic() - self._idle_s
        idle = [one for one in self._runs.values() if not one.busy and one.touched_s < before_s]
        for run in idle:
            self._stop(run, f"nothing came for {self._idle_s:g} s", {})

    def _end_all(self) -> None:
        for run in list(self._runs.values()):
            self._stop(run, "the proxy ended", {})


def _task(text: str, who: Who) -> Message:
    """The content of the task: the first thing that the user said."""
    columns = who.columns
    return Task(columns.get("task_id", ""), text, suite=columns.get("suite")).message.cleaned
