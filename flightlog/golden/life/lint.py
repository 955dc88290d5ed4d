"""Looks for what makes golden tasks wrong or useless, without running a candidate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flightlog.analysis.wording import counted
from flightlog.errors import ExitCode, GoldenError, nearest
from flightlog.golden.entries import GoldenEntry, load_suite
from flightlog.golden.factory import load_factory
from flightlog.golden.files import load_tools
from flightlog.golden.life.doubts import Doubt, DoubtKind
from flightlog.golden.life.probe import probe
from flightlog.golden.task import TOOLS_FILE
from flightlog.replay.misses import FixtureFactory
from flightlog.replay.state import EVERYTHING, ScopeTemplate
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect

_ALIKE: Final = 0.8
"""Similarity from which a name is taken for a misspelt one."""


@dataclass(frozen=True)
class LintReport:
    """What the linter found.

    Attributes:
        goldens: the folder.
        tasks: how many golden tasks were looked at.
        doubts: errors first.
        probed: a fixture was asked.
    """

    goldens: Path
    tasks: int
    doubts: tuple[Doubt, ...]
    probed: bool

    @property
    def exit_code(self) -> int:
        """1 when something is an error, else 0."""
        return int(ExitCode.DRIFT if any(d.kind.is_error for d in self.doubts) else ExitCode.OK)

    def lines(self) -> list[str]:
        """The findings and their sum as text."""
        errors = sum(doubt.kind.is_error for doubt in self.doubts)
        notes = len(self.doubts) - errors
        asked = "asked" if self.probed else "not asked (--fixture)"
        total = (
            f"{counted(self.tasks, 'golden task')}: {counted(errors, 'error')}, "
            f"{counted(notes, 'note')}; fixture {asked}"
        )
        return [*map(str, self.doubts), total]


def lint(goldens: Path, *, fixture: FixtureFactory | None = None) -> LintReport:
    """Lints all golden tasks of a folder.

    Args:
        goldens: the folder.
        fixture: gives the tools' functions over a fresh initial state of the recorded world;
            None leaves the scope probe out.

    Raises:
        GoldenError: the folder is missing or empty, or a file in it is malformed.
        StaleGoldenError: a task without recordings, or with a tool that is not declared.
    """
    entries = load_suite(goldens)
    path = goldens / TOOLS_FILE
    tools = load_tools(path) if path.exists() else {}
    doubts = [doubt for entry in entries for doubt in _of_entry(entry, fixture)]
    doubts += [*_unknown(entries), *_misspelt(entries, tools), *_unused_scopes(tools)]
    doubts.sort(key=lambda one: (not one.kind.is_error, one.kind, one.golden))
    return LintReport(goldens, len(entries), tuple(doubts), probed=fixture is not None)


def load_fixture_factory(text: str) -> FixtureFactory:
    """The function that `module:function` names, checked to give functions by name.

    Raises:
        AgentError: no such function.
        GoldenError: it fails, or gives something else.
    """
    factory = load_factory(text)

    def checked() -> Mapping[str, Any]:
        try:
            functions = factory()
        except Exception as error:
            raise GoldenError(
                f"the fixture failed: {type(error).__name__}: {error}", where=text
            ) from error
        if not isinstance(functions, Mapping) or not all(map(callable, functions.values())):
            raise GoldenError(
                f"the fixture gave a {type(functions).__name__}",
                where=text,
                hint="Return a mapping: name of a tool to its function, over a fresh state.",
            )
        return functions

    return checked


def _of_entry(entry: GoldenEntry, fixture: FixtureFactory | None) -> Iterator[Doubt]:
    for conflict in entry.cassette.conflicts():
        yield Doubt(DoubtKind.CONFLICT, entry.name, conflict.tool_name, str(conflict))
    by_tool: defaultdict[str, int] = defaultdict(int)
    for call in entry.cassette.racy_calls:
        by_tool[call.tool_name] += 1
    for name, count in by_tool.items():
        what = (
            f"{counted(count, 'call')} of {name} raced a write in one step; their answers are "
            "never served"
        )
        yield Doubt(DoubtKind.RACING, entry.name, name, what)
    if fixture is not None:
        yield from probe(entry.name, entry.cassette, fixture)


def _unknown(entries: Iterable[GoldenEntry]) -> Iterator[Doubt]:
    """Called tools whose effect nobody declared."""
    calls: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        for one in entry.cassette.calls:
            for call in one:
                if entry.cassette.rules[call.tool_name].effect is Effect.UNKNOWN:
                    calls[call.tool_name] += 1
    for name, count in sorted(calls.items()):
        what = (
            f"the effect of {name} is not declared, so each of its {counted(count, 'call')} counts "
            f"as a write to everything: declare effect and scopes in {TOOLS_FILE}"
        )
        yield Doubt(DoubtKind.UNKNOWN, "", name, what)


def _misspelt(entries: Sequence[GoldenEntry], tools: Mapping[str, Tool]) -> Iterator[Doubt]:
    called = {call.tool_name for e in entries for one in e.cassette.calls for call in one}
    for name in sorted(called):
        if name not in tools and (near := nearest(name, tools, limit=1, cutoff=_ALIKE)):
            what = f"{name} is called and not declared; {near[0]} is declared"
            yield Doubt(DoubtKind.MISSPELT, "", name, what, other=near[0])
    arguments = _arguments(entries, tools)
    for tool in tools.values():
        known = arguments.get(tool.name, frozenset())
        for template in map(ScopeTemplate.parse, tool.scopes):
            for field in template.fields:
                root = field.split(".")[0]
                if known and root != "result" and root not in known:
                    near = nearest(root, known, limit=1)
                    hint = f"; nearest: {near[0]}" if near else ""
                    what = (
                        f"scope {template.text!r} of {tool.name} names {root!r}, which no call of "
                        f"it has, so it stands for all of {template.prefix}:*{hint}"
                    )
                    yield Doubt(DoubtKind.MISSPELT, "", tool.name, what)
    yield from _misspelt_prefixes(tools)


def _arguments(
    entries: Iterable[GoldenEntry], tools: Mapping[str, Tool]
) -> dict[str, frozenset[str]]:
    """The names of arguments that a tool's schema or calls have; none where both are unknown."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for tool in tools.values():
        properties = (tool.input_schema or {}).get("properties", {})
        found[tool.name].update(properties if isinstance(properties, Mapping) else ())
    for entry in entries:
        for one in entry.cassette.calls:
            for call in one:
                found[call.tool_name].update(call.args.value if not call.args.flag else ())
    return {name: frozenset(names) for name, names in found.items()}


