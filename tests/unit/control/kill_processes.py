"""Real processes for the tests of the kill switch. They talk by pipes only."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

from flightlog.control.kill_switch import KillMode, KillSwitch


def _turn_on(switch: KillSwitch, mode: KillMode, *, tenant: str | None, who: str) -> None:
    switch.turn_on(mode, tenant=tenant, who=who, why="test", at_us=7)


def _texts(switch: KillSwitch) -> list[str]:
    return [rule.text for rule in switch.rules()]


def switch_tenants(pipe: Connection, path: Path, name: str) -> None:
    """Switches 25 tenants of this name on, and every second one off again."""
    switch = KillSwitch(path)
    pipe.send("ready")
    pipe.recv()
    for number in range(25):
        _turn_on(switch, KillMode.STOP_ALL, tenant=f"{name}{number}", who=name)
        if number % 2:
            switch.turn_off(tenant=f"{name}{number}")
    pipe.send("done")


def switch_for_ever(pipe: Connection, path: Path) -> None:
    """Switches all runs on and off until it is killed."""
    switch = KillSwitch(path)
    pipe.send("ready")
    pipe.recv()
    while True:
        _turn_on(switch, KillMode.STOP_ALL, tenant=None, who="on")
        switch.turn_off()


def tell_rules(pipe: Connection, path: Path) -> None:
    """Tells the rules at once, and again at each word that comes."""
    switch = KillSwitch(path)
    while True:
        pipe.send(_texts(switch))
        pipe.recv()


def tell_rules_of_a_forked_child(pipe: Connection, path: Path) -> None:
    """As `tell_rules`, from a forked child of a process that read the file before."""
    switch = KillSwitch(path)
    switch.rules()
    forked = os.fork()
    if forked:
        os.waitpid(forked, 0)
        return
    pipe.send(_texts(switch))
    pipe.recv()
    pipe.send(_texts(switch))
    pipe.recv()
    _turn_on(switch, KillMode.DISABLE_WRITES, tenant="of the child", who="child")
    pipe.send(_texts(switch))
    os._exit(0)
