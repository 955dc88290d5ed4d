"""The key by which a replayed call finds its recorded one.

    key = H(tool, canonical arguments, versions of the scopes that the call reads)

The same walk makes the keys of a recording and of a candidate, so the two
cannot disagree. A call id or a time is never part of a key.

* A pure tool has no state in its key.
* A read, and a write, has the versions of its scopes. A scope over the result
  cannot be known before the call: it is left out of a write's key, and widened
  to its collection for a read.
* A tool that declares no scopes, or that nobody declared, reads everything; a
  write among them also writes everything.
* A write or a consuming read that is repeated in the same state is told apart
  by what the earlier calls answered. A consuming read that succeeds changes its
  scopes as a write does: whoever reads the queue next sees another queue.
* Where a write of unknown outcome touched a scope there is no key at all. Only a further try of
  that very call, which has its idempotency key, finds the state as it was before; where it
  works, the write has happened once, and the state is known again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from flightlog.redact.finds import SlowError
from flightlog.replay.state import (
    EVERYTHING,
    ScopeTemplate,
    WorldState,
    parse_result,
    resolve_scopes,
)
from flightlog.replay.write_through import WriteThrough, parse_write_through
from flightlog.trace.canonical import CanonicalArgs, canonical_args, digest_of
from flightlog.trace.versions import CANON_VERSION
from flightlog.trace.vocab import Effect, Outcome

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

KEY_VERSION: Final = "key/1"
_MAX_KNOWN: Final = 4096
"""Arguments of one tool whose canonical form is remembered: recorded ones are asked for again."""
_MAX_KNOWN_CHARS: Final = 2000
_IN_DOUBT: Final = frozenset({Outcome.TIMED_OUT, Outcome.INVALID_OUTPUT})


class Declared(Protocol):
    """What matching needs to know of a tool; `flightlog.runtime.tools.Tool` has it."""

    @property
    def name(self) -> str: ...
    @property
    def effect(self) -> Effect: ...
    @property
    def scopes(self) -> Sequence[str]: ...
    @property
    def volatile(self) -> Sequence[str]: ...
    @property
    def is_consuming(self) -> bool: ...
    @property
    def write_through(self) -> Mapping[str, Any]: ...
    @property
    def input_schema(self) -> Mapping[str, Any] | None: ...


class Answer(Protocol):
    """How a call was answered; recorded calls and served ones have it."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def result(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ToolRule:
    """How the calls of one tool are keyed.

    Attributes:
        name: the tool.
        effect: as declared.
        templates: its scopes; `*` where none are declared.
        key_templates: those that take part in its key.
        changes_state: True for writes and consuming reads.
        schema: input schema whose defaults are filled in.
        volatile: argument paths that never take part in identity.
        redactor: replaces in arguments what a recorder replaces in them.
        write_through: the reads that a success of this write answers.
    """

    name: str
    effect: Effect
    templates: tuple[ScopeTemplate, ...]
    key_templates: tuple[ScopeTemplate, ...]
    changes_state: bool
    schema: Mapping[str, Any] | None
    volatile: tuple[str, ...]
    redactor: Redactor | None = None
    write_through: tuple[WriteThrough, ...] = ()
    _known: dict[str, CanonicalArgs] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, tool: Declared, *, where: str = "", redactor: Redactor | None = None) -> ToolRule:
        """The rule of a declared tool.

        Raises:
            ToolDefinitionError: a scope or a write-through that cannot be used.
        """
        place = where or f"tool {tool.name!r}"
        templates = tuple(ScopeTemplate.parse(text, where=place) for text in tool.scopes)
        if not templates or tool.effect is Effect.UNKNOWN:
            templates = (ScopeTemplate.parse(EVERYTHING),)
        own = tuple(t for t in templates if not (tool.effect.is_write and t.needs_result))
        return cls(
            name=tool.name,
            effect=tool.effect,
            templates=() if tool.effect is Effect.PURE else templates,
            key_templates=() if tool.effect is Effect.PURE else own,
            changes_state=tool.effect.is_write or tool.is_consuming,
            schema=tool.input_schema,
            volatile=tuple(tool.volatile),
            redactor=redactor,
            write_through=parse_write_through(tool.write_through, tool.effect, where=place),
        )

    @classmethod
    def undeclared(cls, name: str, *, redactor: Redactor | None = None) -> ToolRule:
        """The rule of a tool that nobody declared: it may read and write everything."""
        everything = (ScopeTemplate.parse(EVERYTHING),)
        return cls(
            name,
            Effect.UNKNOWN,
            everything,
            everything,
            changes_state=True,
            schema=None,
            volatile=(),
            redactor=redactor,
        )

    def args_of(self, raw: str) -> CanonicalArgs:
        """Canonical arguments under this rule, as they are recorded."""
        known = self._known.get(raw)
        if known is None:
            args = canonical_args(raw, schema=self.schema, volatile=self.volatile)
            known = self.recorded(args)
            if len(raw) <= _MAX_KNOWN_CHARS:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[raw] = known
        return known

    def recorded(self, args: CanonicalArgs) -> CanonicalArgs:
        """The arguments as a recorder keeps them: values that it replaces are replaced."""
        if self.redactor is None:
            return args
        try:
            return self.redactor.args(args)
        except SlowError:  # a recorder would have left them out, so nothing matches them
            return args


