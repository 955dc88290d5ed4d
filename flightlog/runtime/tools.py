"""Tools: a declaration that the model and the gateway see, and perhaps a function."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.binding import ArgumentsCheck, is_async
from flightlog.runtime.injected import KEY_PARAMETER, Injected, injected_by
from flightlog.runtime.model_arguments import model_signature
from flightlog.runtime.schemas import SchemaCheck
from flightlog.runtime.signature import Signature, description_of, signature_of
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Effect

__all__ = ["OPEN_SCHEMA", "Tool", "is_async", "tool", "toolset_message"]

OPEN_SCHEMA: Mapping[str, Any] = {"type": "object"}
_NAME = re.compile(r"[^\s\x00-\x1f\x7f*?\[\]]{1,128}")
_DECLARED = (
    "name",
    "description",
    "effect",
    "scopes",
    "input_schema",
    "output_schema",
    "timeout_s",
    "volatile",
    "is_consuming",
    "write_through",
    "cost_usd",
    "credentials",
    "is_idempotent",
    "dedupe_writes",
    "reuse_result",
    "hints",
)


@dataclass(frozen=True)
class Tool:
    """One tool that an agent may ask for.

    Attributes:
        name: as the model calls it.
        fn: what is called with the arguments by name; None where the tool can
            only be served from recordings.
        description: for the model.
        effect: what it does to the world; unknown counts as write.
        scopes: state that it reads or writes, such as `order:{order_id}`.
        input_schema: JSON Schema of the arguments; None takes any object.
        output_schema: JSON Schema of the result; None takes anything.
        timeout_s: longest duration of one attempt, seconds; None leaves the
            run's deadline.
        volatile: dotted paths of arguments that never take part in identity.
        is_consuming: a read that takes what it reads, such as a queue.
        write_through: reads that a success of this write answers: tool ->
            {argument of the read: where it comes from}, such as
            `{"get_order": {"order_id": "result.id"}}`. The read gives the write's result;
            `{"args": {...}, "answer": "result.order"}` names a part of it.
        cost_usd: cost of one attempt; None where it costs nothing or nobody knows.
        credentials: names of the credentials that it needs; without them it is denied.
        is_idempotent: a write that may be made twice without harm.
        dedupe_writes: a write with the arguments of an earlier one gets that one's
            result: `step` within one step, `run` within the run.
        reuse_result: a read with the arguments of an earlier one of the run gets that
            one's result, unless a write came between.
        hints: what the tool's server says of it, such as `readOnlyHint`; kept in the
            trace for people to see, and trusted by nothing here.
    """

    name: str
    fn: Callable[..., Any] | None = field(default=None, compare=False)
    description: str = ""
    effect: Effect = Effect.UNKNOWN
    scopes: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    timeout_s: float | None = None
    volatile: tuple[str, ...] = ()
    is_consuming: bool = False
    write_through: Mapping[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None
    credentials: tuple[str, ...] = ()
    is_idempotent: bool = False
    dedupe_writes: Literal["step", "run"] = "step"
    reuse_result: bool = False
    hints: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"tool {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ToolDefinitionError(
                "a tool name has 1 to 128 characters, no white space and none of * ? [ ]",
                where=where,
                hint="Give a name such as get_order.",
            )
        if self.effect not in list(Effect):
            raise ToolDefinitionError(
                f"unknown effect {self.effect!r}",
                where=where,
                hint=f"Use one of: {', '.join(Effect)}.",
            )
        self._check_types(where)
        object.__setattr__(self, "effect", Effect(self.effect))
        object.__setattr__(self, "scopes", tuple(self.scopes))
        object.__setattr__(self, "volatile", tuple(self.volatile))
        object.__setattr__(self, "credentials", tuple(self.credentials))
        for name, number in (("timeout_s", self.timeout_s), ("cost_usd", self.cost_usd)):
            if number is not None and not _is_amount(number):
                raise ToolDefinitionError(
                    f"{name}={number!r} is not a number from 0 up",
                    where=where,
                    hint="Give 0 or more, or None.",
                )
        # A malformed schema or signature is refused here and now.
        _ = self.input_check, self.output_check
        context = self._injected.context
        if context is not None and context in self._properties:
            raise ToolDefinitionError(
                f"the input schema has a property {context!r}, and the function takes its "
                "ToolContext under that name",
                where=where,
                hint="Remove the property: the gateway gives the context, never the model.",
            )

    def _check_types(self, where: str) -> None:
        """Refuses what a declarations file written by hand may hold."""
        declared: dict[str, Any] = {
            "scopes": self.scopes,
            "volatile": self.volatile,
            "credentials": self.credentials,
        }
        for name, texts in declared.items():
            is_list = isinstance(texts, Sequence) and not isinstance(texts, str)
            if not is_list or not all(isinstance(text, str) for text in texts):
                raise ToolDefinitionError(
                    f"{name}={texts!r} is not a list of texts",
                    where=where,
                    hint=f"Write {name} as a list, also for one.",
                )
        if self.dedupe_writes not in ("step", "run"):
            raise ToolDefinitionError(
                f"dedupe_writes={self.dedupe_writes!r} is unknown",
                where=where,
                hint="Use step or run.",
            )
        kinds: dict[str, type] = {
            "is_consuming": bool,
            "is_idempotent": bool,
            "reuse_result": bool,
            "description": str,
            "write_through": Mapping,
            "hints": Mapping,
        }
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ToolDefinitionError(
                    f"{name}={getattr(self, name)!r} has the wrong type",
                    where=where,
                    hint=f"Give a {kind.__name__}.",
                )

    @cached_property
    def input_check(self) -> SchemaCheck:
        """Checks arguments: by the schema, then by the models that the function takes."""
        schema = OPEN_SCHEMA if self.input_schema is None else self.input_schema
        return ArgumentsCheck(schema, where=f"tool {self.name!r}, input schema", fn=self.fn)

    @cached_property
    def output_check(self) -> SchemaCheck | None:
        """Checks observations; None where anything goes."""
        if self.output_schema is None:
            return None
        return SchemaCheck(self.output_schema, where=f"tool {self.name!r}, output schema")

    @cached_property
    def context_parameter(self) -> str | None:
        """The function's parameter that gets the `ToolContext`; None without one."""
        return self._injected.context

    @cached_property
    def takes_key(self) -> bool:
        """True when the gateway gives the function its idempotency key."""
        return self._injected.takes_key and self.key_argument is None

    @cached_property
    def key_argument(self) -> str | None:
        """The argument in which the model gives the idempotency key; None without one."""
        return KEY_PARAMETER if KEY_PARAMETER in self._properties else None

    @cached_property
    def _injected(self) -> Injected:
        return Injected() if self.fn is None else injected_by(self.fn)

    @property
    def _properties(self) -> Mapping[str, Any]:
        properties = (self.input_schema or {}).get("properties")
        return properties if isinstance(properties, Mapping) else {}

    def declaration(self) -> dict[str, Any]:
        """The tool as plain JSON, without its function; what is at its default is left out."""
        declared = {name: getattr(self, name) for name in _DECLARED}
        declared["effect"] = self.effect.value
        declared["scopes"] = list(self.scopes)
        declared["volatile"] = list(self.volatile)
        declared["credentials"] = list(self.credentials)
        declared["hints"] = dict(self.hints) or None
        declared["write_through"] = dict(self.write_through) or None
        if self.dedupe_writes == "step":
            del declared["dedupe_writes"]
        return {
            name: value
            for name, value in declared.items()
            if value is not None and value is not False and value not in ("", [])
        }

    @classmethod
    def from_declaration(
        cls, declared: Mapping[str, Any], fn: Callable[..., Any] | None = None
    ) -> Tool:
        """The tool that `declaration` described.

        Raises:
            ToolDefinitionError: a field is missing, unknown or malformed.
        """
        unknown = sorted(set(declared) - set(_DECLARED))
        if unknown or "name" not in declared:
            raise ToolDefinitionError(
                f"unknown fields {unknown}" if unknown else "a declaration without a name",
                where=f"tool {declared.get('name')!r}",
                hint=f"The fields are: {', '.join(_DECLARED)}.",
            )
        return cls(fn=fn, **declared)

    @classmethod
    def from_pydantic(cls, model: type[Any], fn: Callable[..., Any], **declared: Any) -> Tool:
        """A tool whose arguments are the fields of one pydantic model.

        Args:
            model: its JSON Schema is the input schema.
            fn: gets the model in the parameter annotated with it, or in its first; a
                model that it returns is made plain JSON.
            declared: fields of `Tool`; each overrides what model and function say.

        Raises:
            ToolDefinitionError: `model` is no pydantic model or has no JSON Schema, or
                `fn` has no place for it.
        """
        where = f"tool function {getattr(fn, '__name__', fn)!r}"
        taken = model_signature(model, fn, where)
        text = description_of(fn) or str(taken.input_schema.get("description", ""))
        return _declared(cls, fn, taken, {"description": text, **declared})


