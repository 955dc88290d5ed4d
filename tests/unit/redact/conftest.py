"""A redactor under a fixed key, that sees no environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flightlog.redact.policy import Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor

KEY = b"a key for the tests, 32 bytes ok"


@pytest.fixture(scope="session")
def redactor_of() -> Callable[..., Redactor]:
    """Builds a redactor of a policy."""

    def build(environ: dict[str, str] | None = None, **policy: Any) -> Redactor:
        return Redactor(Redaction(**policy), Pseudonyms(KEY), environ=environ or {})

    return build


@pytest.fixture(scope="session")
def redactor(redactor_of: Callable[..., Redactor]) -> Redactor:
    """One with e-mail addresses and telephone numbers too."""
    return redactor_of(emails=True, phones=True)
