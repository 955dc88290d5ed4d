"""Who may talk to a server of ours."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from flightlog.integrations.loopback import is_loopback_host

BEARER: Final = "authorization"


@dataclass(frozen=True, slots=True)
class Door:
    """Who may send.

    Attributes:
        token: what a sender has to give; None lets everybody in who reaches the port.
        only_loopback: refuses requests that name another host than this machine, or come from
            a page of another one: a web page that a browser here shows could send such ones.
        header: that holds the token; in `authorization` it stands as `Bearer TOKEN`.
    """

    token: str | None = None
    only_loopback: bool = True
    header: str = BEARER

    def refuses(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason for who may not; None for who may."""
        if self.only_loopback:
            origin = headers.get("origin")
            host = headers.get("host", "")
            if not is_loopback_host(host) or (origin and not _is_ours(origin)):
                return 403, "only loopback names are answered"
        if self.token is None:
            return None
        given = headers.get(self.header, "")
        if self.header == BEARER:
            scheme, _, given = given.partition(" ")
            given = given if scheme.lower() == "bearer" else ""
        if hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return None
        shown = "Authorization: Bearer TOKEN" if self.header == BEARER else f"{self.header}: TOKEN"
        return 401, f"a token is needed: {shown}"


def _is_ours(origin: str) -> bool:
    try:
        return is_loopback_host(urlsplit(origin).netloc)
    except ValueError:
        return False
