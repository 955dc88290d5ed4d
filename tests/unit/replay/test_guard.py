"""Nothing leaves the process in the midst of a replay, but to the candidate's model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.errors import NetworkRefusedError
from flightlog.recorder.background import BackgroundSealer
from flightlog.recorder.recorder import Recorder
from flightlog.replay.guard import MAX_REFUSED, Endpoint, no_network


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A server on loopback that accepts; nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[:2]


def connect(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=5):
        pass


def datagram(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", address)


def through_asyncio(address: tuple[str, int]) -> None:
    async def go() -> None:
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        await writer.wait_closed()

    asyncio.run(go())


def nowait(address: tuple[str, int]) -> None:
    with socket.socket() as one:
        one.connect_ex(address)


def in_thread(address: tuple[str, int]) -> None:
    caught: list[BaseException] = []

    def go() -> None:
        try:
            connect(address)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


WAYS: list[Callable[[tuple[str, int]], None]] = [
    connect,
    datagram,
    through_asyncio,
    nowait,
    in_thread,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_connection_is_refused_and_counted(
    way: Callable[[tuple[str, int]], None], server: tuple[str, int]
) -> None:
    with no_network() as guard, pytest.raises(NetworkRefusedError, match="runs nothing live"):
        way(server)
    assert guard.refused == [f"connect {server[0]}:{server[1]}"]


def test_a_url_is_refused_at_its_name_already() -> None:
    with no_network() as guard, pytest.raises(OSError, match="runs nothing live"):
        urllib.request.urlopen("http://tools.example/orders")
    assert guard.refused == ["look up tools.example"]


def test_a_unix_socket_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(path)
        listening.listen()
        one = stack.enter_context(socket.socket(socket.AF_UNIX))
        with no_network() as guard, pytest.raises(NetworkRefusedError):
            one.connect(path)
    assert guard.refused == [f"connect {path}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST."])
def test_the_endpoint_of_the_model_can_be_reached_by_name_or_address(
    host: str, server: tuple[str, int]
) -> None:
    with no_network([Endpoint(host, server[1])]) as guard:
        for way in WAYS:
            way(server)
    assert guard.refusals == 0


def test_another_port_of_the_models_host_is_refused(server: tuple[str, int]) -> None:
    with no_network([Endpoint("127.0.0.1", server[1] + 1)]), pytest.raises(NetworkRefusedError):
        connect(server)


def test_without_a_port_every_port_of_the_host_is_allowed(server: tuple[str, int]) -> None:
    with no_network([Endpoint("127.0.0.1")]) as guard:
        connect(server)
    assert not guard.refused


STARTS: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""], check=False),
    "system": lambda: os.system("true"),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_no_program_is_started(start: Callable[[], object]) -> None:
    with no_network() as guard, pytest.raises(NetworkRefusedError):
        start()
    assert guard.refused[0].startswith("start ")


def test_the_sealer_of_the_recorder_may_start(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder, no_network() as guard:
        sealer = BackgroundSealer(recorder.store_path)
        sealer.start()
        sealer.wait()
    assert not guard.refused


def test_everything_is_open_again_afterwards(server: tuple[str, int]) -> None:
    with pytest.raises(NetworkRefusedError), no_network():
        connect(server)
    connect(server)


def test_of_two_replays_at_once_each_may_reach_its_own_model(server: tuple[str, int]) -> None:
    with no_network() as outer, no_network([Endpoint("127.0.0.1", server[1])]) as inner:
        connect(server)
        with pytest.raises(NetworkRefusedError):
            connect(("127.0.0.1", server[1] + 1))
    assert outer.refusals == inner.refusals == 1


def test_an_error_that_is_caught_is_counted_all_the_same(server: tuple[str, int]) -> None:
    with no_network() as guard:
        for _ in range(MAX_REFUSED + 5):
            with socket.socket() as one, contextlib.suppress(ConnectionError):
                one.connect(server)
    assert guard.refusals == MAX_REFUSED + 5
    assert len(guard.refused) == MAX_REFUSED