class CallKey(NamedTuple):
    """The identity of one call in one state.

    Attributes:
        key: 32 hex digits; None when a write of unknown outcome made the state unknown.
        signature: the scopes that the call reads with their versions, one per line.
        is_repeat: True when the run made the same call in the same state before.
    """

    key: str | None
    signature: str | None
    is_repeat: bool = False


class Rules:
    """The rules of a set of tools, by name.

    Args:
        tools: declarations; a name that is not among them is undeclared.
        redactor: of the recorder of the candidate. Recordings hold pseudonyms where they held
            secrets, so the candidate's calls are found only by theirs, under the same key.
    """

    def __init__(self, tools: Iterable[Declared], *, redactor: Redactor | None = None) -> None:
        self.redactor = redactor
        self._by_name = {tool.name: ToolRule.of(tool, redactor=redactor) for tool in tools}
        self.declared: frozenset[str] = frozenset(self._by_name)

    def __getitem__(self, name: str) -> ToolRule:
        rule = self._by_name.get(name)
        if rule is None:
            rule = self._by_name[name] = ToolRule.undeclared(name, redactor=self.redactor)
        return rule


def stored_key(key: str | None) -> str | None:
    """A key as a trace keeps it: with the version of the canonical form that it is made of."""
    return None if key is None else f"{CANON_VERSION}:{key}"


class _InDoubt(NamedTuple):
    """A write that may or may not have happened, and the state before it."""

    tool_name: str
    args_digest: str
    before: WorldState


class KeyWalk:
    """Goes through the calls of one run in order and gives each its key."""

    def __init__(self) -> None:
        self._state = WorldState()
        self._answers: dict[str, str] = {}
        self._in_doubt: _InDoubt | None = None

    def key_of(self, rule: ToolRule, args: CanonicalArgs, *, is_retry: bool = False) -> CallKey:
        """The key of the next call.

        Args:
            rule: of its tool.
            args: its arguments.
            is_retry: it is a further try of the call before, under the same idempotency key.
        """
        state = self._state_before(rule, args) if is_retry else self._state
        plain = self._plain_key(rule, args, state)
        earlier = self._answers.get(plain.key) if plain.key and rule.changes_state else None
        if plain.key and earlier:
            return CallKey(digest_of(plain.key, earlier), plain.signature, is_repeat=True)
        return plain

    def happened(
        self, rule: ToolRule, args: CanonicalArgs, answer: Answer, *, is_retry: bool = False
    ) -> None:
        """Moves the state on by a call and its answer; refusals change nothing."""
        if not rule.changes_state or answer.outcome.is_refusal:
            return
        is_ok = answer.outcome is Outcome.OK
        before = self._state_before(rule, args) if is_retry else self._state
        is_after_doubt = before is not self._state
        text = "" if answer.result is None else answer.result
        key = self._plain_key(rule, args, before).key
        if key:
            told = digest_of(str(answer.outcome), text, answer.error or "")
            self._answers[key] = digest_of(self._answers.get(key, ""), told)
        if is_after_doubt and not is_ok:
            return  # the first try may have happened all the same
        self._in_doubt, self._state = None, before
        scopes = self.touched(rule, args, answer.result if is_ok else None)
        if is_ok:
            self._state.apply(scopes, content=digest_of(rule.name, args.digest, text))
        elif answer.outcome in _IN_DOUBT:
            self._in_doubt = _InDoubt(rule.name, args.digest, self._state.copy())
            self._state.taint(scopes)

    def taint(self, scopes: Sequence[str]) -> None:
        """Gives up on scopes whose state cannot be known."""
        self._in_doubt = None
        self._state.taint(scopes)

    def is_initial(self, rule: ToolRule, args: CanonicalArgs) -> bool:
        """True while nothing has changed what the call reads since the run began."""
        scopes = resolve_scopes(rule.key_templates, _values(rule.key_templates, args, None))
        return self._state.is_initial(scopes)

    @staticmethod
    def touched(rule: ToolRule, args: CanonicalArgs, result: str | None) -> list[str]:
        """All scopes of a call, those over its result too (widened where it is unknown)."""
        return resolve_scopes(rule.templates, _values(rule.templates, args, result))

    def _state_before(self, rule: ToolRule, args: CanonicalArgs) -> WorldState:
        """The state before a try whose outcome nobody knows; nothing may have changed since."""
        doubt = self._in_doubt
        if doubt is None or (doubt.tool_name, doubt.args_digest) != (rule.name, args.digest):
            return self._state
        return doubt.before

    @staticmethod
    def _plain_key(rule: ToolRule, args: CanonicalArgs, state: WorldState) -> CallKey:
        scopes = resolve_scopes(rule.key_templates, _values(rule.key_templates, args, None))
        signature = state.signature(scopes)
        if signature is None:
            return CallKey(None, None)
        return CallKey(digest_of(KEY_VERSION, rule.name, args.digest, signature), signature)


def _values(
    templates: Iterable[ScopeTemplate], args: CanonicalArgs, result: str | None
) -> Mapping[str, Any]:
    if any(template.needs_result for template in templates):
        return {**args.value, "result": parse_result(result)}
    return args.value
