"""An upstream that sends whatever bytes it is told, and a client that does the same."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

Behaviour = Callable[[socket.socket, threading.Event], None]
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
STREAMED = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def plain(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer."""
    size = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}"
    return f"HTTP/1.1 {status}\r\n{size}\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    """A piece of an answer in pieces."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def piece(text: str) -> bytes:
    """A piece of the answer of a chat."""
    told = {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": text}}]}
    return chunk(f"data: {json.dumps(told)}\n\n".encode())


@contextmanager
def upstream(behaviour: Behaviour) -> Iterator[str]:
    """A server that does this with each connection once it has read a request."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                read_request(connection)
                behaviour(connection, over)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def read_request(connection: socket.socket) -> bytes:
    """One request with its body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = connection.recv(65_536)
        if not more:
            return raw
        raw += more
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    size = int(lines[0].partition(b":")[2]) if lines else 0
    while len(body) < size:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


@contextmanager
def asking(url: str, body: bytes, path: str = "/v1/chat/completions") -> Iterator[socket.socket]:
    """A connection with one request on it."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout=30) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        yield connection
