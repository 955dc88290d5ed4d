"""The JSON Schema of a `task.yaml`, for editors and for who writes contracts with programs."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flightlog.golden.judging.rules import WRITES_ACCEPTED, WRITES_IGNORE
from flightlog.runtime.budget import Budget
from flightlog.trace.versions import GOLDEN_VERSION
from flightlog.trace.vocab import StopReason


class Key(NamedTuple):
    """One key of `task.yaml`.

    Attributes:
        path: with dots; `[]` stands for the items of a list.
        schema: JSON Schema of its value.
        meaning: one sentence.
        is_required: the key must be there.
    """

    path: str
    schema: dict[str, Any]
    meaning: str
    is_required: bool = False


_TEXT: Final[dict[str, Any]] = {"type": "string"}
_WORD: Final[dict[str, Any]] = {"type": "string", "minLength": 1}
_TEXTS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}
_ONE_OR_MORE: Final[dict[str, Any]] = {"anyOf": [_TEXT, _TEXTS]}
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_LIST: Final[dict[str, Any]] = {"type": "array"}
_COUNT: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
_STEPS: Final[dict[str, Any]] = {"type": "integer", "minimum": 1}
_AMOUNT: Final[dict[str, Any]] = {"type": "number", "minimum": 0}
_BOUNDS: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 2,
}

KEYS: Final[tuple[Key, ...]] = (
    Key(
        "format",
        {"type": "integer", "minimum": 1, "maximum": GOLDEN_VERSION},
        "Format of contract and recordings.",
        is_required=True,
    ),
    Key("task_id", _WORD, "Task, unique within its suite.", is_required=True),
    Key("suite", _TEXT, "Suite that the task belongs to."),
    Key("prompt", _TEXT, "What the agent is asked; empty: a simulated user speaks first."),
    Key("inputs", _OBJECT, "Further inputs of the agent."),
    Key("digest", _TEXT, "Digest of the task's content, as recorded."),
    Key("tools", _TEXTS, "Tools that the candidate is offered; each is in tools.yaml."),
    Key("judge", _OBJECT, "What a replayed run must do to pass."),
    Key(
        "judge.writes",
        {"enum": [WRITES_ACCEPTED, WRITES_IGNORE]},
        "Whether the successful writes must equal those of a recording.",
    ),
    Key(
        "judge.stop_reasons",
        {"type": "array", "items": {"enum": [reason.value for reason in StopReason]}},
        "Accepted ways to end.",
    ),
    Key("judge.forbidden_tools", _TEXTS, "Names and globs that are never asked for."),
    Key("judge.forbidden_calls", _LIST, "Calls that are never asked for."),
    Key("judge.forbidden_calls[].tool", _WORD, "Name or glob.", is_required=True),
    Key("judge.forbidden_calls[].args", _OBJECT, "Values, lists of values or JSON Schemas."),
    Key("judge.answer_contains", _TEXTS, "Texts that are in the answer."),
    Key("judge.answer_matches", _TEXTS, "Regular expressions (RE2) found in the answer."),
    Key("judge.answer", _OBJECT, "What the answer must hold."),
    Key("judge.answer.contains", _ONE_OR_MORE, "As answer_contains."),
    Key("judge.answer.matches", _ONE_OR_MORE, "As answer_matches."),
    Key("judge.answer.schema", _OBJECT, "JSON Schema of the answer."),
    Key("judge.answer.number", _LIST, "Numbers that the answer must hold."),
    Key("judge.answer.number[].regex", _TEXT, "Its first match is the number."),
    Key("judge.answer.number[].path", _TEXT, "JSON Pointer to the number."),
    Key("judge.answer.number[].within", _BOUNDS, "Smallest and largest.", is_required=True),
    Key("judge.answer.function", _ONE_OR_MORE, "module:function of own checks."),
    Key("judge.temporal", _LIST, "Rules on order and number of calls."),
    Key("judge.temporal[].never", _WORD, "Tool that does not come first."),
    Key("judge.temporal[].before", _WORD, "Tool that must have succeeded."),
    Key("judge.temporal[].at_most", _COUNT, "Most calls."),
    Key("judge.temporal[].calls", _WORD, "Tool whose calls are counted."),
    Key("judge.temporal[].must_follow", _WORD, "Tool that must come."),
    Key("judge.temporal[].after", _WORD, "Tool after which it must come."),
    Key("judge.temporal[].no_write_after_refusal", _WORD, "Tool whose refusal ends all writes."),
    Key("judge.temporal[].within_steps", _STEPS, "Window in steps."),
    Key("judge.graded", _LIST, "Questions for a model."),
    Key("judge.graded[].rubric", _WORD, "What must hold, in words.", is_required=True),
    Key("judge.graded[].required", {"type": "boolean"}, "Whether a run fails by it."),
    Key("budgets", _OBJECT, "Limits that a passing run keeps."),
    *(Key(f"budgets.{name}", _AMOUNT, "Limit, as of a budget.") for name in Budget().limits()),
)
"""Every key, in the order of the file; the schema and the docs are made of it."""

_FREE: Final = frozenset({"inputs", "judge.forbidden_calls[].args", "judge.answer.schema"})
"""Mappings whose keys are the user's own."""


def task_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a `task.yaml`; null stands for an absent key."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Contract of a golden task of flightlog",
        **_mapping(),
    }
    nodes: dict[str, dict[str, Any]] = {"": root}
    for key in KEYS:
        parent, _, name = key.path.rpartition(".")
        owner = nodes[parent]
        node = {**key.schema, "description": key.meaning}
        if node.get("type") == "array" and "items" not in node:
            node["items"] = nodes[f"{key.path}[]"] = _mapping()
        elif node.get("type") == "object" and key.path not in _FREE:
            node |= {"properties": {}, "additionalProperties": False}
        nodes[key.path] = node
        owner["properties"][name] = node if key.is_required else {"anyOf": [node, {"type": "null"}]}
        if key.is_required:
            owner.setdefault("required", []).append(name)
    return root


def _mapping() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "additionalProperties": False}
