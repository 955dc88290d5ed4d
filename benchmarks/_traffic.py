"""Made-up production traffic, and incidents that are put into it.

Four agents, ten tenants, six tools, two models, two days with a rhythm. Healthy traffic is
not smooth: tools fail now and then and are tried again, tenants start batches, tasks differ,
latencies follow the hour, users try again after a failure, versions are released that change
nothing. Everything follows from the seed.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from flightlog.analysis.db import Traces
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import events_schema, messages_schema
from flightlog.trace.vocab import StopReason

BEGIN = datetime(2026, 11, 2, tzinfo=UTC)
PRICES = {"fast-1": (0.25e-6, 1.25e-6), "large-1": (2e-6, 10e-6), "large-2": (10e-6, 50e-6)}
CACHED_SHARE_OF_PRICE = 0.1
CONTEXT_LIMIT = 32_000


@dataclass(frozen=True)
class Tool:
    effect: str
    failing: float
    median_ms: float


TOOLS = {
    "search": Tool("read", 0.02, 400),
    "fetch_page": Tool("read", 0.03, 900),
    "crm_lookup": Tool("read", 0.01, 120),
    "get_order": Tool("read", 0.005, 80),
    "refund": Tool("write", 0.01, 300),
    "send_email": Tool("write", 0.008, 250),
}


@dataclass(frozen=True)
class Agent:
    weight: float
    model: str
    steps: float
    tools: dict[str, float]


AGENTS = {
    "support": Agent(
        0.4, "fast-1", 4, {"crm_lookup": 4, "get_order": 4, "refund": 1, "send_email": 1}
    ),
    "research": Agent(0.25, "large-1", 6, {"search": 5, "fetch_page": 5, "send_email": 0.3}),
    "billing": Agent(0.2, "fast-1", 3, {"get_order": 4, "crm_lookup": 2, "refund": 2}),
    "triage": Agent(0.15, "large-1", 3, {"search": 2, "crm_lookup": 3, "send_email": 1}),
}
TENANTS = {f"tenant-{number:02d}": 1 / (number + 1) for number in range(10)}


@dataclass(frozen=True)
class Incident:
    """What goes wrong, on whom, and when.

    Attributes:
        kind: one of INCIDENTS.
        subject: agent, tool, model or tenant that is the cause.
        begin_s: seconds from the beginning of the traffic.
        end_s: the same.
        size: how bad, from 0 to 1.
    """

    kind: str
    subject: str
    begin_s: float
    end_s: float
    size: float

    def is_on(self, kind: str, subject: str, at_s: float) -> bool:
        return self.kind == kind and self.subject == subject and self.begin_s <= at_s < self.end_s


NONE = Incident("none", "", 0, 0, 0)
SUBJECTS: dict[str, tuple[str, ...]] = {
    "flaky_tool": tuple(TOOLS),
    "slow_tool": tuple(TOOLS),
    "tool_schema": ("search", "fetch_page", "crm_lookup", "get_order"),
    "model_outage": ("fast-1", "large-1"),
    "slow_model": ("fast-1", "large-1"),
    "runaway": tuple(AGENTS),
    "loop": tuple(AGENTS),
    "prompt_growth": tuple(AGENTS),
    "tenant_surge": tuple(TENANTS)[1:],
    "unusable_ends": tuple(AGENTS),
    "model_swap": tuple(AGENTS),
    "cache_lost": tuple(AGENTS),
    "denied_tool": tuple(AGENTS),
    "duplicate_writes": ("support", "billing"),
    "chatty": tuple(AGENTS),
    "tight_budget": tuple(AGENTS),
}
INCIDENTS = tuple(SUBJECTS)
CAUSES = {
    "flaky_tool": {"tool_failing"},
    "slow_tool": {"tool_slow"},
    "tool_schema": {"tool_invalid"},
    "model_outage": {"model_failing"},
    "slow_model": {"model_slow"},
    "runaway": {"runaway"},
    "loop": {"loops"},
    "prompt_growth": {"prompt_growth"},
    "tenant_surge": {"surge"},
    "unusable_ends": {"stops"},
    "model_swap": {"model_changed"},
    "cache_lost": {"cache_lost"},
    "denied_tool": {"refused"},
    "duplicate_writes": {"duplicate_writes"},
    "chatty": {"calls"},
    "tight_budget": {"stops"},
}
"""Kinds of a postmortem's finding that name the cause."""
_ENDS_WITH_WINDOW = {
    "loop", "prompt_growth", "model_swap", "cache_lost", "denied_tool", "duplicate_writes",
    "chatty", "tight_budget",
}  # fmt: skip
"""Releases: they last until somebody has looked, which is now."""


