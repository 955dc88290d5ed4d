"""Runs an ASGI application until it is told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from flightlog.errors import MissingExtraError, UsageError

_BACKLOG: Final = 512


def serve(
    app: Any,
    host: str,
    port: int,
    *,
    on_ready: Callable[[str], None],
    extra: str = "otlp",
) -> None:
    """Serves until SIGINT or SIGTERM; requests that are being answered are answered first.

    Args:
        app: ASGI application.
        host: address to listen on.
        port: 0 takes a free one.
        on_ready: is called with the address as a URL once requests are taken.
        extra: of flightlog that brings what serving needs, for messages.

    Raises:
        MissingExtraError: the package uvicorn is not installed.
        UsageError: the port cannot be had.
    """
    try:
        import uvicorn  # noqa: PLC0415  - an extra
    except ImportError as error:
        raise MissingExtraError(
            "serving needs the package uvicorn", hint=f"pip install 'flightlog[{extra}]'"
        ) from error

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        lifespan="auto",
    )

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own raises the signal again at the end, and the process dies of it.
            stops = (signal.SIGINT, signal.SIGTERM)
            before = {one: signal.signal(one, self.handle_exit) for one in stops}
            try:
                yield
            finally:
                for one, handler in before.items():
                    signal.signal(one, handler)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(url)

    listening = _listening(host, port)
    try:
        address, own_port = listening.getsockname()[:2]
        url = f"http://[{address}]:{own_port}" if ":" in address else f"http://{address}:{own_port}"
        Server(config).run(sockets=[listening])
    finally:
        listening.close()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once (TCP_NODELAY).
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="Give another --port; 0 takes a free one.",
        ) from error
    return found
