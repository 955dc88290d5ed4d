"""What matchers serve to a candidate that differs, on real runs: `python benchmarks/serving.py`.

Each trial of tau-bench's airline (gpt-4o, 50 tasks, 4 trials; `../shared/data`) is a recording,
each other trial of the task a candidate that makes its own calls. The truth is known: until the
first miss the candidate's calls were made in the world of the benchmark, and it recorded what it
saw. A run counts once, by its first event that is not a right answer: `ok` is a whole run served
rightly, `miss` and `WRONG` say what came first.

Beside the natural pairs stand four everyday deviations of a run from its own recording: a read
added after each write, the first of two reads around a write dropped, every read asked twice, two
neighbouring independent reads swapped.

Other matchers are those of common tools, on the same calls: per-tool FIFO, strict sequence, the
latest answer of (tool, arguments), its nth answer (what cassettes of HTTP do), and that with reads
made live on a miss. `--markdown` prints the tables as they stand in docs/serving_figures.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Final, Protocol

from benchmarks._timing import table
from examples.tau_bench.agent import PURE_FUNCTIONS
from flightlog.golden.files import load_tools
from flightlog.golden.judging.judge import accepted_writes, judged_calls, successful_writes
from flightlog.integrations.importers.importing import import_file
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matchers import Match
from flightlog.replay.matching import Rules
from flightlog.replay.recordings import read_recordings
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import PendingCall
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import canonical_args, canonical_json
from flightlog.trace.events import Evaluation, ToolCall
from flightlog.trace.messages import ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = ROOT.parent / "shared" / "data" / "native" / "tau-bench" / "gpt-4o-airline.json"
TOOLS_FILE: Final = ROOT / "examples" / "tau_bench" / "tools.yaml"
COMMAND: Final = "python benchmarks/serving.py"


@dataclass(frozen=True)
class Call:
    """A call with its true answer."""

    tool: str
    args: str
    outcome: Outcome
    result: str | None

    @property
    def key(self) -> tuple[str, str]:
        """Tool and canonical arguments."""
        return self.tool, canonical_args(self.args).digest

    @property
    def answer(self) -> tuple[Outcome, str | None]:
        """What is seen of it."""
        return self.outcome, self.result


Run = Sequence[Call]
Answer = tuple[Outcome, str | None]


class Server(Protocol):
    """Serves one candidate run."""

    def ask(self, call: Call) -> Answer | None:
        """The answer to the next call; None for a miss."""


Policy = Callable[[Sequence[Run]], Server]
"""Recordings -> what serves one candidate from them."""


class Fifo:
    """The next recorded answer of the tool, whatever its arguments."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._waiting: defaultdict[str, list[Answer]] = defaultdict(list)
        for call in runs[-1]:
            self._waiting[call.tool].append(call.answer)

    def ask(self, call: Call) -> Answer | None:
        """See `Server`."""
        waiting = self._waiting[call.tool]
        return waiting.pop(0) if waiting else None


class Latest:
    """The latest recorded answer of tool and arguments."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._known = {call.key: call.answer for run in runs for call in run}

    def ask(self, call: Call) -> Answer | None:
        """See `Server`."""
        return self._known.get(call.key)


class Nth:
    """The nth recorded answer of tool and arguments at the nth time that they are asked for.

    Attributes:
        live_calls: calls that were made live.
    """

    def __init__(self, runs: Sequence[Run], live: Mapping[str, Tool] | None = None) -> None:
        self._known: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
        for call in runs[-1]:
            self._known[call.key].append(call.answer)
        self._times: Counter[tuple[str, str]] = Counter()
        self._live = live
        self.live_calls = 0

    def ask(self, call: Call) -> Answer | None:
        """See `Server`."""
        known, time = self._known[call.key], self._times[call.key]
        self._times[call.key] += 1
        if time < len(known):
            return known[time]
        if self._live is None or self._live[call.tool].effect is Effect.WRITE:
            return None
        self.live_calls += 1
        return call.answer  # the world itself answers


class Ours:
    """flightlog's executor."""

    def __init__(
        self, runs: Sequence[Run], tools: Mapping[str, Tool], match: Match = Match.STATE
    ) -> None:
        recordings = [recording_of(run, number) for number, run in enumerate(runs)]
        cassette = Cassette(recordings, Rules(tools.values()), match)
        self._executor = StateAwareExecutor(cassette, golden="airline")
        self._tools = tools

    def ask(self, call: Call) -> Answer | None:
        """See `Server`."""
        request = ToolRequest("x", call.tool, call.args)
        pending = PendingCall.of(request, self._tools[call.tool], step=1, call_ix=0)
        served = self._executor.resolve(pending)
        is_miss = served.outcome is Outcome.REPLAY_MISS
        return None if is_miss else (served.outcome, served.result)


