"""Credentials: secrets of tenants and tools, which tools get and nobody else sees."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NoReturn, Self

from flightlog.errors import ConfigError
from flightlog.redact.scrubber import Scrubber, placeholder
from flightlog.runtime.policy import chosen
from flightlog.runtime.scrubbing_sink import ScrubbingSink

__all__ = ["ANY_TENANT", "Credentials", "Scrubber", "ScrubbingSink", "ToolCredentials"]

ANY_TENANT: Final = "*"
MIN_CHARS: Final = 4
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LEVELS: Final = ("tenant", "tool", "credential")
_SHAPE: Final = "Write {tenant: {tool: {name: value}}}, with {env: VARIABLE} for a value."

Named = Mapping[str, "str | Mapping[str, str]"]
ByTool = Mapping[str, Named]


class _Secret:
    """One value, or the variable that should have held it."""

    __slots__ = ("_value", "variable")

    def __init__(self, value: str | None, variable: str | None) -> None:
        self._value = value
        self.variable = variable

    def __repr__(self) -> str:
        return "<credential>"

    @property
    def is_missing(self) -> bool:
        return self._value is None

    def reveal(self) -> str | None:
        return self._value


class ToolCredentials(Mapping[str, str]):
    """The credentials of one tool by name; printing them shows the names only."""

    __slots__ = ("_held",)

    def __init__(self, held: Mapping[str, _Secret]) -> None:
        self._held = dict(held)

    def __getitem__(self, name: str) -> str:
        value = self._held[name].reveal()
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"ToolCredentials({', '.join(sorted(self._held))})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("credentials are not pickled")


class Credentials:
    """Secret values by tenant, tool and name.

    A tool gets the credentials that it declares, and of these the ones of its tenant and
    of itself: first those under the tenant's own name, then those under `*`; there first
    those under the tool's name, then those under the first glob that matches it.

    A value is never shown: not by repr, not in an error, not by pickle (which is refused).

    Args:
        values: tenant, tool (or glob), name: the value, or `{"env": "NAME"}` for the
            environment variable that holds it. The tenant `*` is every tenant.
        environ: the environment; None is that of the process. It is read here, once.

    Raises:
        ConfigError: a name or value that cannot be used. A variable that is not set is no
            error here but before a run that needs it.
    """

    __slots__ = ("_held", "_scrubbers")

    def __init__(
        self, values: Mapping[str, ByTool], *, environ: Mapping[str, str] | None = None
    ) -> None:
        self._scrubbers: dict[str | None, Scrubber] = {}
        self._held: dict[str, dict[str, dict[str, _Secret]]] = {}
        problem = self._take(values, os.environ if environ is None else environ)
        if problem is not None:
            # Who prints the local variables of a traceback sees no value.
            del values, environ
            raise problem

    @classmethod
    def from_env(
        cls, variables: Mapping[str, ByTool], *, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Credentials that all come from the environment, as a settings file names them.

        Args:
            variables: as `values` of the class, each one as `{"env": "NAME"}`.
        """
        for keys, value in _leaves(variables, ()):
            if isinstance(value, str):
                del variables, value
                raise ConfigError(
                    "a text stands here (it is not shown)",
                    where=_place(keys),
                    hint="Write {env: NAME_OF_A_VARIABLE}, never the credential itself.",
                )
        return cls(variables, environ=environ)

    def __repr__(self) -> str:
        return f"Credentials(tenants: {', '.join(sorted(self._held)) or 'none'})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("Credentials are not pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def missing(self, tenant: str | None, tool: str, names: Sequence[str]) -> tuple[str, ...]:
        """Those of the names that nobody gave to the tool, in their order.

        What comes from a variable that is not set was given to it nevertheless: whether
        a tool may be called is the same where the values are and where they are not,
        such as in a replay.
        """
        found = self._found(tenant, tool, names)
        return tuple(name for name in names if name not in found)

    def for_tool(self, tenant: str | None, tool: str, names: Sequence[str]) -> ToolCredentials:
        """The values of the names that the tool has one for.

        Args:
            tenant: of the run; None gets only what every tenant has.
        """
        found = self._found(tenant, tool, names)
        return ToolCredentials({n: one for n, one in found.items() if not one.is_missing})

    def require(self, tenant: str | None, tool: str, names: Sequence[str]) -> None:
        """Refuses a tool whose variables are not set; to be asked before a live run.

        Raises:
            ConfigError: names the variables, and no value.
        """
        found = self._found(tenant, tool, names)
        unset = sorted({one.variable or "" for one in found.values() if one.is_missing})
        if unset:
            raise ConfigError(
                f"the environment variable {', '.join(unset)} is not set, or empty",
                where=f"credentials of tool {tool!r}",
                hint="Set it before the run.",
            )

    def scrubber(self, tenant: str | None) -> Scrubber:
        """Takes the values that a run of the tenant can meet out of texts."""
        key = tenant if tenant in self._held else None
        known = self._scrubbers.get(key)
        if known is None:
            tenants = {ANY_TENANT, key}
            known = Scrubber(
                (name, value)
                for owner, tools in self._held.items()
                for by_name in tools.values()
                for name, one in by_name.items()
                if owner in tenants and (value := one.reveal()) is not None
            )
            self._scrubbers[key] = known
        return known

    def _found(self, tenant: str | None, tool: str, names: Sequence[str]) -> dict[str, _Secret]:
        found: dict[str, _Secret] = {}
        owners = [ANY_TENANT] if tenant is None else [tenant, ANY_TENANT]
        for name in names:
            for owner in owners:
                having = {
                    entry: by_name[name]
                    for entry, by_name in self._held.get(owner, {}).items()
                    if name in by_name
                }
                one = chosen(having, tool)
                if one is not None:
                    found[name] = one
                    break
        return found

    def _take(self, values: object, environ: Mapping[str, str]) -> ConfigError | None:
        """Fills itself; gives the problem instead of raising it where values are at hand."""
        names: set[str] = set()
        for keys, value in _leaves(values, ()):
            problem, secret = _secret_of(keys, value, environ)
            if problem is not None:
                return ConfigError(problem[0], where=_place(keys), hint=problem[1])
            tenant, tool, name = keys
            self._held.setdefault(tenant, {}).setdefault(tool, {})[name] = secret
            names.add(name)
        marks = [placeholder(name) for name in names]
        for keys, one in self._secrets():
            value = (one.reveal() or "").strip()
            if value and any(value in mark for mark in marks):
                return ConfigError(
                    "the value (not shown) is a part of the text that stands for a credential "
                    "in traces",
                    where=_place(keys),
                    hint="Use another name, or another value.",
                )
        return None

    def _secrets(self) -> Iterator[tuple[tuple[str, str, str], _Secret]]:
        for tenant, tools in self._held.items():
            for tool, by_name in tools.items():
                for name, one in by_name.items():
                    yield (tenant, tool, name), one


