"""The one table of settings: every key, what it may hold, its default, what it means.

A key such as `retries.<tool>.max_attempts` stands for one entry per name that
the file chooses. What the file may hold, `flightlog config show` and the page
docs/config.md are all derived from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TRACKABLE_METRICS: Final = (
    "success",
    "tool_calls_per_run",
    "tool_mix",
    "tool_failures",
    "tokens_per_request",
    "cost_usd",
    "usd_per_mtok",
    "latency_p95",
    "tool_latency_p95",
    "run_latency_p95",
    "steps",
    "retries",
    "stop_reason",
    "stop_mix",
)
VIEWS: Final = (
    "runs",
    "steps",
    "model_calls",
    "tool_calls",
    "messages",
    "budgets",
    "writes",
    "events",
)
METRIC_KINDS: Final = ("ratio", "points", "p95")
KILL_SWITCH_MODES: Final = ("disable_writes", "stop_all", "disable_tools:GLOB")
FALLBACKS: Final = ("without_tool", "read_only", "stop")
GUARD_ACTIONS: Final = ("record", "read_only", "stop")
APPROVERS: Final = ("none", "terminal", "queue")
CAPTURE_LEVELS: Final = ("full", "redacted", "metadata")
STOPPING_OUTCOMES: Final = (
    "failed",
    "timed_out",
    "denied",
    "invalid_input",
    "invalid_output",
    "circuit_open",
    "deduplicated",
    "approval_denied",
    "kill_switch",
    "budget",
    "replay_miss",
)


class _Required:
    """Says that an entry must set the key itself."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        path: dotted key in the file; a part in `<>` is a name that the file chooses.
        schema: JSON Schema of its value.
        default: value when the file does not set it; REQUIRED where an entry must.
        description: what it does, one sentence.
    """

    path: str
    schema: Mapping[str, Any]
    default: Any
    description: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.split("."))

    @property
    def root(self) -> str:
        """The path up to the first chosen name; the path itself where it has none."""
        return self.path.partition(".<")[0]

    @property
    def is_entry(self) -> bool:
        """True when the key belongs to an entry under a chosen name."""
        return ".<" in self.path


def _limit(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"], "exclusiveMinimum": 0}


def _limit_from_0(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"], "minimum": 0}


_NAMES: Final = {"type": "array", "items": {"type": "string", "minLength": 1}}
_COUNT: Final = {"type": "integer", "minimum": 1}
_FROM_0: Final = {"type": "number", "minimum": 0}
_ABOVE_0: Final = {"type": "number", "exclusiveMinimum": 0}
_USD_PER_MTOK: Final = {"type": "number", "minimum": 0}
_KILL_MODE: Final = {"type": "string", "pattern": "^(disable_writes|stop_all|disable_tools:.+)$"}


def _retries(path: str, max_attempts: int, what: str) -> tuple[Setting, ...]:
    """The keys of one retry policy."""
    return (
        Setting(
            f"{path}.max_attempts",
            _COUNT,
            max_attempts,
            f"Tries of {what} in all; 1 never tries again. Every try spends budget.",
        ),
        Setting(f"{path}.initial_seconds", _FROM_0, 0.5, "Wait before the second try."),
        Setting(
            f"{path}.max_seconds",
            _FROM_0,
            30.0,
            "Longest wait between two tries; who asks for a longer one is not tried again.",
        ),
        Setting(
            f"{path}.multiplier",
            {"type": "number", "minimum": 1},
            2.0,
            "Growth of the wait from one try to the next.",
        ),
        Setting(
            f"{path}.jitter",
            {"type": "number", "minimum": 0, "maximum": 1},
            0.5,
            "Share of the wait that is random.",
        ),
    )


_TOOLS = (
    Setting(
        "tools.allow",
        _NAMES,
        ("search.read", "kb.read", "http.get"),
        "Tools that may be called: exact names, or globs where one is written.",
    ),
)
_BUDGETS = (
    Setting("budgets.max_steps", _limit("integer"), 30, "Steps per run."),
    Setting(
        "budgets.max_seconds",
        _limit("number"),
        90,
        "Seconds per run; also cuts a running model or tool call.",
    ),
    Setting(
        "budgets.max_tool_calls",
        _limit("integer"),
        15,
        "Tool call attempts per run, failed and refused ones too.",
    ),
    Setting("budgets.max_usd", _limit("number"), None, "USD per run; needs a price per model."),
    Setting("budgets.max_tokens", _limit("integer"), None, "Tokens per run."),
    Setting(
        "budgets.per_tool.<tool>.max_calls",
        _limit_from_0("integer"),
        None,
        "Attempts of the tool per run; a spent tool is refused and the run goes on.",
    ),
    Setting(
        "budgets.per_tool.<tool>.max_seconds",
        _limit_from_0("number"),
        None,
        "Seconds of all attempts of the tool per run.",
    ),
    Setting(
        "budgets.per_tool.<tool>.max_usd",
        _limit_from_0("number"),
        None,
        "USD per run by the declared cost of the tool.",
    ),
    Setting(
        "budgets.per_tenant.<tenant>.window_seconds",
        _ABOVE_0,
        REQUIRED,
        "Length of the sliding window that the processes on a store share.",
    ),
    Setting(
        "budgets.per_tenant.<tenant>.max_tool_calls",
        _limit_from_0("integer"),
        None,
        "Tool call attempts of the tenant in the window.",
    ),
    Setting(
        "budgets.per_tenant.<tenant>.max_usd",
        _limit_from_0("number"),
        None,
        "USD of the tenant in the window.",
    ),
    Setting(
        "budgets.per_tenant.<tenant>.max_tokens",
        _limit_from_0("integer"),
        None,
        "Tokens of the tenant in the window.",
    ),
)
_WRITES = (
    Setting(
        "writes.require_approval",
        {"type": "boolean"},
        default=True,
        description="A write needs an approver's yes.",
    ),
    Setting(
        "approvals.via",
        {"enum": list(APPROVERS)},
        "none",
        "Who is asked: nobody (a write is denied unless code gives an approver), the terminal, "
        "or the queue of the store (`flightlog approvals`).",
    ),
    Setting(
        "approvals.wait_seconds",
        _limit_from_0("number"),
        None,
        "How long a write waits for the answer; null waits 300 at the terminal and not at all "
        "for the queue, where the run ends with approval_pending and the next one goes on.",
    ),
    Setting(
        "approvals.valid_seconds",
        _ABOVE_0,
        3600,
        "How long a request in the queue can be decided and used.",
    ),
    Setting(
        "credentials.<tenant>.<tool>.<name>.env",
        {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        REQUIRED,
        "Environment variable that holds the credential; the value never stands in the file. The "
        "tenant `*` is every tenant.",
    ),
)
_CALLS = (
    Setting(
        "results.max_bytes",
        _limit("integer"),
        262_144,
        "Largest tool result in UTF-8; a larger one is invalid output.",
    ),
    Setting(
        "stop_on",
        {"type": "array", "items": {"enum": list(STOPPING_OUTCOMES)}},
        ("budget", "invalid_output", "kill_switch", "replay_miss"),
        "Outcomes of a tool call that end the run; the others go to the model as an error.",
    ),
    *_retries("retries.<tool>", 3, "a call of the tool"),
    *_retries("model_retries", 1, "a model call"),
    Setting(
        "breakers.<tool>.failure_rate",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        0.5,
        "Opens when at least this share of the calls in the window failed.",
    ),
    Setting(
        "breakers.<tool>.min_calls",
        _COUNT,
        5,
        "Calls in the window before a rate means anything.",
    ),
    Setting("breakers.<tool>.window_seconds", _ABOVE_0, 60.0, "How long a call counts."),
    Setting(
        "breakers.<tool>.open_seconds",
        _ABOVE_0,
        30.0,
        "How long it stays open before it lets probes through.",
    ),
    Setting(
        "breakers.<tool>.half_open_calls",
        _COUNT,
        1,
        "Probes at a time over all processes; this many successes close it.",
    ),
    Setting(
        "breakers.<tool>.fallback",
        {"enum": list(FALLBACKS)},
        "without_tool",
        "How a run goes on while it is open: without the tool, read-only, or not at all.",
    ),
)
_FROM_2: Final = {"type": "integer", "minimum": 2}
_GUARDS = (
    *(
        Setting(f"guards.actions.{guard}", {"enum": list(GUARD_ACTIONS)}, "record", f"What {what}.")
        for guard, what in (
            ("repeated_call", "the same call again and again leads to"),
            ("cycle", "steps that alternate in a cycle lead to"),
            ("no_progress", "steps that bring nothing new lead to"),
            ("prompt_growth", "a prompt that has grown too much leads to"),
            ("context_limit", "a prompt near the context limit leads to"),
            ("truncated", "a prompt that lost messages leads to"),
            ("policy_lost", "a request without the system policy message leads to"),
        )
    ),
    Setting(
        "guards.repeats",
        _FROM_2,
        3,
        "The same call with the same observation this often is repeated_call.",
    ),
    Setting("guards.cycles", _FROM_2, 3, "The same steps this often in a row are a cycle."),
    Setting("guards.max_period", _FROM_2, 4, "Steps of the longest cycle that is looked for."),
    Setting(
        "guards.stalled_steps",
        _FROM_2,
        5,
        "Steps in a row without a new observation are no_progress.",
    ),
    Setting(
        "guards.growth_factor",
        {"type": "number", "exclusiveMinimum": 1},
        10.0,
        "A prompt this many times as long as the first one is prompt_growth.",
    ),
    Setting(
        "guards.growth_bytes",
        {"type": "integer", "minimum": 0},
        65_536,
        "Below this size a prompt is never prompt_growth.",
    ),
    Setting(
        "guards.context_share",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        0.9,
        "From this share of the context window on a prompt is context_limit.",
    ),
)
_OPERATIONS = (
    Setting(
        "kill_switch.mode_when_enabled",
        _KILL_MODE,
        "disable_writes",
        "What the kill switch does once it is on: disable_writes, stop_all, or disable_tools:GLOB.",
    ),
    Setting(
        "monitoring.track",
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ("tool_calls_per_run", "tokens_per_request", "stop_reason", "latency_p95"),
        "Metrics that `flightlog check` gates on once a file sets it, and success where it is "
        "known; where none does, its own table of metrics decides.",
    ),
    Setting(
        "monitoring.metrics.<metric>.tolerance",
        _ABOVE_0,
        None,
        "Largest change for the worse that is still OK: 0.1 is 10 %, or 10 points of a share.",
    ),
    Setting(
        "monitoring.metrics.<metric>.gate",
        {"type": "boolean"},
        None,
        "Whether it can fail a check; none leaves it to `monitoring.track`, else to the table. A "
        "metric of your own gates.",
    ),
    Setting(
        "monitoring.metrics.<metric>.sql",
        {"type": "string", "minLength": 1},
        None,
        "Makes a metric of your own: one SQL expression over a view. Its value of a run is the "
        "aggregate over the run's rows, or the column of `runs`.",
    ),
    Setting(
        "monitoring.metrics.<metric>.from",
        {"enum": list(VIEWS)},
        None,
        "View that `sql` is over; none is `runs`.",
    ),
    Setting(
        "monitoring.metrics.<metric>.kind",
        {"enum": list(METRIC_KINDS)},
        None,
        "What a change of it is: a ratio of means (none is that), points of a share from 0 to 1, "
        "or a ratio of 95th percentiles over all rows of the view.",
    ),
    Setting(
        "monitoring.metrics.<metric>.unit",
        {"type": "string"},
        None,
        "Unit of its values, for reports; ms, tokens and USD are shown as such.",
    ),
    Setting(
        "monitoring.metrics.<metric>.worse",
        {"enum": ["higher", "lower"]},
        None,
        "Direction of harm; none is `higher`.",
    ),
)
_PRICES = (
    Setting(
        "prices.<model>.input_usd_per_mtok",
        _USD_PER_MTOK,
        REQUIRED,
        "Prompt tokens that no cache served, USD per million.",
    ),
    Setting(
        "prices.<model>.output_usd_per_mtok",
        _USD_PER_MTOK,
        REQUIRED,
        "Answer tokens, USD per million.",
    ),
    Setting(
        "prices.<model>.cache_read_usd_per_mtok",
        _USD_PER_MTOK,
        None,
        "Prompt tokens read from a cache, USD per million; else as input.",
    ),
    Setting(
        "prices.<model>.cache_write_usd_per_mtok",
        _USD_PER_MTOK,
        None,
        "Prompt tokens put in a cache, USD per million; else as input.",
    ),
)
_REDACTION = (
    Setting(
        "redaction.capture",
        {"enum": list(CAPTURE_LEVELS)},
        "redacted",
        "What is recorded of the texts: all, with secrets replaced, or no arguments, results, "
        "messages, answers and errors at all.",
    ),
    Setting(
        "redaction.off",
        _NAMES,
        (),
        "Kinds that are left alone, such as card; `flightlog redact --kinds` lists them.",
    ),
    Setting(
        "redaction.emails",
        {"type": "boolean"},
        default=False,
        description="Replace e-mail addresses.",
    ),
    Setting(
        "redaction.phones",
        {"type": "boolean"},
        default=False,
        description="Replace telephone numbers.",
    ),
    Setting(
        "redaction.key_names",
        _NAMES,
        (),
        "Names of fields whose values are secret, beside password, api_key, authorization ...",
    ),
    Setting(
        "redaction.ignored_names",
        _NAMES,
        (),
        "Names of fields that sound secret and are not.",
    ),
    Setting(
        "redaction.environment",
        {"type": "boolean"},
        default=True,
        description="The values of environment variables with secret names are secret wherever "
        "they stand.",
    ),
    Setting(
        "redaction.env",
        _NAMES,
        (),
        "Names of environment variables whose values are secret too; `*` stands for any signs.",
    ),
    Setting(
        "redaction.patterns.<kind>.regex",
        {"type": "string", "minLength": 1},
        REQUIRED,
        "A pattern of your own in RE2 syntax; what it matches becomes `<kind:...>`.",
    ),
    Setting(
        "redaction.key_file",
        {"type": ["string", "null"], "minLength": 1},
        None,
        "File with the key of the pseudonyms; the variable FLIGHTLOG_REDACTION_KEY wins over it, "
        "and null takes the store's own.",
    ),
    Setting(
        "redaction.max_seconds",
        _ABOVE_0,
        5.0,
        "Longest time for one event up to 8 MiB; after that it is recorded without its texts.",
    ),
)
SETTINGS: Final = (
    *_TOOLS,
    *_BUDGETS,
    *_WRITES,
    *_CALLS,
    *_GUARDS,
    *_OPERATIONS,
    *_REDACTION,
    *_PRICES,
)


def file_schema() -> dict[str, Any]:
    """JSON Schema of a settings file, derived from the table."""
    root = _group()
    for setting in SETTINGS:
        node = root
        *groups, last = setting.keys
        for group in groups:
            node = _child(node, group)
        node["properties"][last] = dict(setting.schema)
        if setting.default is REQUIRED:
            node["required"].append(last)
    return root


def _group() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def _child(node: dict[str, Any], key: str) -> dict[str, Any]:
    """The group under a key; under a chosen name, the schema of every entry."""
    found: dict[str, Any]
    if key.startswith("<"):
        found = node["additionalProperties"] = node["additionalProperties"] or _group()
    else:
        found = node["properties"].setdefault(key, _group())
    return found