def incident(kind: str, seed: int, hours: float) -> Incident:
    """An incident of this kind, at a time, on a subject and of a size that the seed gives."""
    rng = random.Random(f"{kind}/{seed}")
    window = hours * 3600
    begin = window * rng.uniform(0.45, 0.85)
    lasts = window if kind in _ENDS_WITH_WINDOW else rng.uniform(2, 6) * 3600
    return Incident(kind, rng.choice(SUBJECTS[kind]), begin, begin + lasts, rng.random())


class Columns:
    """Rows of one kind of event, column by column."""

    def __init__(self, kind: str, names: tuple[str, ...]) -> None:
        self.kind = kind
        self.names = names
        self.rows: list[tuple[Any, ...]] = []

    def table(self) -> pa.Table:
        schema = events_schema()
        columns = dict(zip(self.names, zip(*self.rows, strict=True), strict=True))
        arrays = [
            pa.array(columns[name], type=schema.field(name).type)
            if name in columns
            else pa.array([self.kind] * len(self.rows), type=schema.field("kind").type)
            if name == "kind"
            else pa.nulls(len(self.rows), schema.field(name).type)
            for name in schema.names
        ]
        return pa.Table.from_arrays(arrays, schema=schema)


@dataclass
class Traffic:
    """Builds the events of one window.

    Args:
        seed: of everything.
        runs: about how many are started.
        hours: length of the window.
        wrong: what goes wrong in it.
    """

    seed: int
    runs: int = 3_000
    hours: float = 48
    wrong: Incident = NONE
    started: Columns = field(
        default_factory=lambda: Columns(
            "run_started",
            ("run_id", "seq", "at", "agent", "agent_version", "model", "suite", "task_id",
             "tenant", "conversation_id", "system_digest", "toolset_digest", "config_digest"),
        )
    )  # fmt: skip
    model_calls: Columns = field(
        default_factory=lambda: Columns(
            "model_call",
            ("run_id", "seq", "at", "elapsed_ms", "step", "actor", "attempt", "outcome",
             "request_model", "response_model", "input_tokens", "output_tokens",
             "cache_read_tokens", "cost_usd", "latency_ms", "finish_reason", "context_limit",
             "is_truncated", "has_policy", "error_type"),
        )
    )  # fmt: skip
    tool_calls: Columns = field(
        default_factory=lambda: Columns(
            "tool_call",
            ("run_id", "seq", "at", "elapsed_ms", "step", "actor", "attempt", "outcome",
             "tool_name", "effect", "args_digest", "latency_ms", "error_type", "result_bytes",
             "cost_usd", "result_digest"),
        )
    )  # fmt: skip
    stopped: Columns = field(
        default_factory=lambda: Columns(
            "run_stopped",
            ("run_id", "seq", "at", "elapsed_ms", "status", "stop_reason", "duration_ms",
             "used_steps"),
        )
    )  # fmt: skip
    judged: Columns = field(
        default_factory=lambda: Columns("evaluation", ("run_id", "seq", "at", "name", "passed"))
    )

    def build(self) -> pa.Table:
        """All events."""
        self.rng = random.Random(f"traffic/{self.seed}")
        self.noise = random.Random(f"noise/{self.seed}")
        self.count = 0
        self.failing = {
            name: tool.failing * self.noise.uniform(0.6, 1.6) for name, tool in TOOLS.items()
        }
        # Releases that change nothing.
        self.releases = {
            agent: [self.noise.uniform(0, self.hours * 3600) for _ in range(2)] for agent in AGENTS
        }
        self.blips = [
            (self.noise.choice(tuple(TOOLS)), self.noise.uniform(0, self.hours * 3600), 400.0)
            for _ in range(3)
        ]
        for at_s, tenant, agent in sorted(self._starts()):
            self._session(at_s, tenant, agent)
        self._runaways()
        kinds = (self.started, self.model_calls, self.tool_calls, self.stopped, self.judged)
        return pa.concat_tables([one.table() for one in kinds if one.rows])

    def traces(self) -> Traces:
        """The same, to be asked."""
        nothing = messages_schema().empty_table()
        return Traces.of_snapshots({"made": Snapshot((), (), self.build(), nothing, ())})

    def _starts(self) -> list[tuple[float, str, str]]:
        """When runs are started, for whom, of which agent."""
        rng, window = self.rng, self.hours * 3600
        names, weights = list(AGENTS), [one.weight for one in AGENTS.values()]
        found = []
        batches = max(1, self.runs // 250)
        for _ in range(self.runs - 15 * batches):
            at = _by_rhythm(rng, window)
            found.append((at, _drawn(rng, TENANTS), rng.choices(names, weights)[0]))
        for _ in range(batches):
            at, tenant = _by_rhythm(rng, window), rng.choice(list(TENANTS))
            agent = rng.choices(names, weights)[0]
            for _ in range(rng.randint(5, 25)):
                found.append((min(at + rng.expovariate(1 / 600), window - 1), tenant, agent))
        if self.wrong.kind == "tenant_surge":
            hour = self.runs / self.hours
            lasts = (min(self.wrong.end_s, window) - self.wrong.begin_s) / 3600
            for _ in range(int(hour * lasts * (0.5 + 1.5 * self.wrong.size))):
                at = rng.uniform(self.wrong.begin_s, min(self.wrong.end_s, window))
                found.append((at, self.wrong.subject, rng.choices(names, weights)[0]))
        return found

    def _session(self, at_s: float, tenant: str, agent: str) -> None:
        """A user's conversation: a run, and others after a failure."""
        rng = self.rng
        task, conversation = f"{agent}-{rng.randrange(40)}", f"conv-{self.count}"
        for _ in range(4):
            stop, ended_s = self._run(at_s, tenant, agent, task, conversation)
            tries_again = 0.85 if stop in (None, StopReason.CRASHED) else 0.35
            if stop is StopReason.OK or rng.random() > tries_again:
                return
            at_s = ended_s + rng.uniform(20, 400)
            if at_s >= self.hours * 3600:
                return

    def _run(
        self, at_s: float, tenant: str, agent: str, task: str, conversation: str
    ) -> tuple[StopReason | None, float]:
        one = _Run(self, at_s, tenant, agent, task, conversation)
        return one.play()

    def _runaways(self) -> None:
        """A few runs that ask one tool again and again, where it answers everybody else."""
        if self.wrong.kind != "runaway":
            return
        rng = self.rng
        for number in range(1 + int(3 * self.wrong.size)):
            at = self.wrong.begin_s + rng.uniform(0, 1800)
            tenant = _drawn(rng, TENANTS)
            run = _Run(self, at, tenant, self.wrong.subject, "runaway", f"conv-r{number}")
            run.play_runaway(int(200 + 1_600 * rng.random()))


class _Run:
    """One run as it is recorded."""

    def __init__(
        self, to: Traffic, at_s: float, tenant: str, agent: str, task: str, conversation: str
    ) -> None:
        self.to, self.rng, self.wrong = to, to.rng, to.wrong
        self.at_s, self.begun_s, self.agent = at_s, at_s, agent
        self.spec = AGENTS[agent]
        self.run_id = f"run-{to.count:06d}"
        to.count += 1
        self.seq = 0
        self.model = self.spec.model
        if self._has("model_swap"):
            self.model = "large-2" if self.model == "large-1" else "large-1"
        released = sum(at_s >= when for when in to.releases[agent])
        release = self.wrong.subject == agent and at_s >= self.wrong.begin_s
        is_release = release and self.wrong.kind in _ENDS_WITH_WINDOW
        version = f"1.{released}" + (".9" if is_release else "")
        prompt = f"{agent}-prompt-{'new' if is_release else 'old'}"
        to.started.rows.append(
            (self.run_id, self._next(), self._at(), agent, version, self.model, "live", task,
             tenant, conversation, prompt, f"{agent}-tools", f"{agent}-config")
        )  # fmt: skip

    def play(self) -> tuple[StopReason | None, float]:
        rng, wrong = self.rng, self.wrong
        steps = 1 + min(int(rng.expovariate(1 / self.spec.steps)) + 1, 25)
        if self._has("chatty"):
            steps = 1 + int(steps * (1.8 + wrong.size))
        prompt = float(rng.lognormvariate(math.log(1_500), 0.15))
        growth = 5 + 6 * wrong.size if self._has("prompt_growth") else 1.0
        self.calls_left = 3 if self._has("tight_budget") else 40
        has_policy, stop = True, StopReason.OK
        is_looping = self._has("loop") and rng.random() < 0.3 + 0.4 * wrong.size
        for step in range(1, steps + 1):
            is_truncated = prompt > CONTEXT_LIMIT * 0.9
            if is_truncated:
                prompt, has_policy = CONTEXT_LIMIT * 0.6, False
            if not self._model_call(step, prompt, is_truncated, has_policy):
                stop = StopReason.MODEL_ERROR
            elif step < steps:
                stop = self._tools(step, has_policy)
            if stop is not StopReason.OK:
                break
            prompt += growth * rng.lognormvariate(math.log(700), 0.5)
            if is_looping and step == 2:
                self._loop(step, prompt)
        if self._has("unusable_ends") and rng.random() < 0.3 + 0.5 * wrong.size:
            stop = StopReason.CRASHED
        elif stop is StopReason.OK and rng.random() < 0.01:
            stop = StopReason.MAX_SECONDS
        self._stop(stop, steps)
        return stop, self.at_s

    def _tools(self, step: int, has_policy: bool) -> StopReason:
        """The tool calls of one step, and why the run ends after them."""
        rng, stop = self.rng, StopReason.OK
        for _ in range(2 if rng.random() < 0.2 else 1):
            if self.calls_left == 0:
                return StopReason.MAX_TOOL_CALLS
            self.calls_left -= 1
            tool = _drawn(rng, self.spec.tools)
            if not has_policy and rng.random() < 0.4:
                self._refused("refund", step, "denied", "tool_not_allowed")
            if self._has("denied_tool") and rng.random() < 0.25 + 0.4 * self.wrong.size:
                self._refused("delete_account", step, "denied", "tool_not_allowed")
            if not self._tool_call(step, tool) and rng.random() < 0.3:
                stop = StopReason.TOOL_FAILED
        return stop

    def play_runaway(self, calls: int) -> None:
        tool = max(self.spec.tools, key=lambda name: self.spec.tools[name])
        prompt = 2_000.0
        for step in range(1, calls + 1):
            self._model_call(step, prompt, False, True)
            self._one_call(step, tool, 1, "failed", f"page-{step % 3}", 400.0)
            prompt = min(prompt + 150, CONTEXT_LIMIT * 0.8)
        self._stop(StopReason.CANCELLED, calls)

    def _loop(self, step: int, prompt: float) -> None:
        tool = next(iter(self.spec.tools))
        for _ in range(5 + int(8 * self.wrong.size)):
            self._model_call(step, prompt, False, True)
            self._one_call(step, tool, 1, "ok", "again", 100.0)

    def _model_call(self, step: int, prompt: float, is_truncated: bool, has_policy: bool) -> bool:
        rng, wrong = self.rng, self.wrong
        failing = 0.004
        if wrong.is_on("model_outage", self.model, self.at_s):
            failing = 0.2 + 0.5 * wrong.size
        output = int(rng.lognormvariate(math.log(120), 0.5))
        latency = (300 + 12 * output + 0.01 * prompt) * rng.lognormvariate(0, 0.3)
        latency *= 1 + 0.15 * _rhythm(self.at_s)
        if wrong.is_on("slow_model", self.model, self.at_s):
            latency *= 2.5 + 3.5 * wrong.size
        cached = rng.uniform(0.5, 0.7) if step > 1 else 0.3
        if self._has("cache_lost"):
            cached = 0.0
        price_in, price_out = PRICES[self.model]
        shared = prompt * cached
        cost = (prompt - shared * (1 - CACHED_SHARE_OF_PRICE)) * price_in + output * price_out
        for attempt in (1, 2, 3):
            is_ok = rng.random() >= failing
            self.at_s += latency / 1000
            self.to.model_calls.rows.append(
                (self.run_id, self._next(), self._at(), self._elapsed(), step, "agent", attempt,
                 "ok" if is_ok else "failed", self.model, self.model if is_ok else None,
                 int(prompt) if is_ok else None, output if is_ok else None,
                 int(shared) if is_ok else None, cost if is_ok else None, latency,
                 "tool_call" if is_ok else None, CONTEXT_LIMIT, is_truncated, has_policy,
                 None if is_ok else "overloaded")
            )  # fmt: skip
            if is_ok:
                return True
        return False

    def _tool_call(self, step: int, tool: str) -> bool:
        rng, wrong = self.rng, self.wrong
        failing = self.to.failing[tool]
        for blip, begin, lasts in self.to.blips:
            if blip == tool and begin <= self.at_s < begin + lasts:
                failing = max(failing, 0.15)
        outcome = "failed"
        if wrong.is_on("flaky_tool", tool, self.at_s):
            failing = 0.25 + 0.55 * wrong.size
        if wrong.is_on("tool_schema", tool, self.at_s) and rng.random() < 0.3 + 0.6 * wrong.size:
            failing, outcome = 1.0, "invalid_output"
        arguments = f"{tool}-{rng.randrange(10_000)}"
        for attempt in (1, 2, 3):
            latency = TOOLS[tool].median_ms * rng.lognormvariate(0, 0.5)
            latency *= 1 + 0.2 * _rhythm(self.at_s)
            if wrong.is_on("slow_tool", tool, self.at_s):
                latency *= 3 + 5 * wrong.size
            is_bad = rng.random() < failing
            told = outcome if is_bad else "ok"
            self._one_call(step, tool, attempt, told, arguments, latency)
            if not is_bad:
                again = self._has("duplicate_writes") and TOOLS[tool].effect == "write"
                if again and rng.random() < 0.5 + 0.5 * wrong.size:
                    self._one_call(step, tool, 1, "ok", arguments, latency)
                return True
        return False

    def _one_call(
        self, step: int, tool: str, attempt: int, outcome: str, arguments: str, latency: float
    ) -> None:
        self.at_s += latency / 1000
        self.to.tool_calls.rows.append(
            (self.run_id, self._next(), self._at(), self._elapsed(), step, "agent", attempt,
             outcome, tool, TOOLS[tool].effect, arguments, latency,
             None if outcome == "ok" else "ServerError", 900, None,
             f"{arguments}-{outcome}")
        )  # fmt: skip

    def _refused(self, tool: str, step: int, outcome: str, why: str) -> None:
        self.to.tool_calls.rows.append(
            (self.run_id, self._next(), self._at(), self._elapsed(), step, "agent", 1, outcome,
             tool, "unknown", f"{tool}-x", None, why, None, None, None)
        )  # fmt: skip

    def _stop(self, stop: StopReason, steps: int) -> None:
        self.to.stopped.rows.append(
            (self.run_id, self._next(), self._at(), self._elapsed(), stop.status, stop,
             self._elapsed(), steps)
        )  # fmt: skip
        if self.rng.random() < 0.6:
            passed = self.rng.random() < (0.9 if stop is StopReason.OK else 0.2)
            self.to.judged.rows.append((self.run_id, 0, self._at(), "success", passed))

    def _has(self, kind: str) -> bool:
        return self.wrong.is_on(kind, self.agent, self.begun_s)

    def _next(self) -> int:
        self.seq += 1
        return self.seq - 1

    def _at(self) -> datetime:
        return BEGIN + timedelta(seconds=self.at_s)

    def _elapsed(self) -> float:
        return (self.at_s - self.begun_s) * 1000


def _rhythm(at_s: float) -> float:
    """Between -1 at night and 1 at noon."""
    return -math.cos(2 * math.pi * at_s / 86_400)


def _by_rhythm(rng: random.Random, window: float) -> float:
    while True:
        at = rng.uniform(0, window)
        if rng.random() < (1 + 0.6 * _rhythm(at)) / 1.6:
            return at


def _drawn(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