def recording_of(run: Run, number: int) -> Recording:
    """A recording that made these calls."""
    sink = MemorySink()
    writer = RunWriter(sink, run_id=f"run-{number}")
    writer.started(agent="airline")
    for step, call in enumerate(run, 1):
        writer.tool_call(
            step=step,
            call_ix=0,
            tool_name=call.tool,
            args=call.args,
            outcome=call.outcome,
            result=call.result,
        )
    return Recording(tuple(sink.events), sink.messages)


@dataclass(frozen=True)
class Airline:
    """The real runs.

    Attributes:
        tools: as declared in the example; pure ones with their functions.
        trials: the calls of each trial, by task.
        solved: for each trial of each task, whether its reward is 1.
        recordings: as imported, by task.
    """

    tools: dict[str, Tool]
    trials: dict[str, list[Run]]
    solved: dict[str, list[bool]]
    recordings: dict[str, list[Recording]]


def airline(folder: Path) -> Airline:
    """Imports the real runs into a store below `folder`."""
    with Recorder(folder / "runs") as recorder:
        import_file("tau-bench", FILE, recorder)
    recordings: dict[str, list[Recording]] = {}
    for run in read_recordings(Store.open(folder / "runs")):
        task = run.started.task_id if run.started else None
        recordings.setdefault(task or "", []).append(run)
    declared = load_tools(TOOLS_FILE)
    return Airline(
        {name: replace(tool, fn=PURE_FUNCTIONS.get(name)) for name, tool in declared.items()},
        {task: [_calls(run.tool_calls) for run in runs] for task, runs in recordings.items()},
        {task: [is_solved(run) for run in runs] for task, runs in recordings.items()},
        recordings,
    )


def is_solved(run: Recording) -> bool:
    """The benchmark's own reward is 1."""
    return [event for event in run.events if isinstance(event, Evaluation)][-1].passed is True


def _calls(calls: Sequence[ToolCall]) -> Run:
    return [Call(one.tool_name, one.args or "", one.outcome, one.result) for one in calls]


def policies(tools: Mapping[str, Tool]) -> dict[str, Policy]:
    """All matchers that are compared, by the name that they have in the table."""
    declared = {name: replace(tool, fn=None) for name, tool in tools.items()}
    return {
        "per-tool FIFO": Fifo,
        "strict sequence": lambda runs: Ours(runs, declared, Match.STRICT),
        "(tool, args), latest": Latest,
        "(tool, args), nth": Nth,
        "(tool, args), nth, live reads": lambda runs: Nth(runs, tools),
        "state-aware": lambda runs: Ours(runs, declared),
        "state-aware, pure tools executed": lambda runs: Ours(runs, tools),
    }


def first_event(server: Server, candidate: Run) -> str:
    """`ok` for a whole run that was served rightly, else what came first: `miss` or `WRONG`."""
    for call in candidate:
        answer = server.ask(call)
        if answer is None:
            return "miss"
        if answer != call.answer:
            return "WRONG"
    return "ok"


def natural(world: Airline) -> dict[str, Counter[str]]:
    """The first events over all ordered pairs of trials of a task, by matcher."""
    found: dict[str, Counter[str]] = {}
    for name, policy in policies(world.tools).items():
        found[name] = Counter(
            first_event(policy([one]), other)
            for runs in world.trials.values()
            for one, other in permutations(runs, 2)
            if other
        )
    found["the same, all other trials as recordings"] = Counter(
        first_event(Ours([one for one in runs if one is not other], world.tools), other)
        for runs in world.trials.values()
        for other in runs
        if other
    )
    return found


Deviated = tuple[Run, Run]
"""A recording and a candidate."""


def added(world: Airline) -> Iterator[Deviated]:
    """A read after each write that shows what it reads."""
    for run in _all_runs(world):
        candidate = _with_reads(run, world.tools)
        if len(candidate) > len(run):
            yield run, candidate


def dropped(world: Airline) -> Iterator[Deviated]:
    """The first of two reads around a write is left out."""
    for run in _all_runs(world):
        whole = _with_reads(run, world.tools)
        for place, call in enumerate(whole):
            later = [one for one in whole[place + 1 :] if one.key == call.key]
            if world.tools[call.tool].effect is Effect.READ and any(
                one.answer != call.answer for one in later
            ):
                yield whole, [*whole[:place], *whole[place + 1 :]]
                break


def asked_twice(world: Airline) -> Iterator[Deviated]:
    """Every read is asked twice."""
    for run in _all_runs(world):
        is_read = [world.tools[call.tool].effect is Effect.READ for call in run]
        candidate = [c for c, read in zip(run, is_read, strict=True) for c in [c] * (1 + read)]
        if any(is_read):
            yield run, candidate


