"""Known secret values: those of environment variables with secret names, and given ones."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from flightlog.redact import checks
from flightlog.redact.finder import Finder
from flightlog.redact.finds import Work
from flightlog.redact.key_files import KEY_VARIABLE
from flightlog.redact.key_names import KeyNames
from flightlog.redact.linear import Linear, linear
from flightlog.redact.policy import MIN_VALUE_CHARS, Redaction
from flightlog.redact.scrubber import Scrubber

_MIN_OF_VARIABLE: Final = 8
_BREAK: Final = rb"(?:\\+r|\r)?(?:\\+n|\n)?"
_PLAIN_IN_JSON: Final = re.compile(rb"[^\x00-\x1f\"\\\x7f]+")


def known_values(redaction: Redaction, environ: Mapping[str, str]) -> frozenset[str]:
    """The values that a policy asks to take out, wherever they stand.

    A variable counts when its name is that of a secret and its value looks like one, or when
    the policy names it.
    """
    names = KeyNames(redaction.key_names, redaction.ignored_names)
    found = {value.strip() for value in redaction.values}
    for name, raw in environ.items():
        value = raw.strip()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in redaction.env):
            is_one = len(value) >= MIN_VALUE_CHARS
        elif redaction.environment and name != KEY_VARIABLE:
            encoded = value.encode("utf-8", "surrogateescape")
            is_one = len(value) >= _MIN_OF_VARIABLE and checks.looks_random(encoded)
            is_one = is_one and names.strength(name) is not None and not value.startswith("/")
        else:
            is_one = False
        if is_one and _is_text(value):
            found.add(value)
    key = environ.get(KEY_VARIABLE, "").strip()
    if len(key) >= MIN_VALUE_CHARS and _is_text(key):
        found.add(key)
    return frozenset(found)


def scrubber_of(
    values: Iterable[str], finder: Finder, pseudonym: Callable[[str, bytes], bytes], work: Work
) -> Scrubber:
    """Replaces the values by what also their shape would get, else by `<secret:...>`."""
    kinds = {value: finder.kind_of(value.encode(), work) for value in values}
    return Scrubber(
        [(value, value) for value in kinds],
        stand_in=lambda value: pseudonym(*kinds[value]).decode(),
    )


def search_of(scrubber: Scrubber) -> Linear | None:
    """Finds in bytes, also encoded as JSON, what may be one of the values.

    Returns:
        None where a value has no stretch that every encoding leaves as it is.
    """
    parts: set[bytes] = set()
    for form in scrubber.forms:
        runs = _PLAIN_IN_JSON.findall(form.needle.encode())
        if not runs:
            return None
        run = max(runs, key=len)
        signs = [re.escape(run[at : at + 1]) for at in range(len(run))]
        parts.add((_BREAK if form.kind == "base64" else b"").join(signs))
    return linear(b"|".join(sorted(parts))) if parts else None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
