"""The wire formats that are read, by the paths of their requests."""

from __future__ import annotations

from typing import Final

from flightlog.integrations.dialects.anthropic import Messages
from flightlog.integrations.dialects.chat import Chat
from flightlog.integrations.dialects.dialect import Dialect
from flightlog.integrations.dialects.responses import Responses

DIALECTS: Final[tuple[Dialect, ...]] = (Chat(), Responses(), Messages())


def dialect_of(path: str) -> Dialect | None:
    """The format of the requests to a path; None for any other request."""
    return next((one for one in DIALECTS if path.endswith(one.path)), None)