def swapped(world: Airline) -> Iterator[Deviated]:
    """Two neighbouring independent reads change places."""
    for run in _all_runs(world):
        for place, (one, other) in enumerate(pairwise(run)):
            are_reads = all(world.tools[c.tool].effect is Effect.READ for c in (one, other))
            if are_reads and one.key != other.key:
                yield run, [*run[:place], other, one, *run[place + 2 :]]
                break


DEVIATIONS: Final[dict[str, Callable[[Airline], Iterator[Deviated]]]] = {
    "read added": added,
    "read dropped": dropped,
    "asked twice": asked_twice,
    "reads swapped": swapped,
}


def deviations(world: Airline) -> dict[str, dict[str, Counter[str]]]:
    """The first events under each deviation, by matcher."""
    pairs = {name: list(make(world)) for name, make in DEVIATIONS.items()}
    return {
        policy_name: {
            name: Counter(first_event(policy([recording]), run) for recording, run in those)
            for name, those in pairs.items()
        }
        for policy_name, policy in policies(world.tools).items()
    }


def judged(world: Airline) -> dict[str, Counter[str]]:
    """How judges agree with the reward: golden a solved trial, candidate another one."""
    rules = Rules(world.tools.values())
    found: dict[str, Counter[str]] = {"exact sequence of calls": Counter(), "writes": Counter()}
    for task, runs in world.recordings.items():
        for (one, golden), (other, candidate) in permutations(enumerate(runs), 2):
            if not world.solved[task][one]:
                continue
            is_solved = world.solved[task][other]
            mine = successful_writes(judged_calls(candidate.tool_calls, rules))
            verdicts = {
                "exact sequence of calls": [c.key for c in world.trials[task][one]]
                == [c.key for c in world.trials[task][other]],
                "writes": mine in accepted_writes(Cassette([golden], rules)),
            }
            for judge, passed in verdicts.items():
                word = "agrees" if passed == is_solved else f"false {'pass' if passed else 'fail'}"
                found[judge][word] += 1
    return found


def _all_runs(world: Airline) -> Iterator[Run]:
    for runs in world.trials.values():
        yield from runs


def _with_reads(run: Run, tools: Mapping[str, Tool]) -> list[Call]:
    """The run with a read after each write that declares what it shows."""
    rules = Rules(tools.values())
    found: list[Call] = []
    for call in run:
        found.append(call)
        for read in rules[call.tool].write_through if call.outcome is Outcome.OK else ():
            args = read.args_after(rules[call.tool].args_of(call.args), call.result)
            text = read.answer_after(call.result)
            if args is not None and text is not None:
                found.append(Call(read.tool_name, canonical_json(args), Outcome.OK, text))
    return found


def share(count: int, total: int) -> str:
    """Percent with one digit."""
    return f"{100 * count / total:.1f}"


def report(world: Airline) -> list[tuple[str, list[tuple[str, ...]], tuple[str, ...]]]:
    """All tables: title, rows, header."""
    words = ("ok", "miss", "WRONG")
    pairs = natural(world)
    total = next(iter(pairs.values())).total()
    first = [
        (name, *(share(found[word], found.total()) for word in words), str(found.total()))
        for name, found in pairs.items()
    ]
    by_policy = deviations(world)
    second = [
        (name, *("/".join(f"{100 * f[w] / f.total():.0f}" for w in words) for f in kinds.values()))
        for name, kinds in by_policy.items()
    ]
    counts = [found.total() for found in next(iter(by_policy.values())).values()]
    heads = [f"{name} ({count})" for name, count in zip(DEVIATIONS, counts, strict=True)]
    verdicts = judged(world)
    third = [
        (name, *(share(found[w], found.total()) for w in ("agrees", "false fail", "false pass")))
        for name, found in verdicts.items()
    ]
    judged_pairs = next(iter(verdicts.values())).total()
    return [
        (f"{total} pairs of trials: first event of a run, %", first, ("matcher", *words, "runs")),
        ("Deviations: ok/miss/WRONG, %", second, ("matcher", *heads)),
        (
            f"Judges against the reward, {judged_pairs} pairs, %",
            third,
            ("passes by", "agrees", "false fail", "false pass"),
        ),
    ]


def markdown(world: Airline) -> str:
    """The tables as they stand in the docs."""
    parts: list[str] = []
    for title, rows, header in report(world):
        lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="as they stand in the docs")
    options = parser.parse_args()
    if not FILE.exists():
        print(f"left out: the shared data is absent: {FILE}")
        return
    with tempfile.TemporaryDirectory() as folder:
        world = airline(Path(folder))
        if options.markdown:
            print(markdown(world), end="")
            return
        for title, rows, header in report(world):
            print(f"{title}\n\n{table(rows, header=header)}\n")


if __name__ == "__main__":
    main()
