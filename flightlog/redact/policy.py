"""What is taken out of what is recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from flightlog.errors import ConfigError, UnknownNameError
from flightlog.redact.finder import KINDS
from flightlog.redact.key_names import MAX_NAME_BYTES, words_of
from flightlog.redact.linear import LinearError, linear
from flightlog.trace.canonical import canonical_args

MIN_VALUE_CHARS: Final = 4
RULES_VERSION: Final = 2
"""Of what is looked for and how it is replaced; another one may find other values."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Capture(StrEnum):
    """How much of the texts is recorded."""

    FULL = "full"
    REDACTED = "redacted"
    METADATA = "metadata"


@dataclass(frozen=True)
class Redaction:
    """What a recorder takes out before anything is written.

    Attributes:
        capture: `redacted` replaces what is found; `full` records everything as it is;
            `metadata` leaves out arguments, results, messages, answers and errors altogether.
        off: kinds that are left alone, out of `flightlog.redact.finder.KINDS`.
        emails, phones: look for these too; off, since agents need them to work.
        key_names: names whose values are secret, beside the built-in ones.
        ignored_names: names whose values are not, such as `session_token`.
        patterns: your own, as RE2, by the kind that their pseudonyms get.
        values: texts that are secret wherever they stand, in all usual encodings.
        environment: the values of environment variables with secret names are secret.
        env: names of variables whose values are secret too; `*` stands for any characters.
        key_file: file that holds the key of the pseudonyms; None takes the store's own.
        max_seconds: longest time for one event of up to 8 MiB; then its texts are left out.

    Raises:
        ConfigError: a pattern that is not RE2 or matches nothing at all, a name or value that
            cannot be used, a time that is none.
        UnknownNameError: an unknown kind.
    """

    capture: Capture = Capture.REDACTED
    off: tuple[str, ...] = ()
    emails: bool = False
    phones: bool = False
    key_names: tuple[str, ...] = ()
    ignored_names: tuple[str, ...] = ()
    patterns: Mapping[str, str] = field(default_factory=dict)
    values: tuple[str, ...] = field(default=(), repr=False)
    environment: bool = True
    env: tuple[str, ...] = ()
    key_file: str | None = None
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "capture", _capture(self.capture))
        for name in ("off", "key_names", "ignored_names", "values", "env"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for kind in self.off:
            if kind not in KINDS:
                raise UnknownNameError.of("kind", kind, KINDS, where="redaction.off")
        for name in (*self.key_names, *self.ignored_names):
            if not words_of(name) or len(name) > MAX_NAME_BYTES:
                raise ConfigError(
                    f"{name!r} is no name of a field",
                    where="redaction.key_names",
                    hint=f"Letters and digits of ASCII, up to {MAX_NAME_BYTES} characters.",
                )
        for name, pattern in self.patterns.items():
            _check_pattern(name, pattern)
        if any(len(value.strip()) < MIN_VALUE_CHARS for value in self.values):
            raise ConfigError(
                f"a value (not shown) has fewer than {MIN_VALUE_CHARS} characters",
                where="redaction values",
                hint="Shorter ones could not be taken out without harm to other text.",
            )
        if isinstance(self.max_seconds, bool) or not self.max_seconds > 0:
            raise ConfigError(
                f"max_seconds={self.max_seconds!r} of redaction is no time",
                hint="Give seconds above 0.",
            )

    @property
    def version(self) -> str:
        """Rules and settings in short, without the values that are secret.

        Equal for equal policies: what was recorded under two of the same can be compared.
        """
        told = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in ("values", "key_file", "max_seconds")
        }
        told |= {"rules": RULES_VERSION, "values": len(self.values)}
        return f"{RULES_VERSION}-{canonical_args(told).digest[:8]}"


def _capture(value: Any) -> Capture:
    try:
        return Capture(value)
    except ValueError:
        known = [one.value for one in Capture]
        raise UnknownNameError.of(
            "capture level", str(value), known, where="redaction.capture"
        ) from None


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"redaction.{name} is not a list of texts", hint="Write [..., ...].")
    return tuple(value)


def _check_pattern(name: str, pattern: str) -> None:
    where = f"redaction.patterns.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of a pattern",
            where=where,
            hint="Use up to 32 of: a-z, 0-9 and _, beginning with a letter.",
        )
    try:
        compiled = linear(pattern)
    except LinearError as error:
        raise ConfigError(
            f"not a pattern in RE2 syntax: {error}",
            where=where,
            hint="RE2 has no lookaround and no backreferences: that is why it is linear.",
        ) from error
    if compiled.search(b"") is not None:
        raise ConfigError(
            "the pattern matches nothing at all", where=where, hint="Ask for one character or more."
        )