@overload
def tool(fn: Callable[..., Any], /) -> Tool: ...
@overload
def tool(fn: None = None, /, **declared: Any) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    fn: Callable[..., Any] | None = None, /, **declared: Any
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Makes a tool of a function; name, description and input schema come from it.

    Args:
        fn: the function, where the decorator is written without arguments.
        declared: fields of `Tool`; each overrides what the function says.

    Raises:
        ToolDefinitionError: a field is unknown, or the signature has no JSON form.
    """

    def declare(function: Callable[..., Any]) -> Tool:
        if "input_schema" in declared:
            return _declared(Tool, function, None, declared)
        return _declared(Tool, function, signature_of(function), declared)

    return declare if fn is None else declare(fn)


def _declared(
    cls: type[Tool],
    fn: Callable[..., Any],
    signature: Signature | None,
    declared: Mapping[str, Any],
) -> Tool:
    """The tool of a function, with what is declared put over what the function says."""
    unknown = sorted(set(declared) - set(_DECLARED))
    name = declared.get("name") or getattr(fn, "__name__", None)
    if unknown or name is None:
        raise ToolDefinitionError(
            f"unknown fields {unknown}" if unknown else "a function without a name",
            where=f"tool function {getattr(fn, '__name__', fn)!r}",
            hint=f"The fields are: {', '.join(_DECLARED)}.",
        )
    fields: dict[str, Any] = {"name": name, "description": description_of(fn)}
    if signature is not None:
        fields["input_schema"] = signature.input_schema
        if signature.output_schema is not None:
            fields["output_schema"] = signature.output_schema
        fn = signature.bind(fn)
    return cls(fn=fn, **{**fields, **declared})


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf


def toolset_message(tools: Sequence[Tool]) -> Message:
    """The declarations as one message; its digest tells one set of tools from another."""
    return Message(role="toolset", text=canonical_json([one.declaration() for one in tools]))