def _leaves(values: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """What stands under tenant, tool and name, and whatever stands where it should not."""
    if len(keys) == len(_LEVELS) or not isinstance(values, Mapping):
        yield keys, values
        return
    for key, value in values.items():
        if isinstance(key, str) and key:
            yield from _leaves(value, (*keys, key))
        else:
            yield (*keys, ""), value


def _secret_of(
    keys: tuple[str, ...], value: object, environ: Mapping[str, str]
) -> tuple[tuple[str, str] | None, _Secret]:
    """What is wrong with an entry and what to do, or None; and its secret."""
    nothing = _Secret(None, None)
    if "" in keys:
        return (f"the name of a {_LEVELS[len(keys) - 1]} is not a text", _SHAPE), nothing
    if len(keys) < len(_LEVELS):
        return (f"no mapping by {_LEVELS[len(keys)]} stands here", _SHAPE), nothing
    if not _NAME.fullmatch(keys[-1]):
        allowed = "Use 1 to 64 of: letters and digits of ASCII, '_', '.', '-'."
        return ("the name of a credential has other characters", allowed), nothing
    variable = None
    if isinstance(value, Mapping):
        variable = value.get("env")
        if set(value) != {"env"} or not isinstance(variable, str) or not variable:
            return ("a mapping here names one environment variable", _SHAPE), nothing
        value = environ.get(variable) or None
        if value is None:
            return None, _Secret(None, variable)
    if not isinstance(value, str):
        return (f"the value is a {type(value).__name__}, not a text", _SHAPE), nothing
    source = f" of variable {variable}" if variable else ""
    if len(value.strip()) < MIN_CHARS:
        short = "Shorter ones could not be taken out of traces without harm to other text."
        return (f"the value{source} has fewer than {MIN_CHARS} characters", short), nothing
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return (f"the value{source} is not valid text", "Give valid Unicode."), nothing
    return None, _Secret(value, variable)


def _place(keys: tuple[str, ...]) -> str:
    return ".".join(("credentials", *keys)).rstrip(".")