def _misspelt_prefixes(tools: Mapping[str, Tool]) -> Iterator[Doubt]:
    """A kind of scope that one tool alone names, and that looks like one that others name."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    for tool in tools.values():
        for template in map(ScopeTemplate.parse, tool.scopes):
            named[template.prefix].add(tool.name)
    shared = [prefix for prefix, names in named.items() if len(names) > 1]
    for prefix, names in sorted(named.items()):
        near = nearest(prefix, shared, limit=1, cutoff=_ALIKE)
        if len(names) == 1 and near:
            (name,) = names
            what = f"scope {prefix!r} is named by {name} alone; others name {near[0]!r}"
            yield Doubt(DoubtKind.MISSPELT, "", name, what)


def _unused_scopes(tools: Mapping[str, Tool]) -> Iterator[Doubt]:
    """Scopes that are written and that nothing reads."""
    read = {EVERYTHING} if any(not t.scopes for t in tools.values() if _reads(t)) else set()
    for tool in tools.values():
        if _reads(tool):
            read |= {template.prefix for template in map(ScopeTemplate.parse, tool.scopes)}
    if EVERYTHING in read:
        return
    for tool in tools.values():
        if tool.effect is not Effect.WRITE:
            continue
        for template in map(ScopeTemplate.parse, tool.scopes):
            if template.prefix not in read and template.text != EVERYTHING:
                what = f"scope {template.text!r} of {tool.name} is written, and no tool reads it"
                yield Doubt(DoubtKind.UNUSED, "", tool.name, what)


def _reads(tool: Tool) -> bool:
    return tool.effect in (Effect.READ, Effect.UNKNOWN)
