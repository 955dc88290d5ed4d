"""Where requests go on to: the provider's API, as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flightlog.errors import MissingExtraError, UsageError
from flightlog.integrations.proxy.who import PREFIX

if TYPE_CHECKING:
    import httpx2

_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
     "te", "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip
_OURS: Final = frozenset({"host", "content-length", "accept-encoding", "expect"})
_PROVIDERS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "openrouter.ai": "openrouter",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
_CONNECT_S: Final = 10.0
_SEND_S: Final = 60.0


class Upstream:
    """An API that requests are passed on to.

    Args:
        url: its address; a path such as `/v1` may be given or left to the requests.
        stall_s: longest silence of it, in seconds.

    Attributes:
        provider: who it is, in the words of OpenTelemetry; None where its name does not tell.

    Raises:
        UsageError: no address of an HTTP server.
    """

    def __init__(self, url: str, *, stall_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{url!r} is no address of an API", hint="Write it as https://api.openai.com/v1."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UsageError(
                "the upstream's address holds more than host and path",
                hint="Credentials are the client's: it sends them as it does to the provider.",
            )
        self.stall_s = stall_s
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")
        self.provider = _provider(parts.hostname)

    def url_of(self, path: str, query: bytes) -> str:
        """Where a request to a path goes; the upstream's own path is not put twice."""
        has_it = path == self._path or path.startswith(f"{self._path}/")
        target = path if has_it else self._path + path
        return self._base + target + (f"?{query.decode('latin-1')}" if query else "")

    def client(self) -> httpx2.AsyncClient:
        """Connections to it; of one event loop.

        Raises:
            MissingExtraError: the package httpx2 is not installed.
        """
        try:
            import httpx2  # noqa: PLC0415  - an extra
        except ImportError as error:
            raise MissingExtraError(
                "the proxy needs the packages httpx2, starlette and uvicorn",
                hint="pip install 'flightlog[proxy]'",
            ) from error
        timeout = httpx2.Timeout(self.stall_s, connect=_CONNECT_S, write=_SEND_S, pool=None)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=200)
        return httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False)


def headers_up(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a request that go on to the provider."""
    found = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(found)
    kept = [
        (name, value)
        for name, value in found
        if not name.startswith(PREFIX.encode())
        and name.decode("latin-1") not in _HOP_BY_HOP | _OURS
        and name not in named
    ]
    return [*kept, (b"accept-encoding", b"identity")]


def headers_down(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of an answer that go back to the client."""
    found = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(found)
    kept: dict[str, str] = {}
    for name, value in found:
        text = name.decode("latin-1")
        if text in _HOP_BY_HOP or text == "content-length" or name in named:
            continue
        told = value.decode("latin-1")
        kept[text] = f"{kept[text]}, {told}" if text in kept else told
    return kept


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    return {
        one.strip().lower()
        for name, value in headers
        if name == b"connection"
        for one in value.split(b",")
    }


def _provider(host: str) -> str | None:
    if host.endswith((".openai.azure.com", ".services.ai.azure.com")):
        return "azure.ai.openai"
    return _PROVIDERS.get(host)
