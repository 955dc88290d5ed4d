"""What runs share: one of each, made when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flightlog.control.approvals import ApprovalQueue
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.breakers import Breakers
from flightlog.control.control import CONTROL_FOLDER, KILL_FILE, STATE_FILE, Control
from flightlog.control.kill_switch import KillMode
from flightlog.control.windows import Windows
from flightlog.recorder.recorder import Recorder

ONE_FAILURE = BreakerPolicy(failure_rate=1.0, min_calls=1)


def stop_all(control: Control) -> None:
    control.kill_switch.turn_on(KillMode.STOP_ALL, who="ana", why="", at_us=1)


def fail_once(control: Control) -> None:
    control.breakers.admit("browse", ONE_FAILURE, 10.0)
    control.breakers.report("browse", ONE_FAILURE, 10.0, failed=True, is_probe=False)


def test_two_controls_of_a_store_share_what_they_hold(tmp_path: Path) -> None:
    one, other = Control.at(tmp_path), Control.at(str(tmp_path))
    stop_all(one)
    assert other.kill_switch.rules() == one.kill_switch.rules() != ()
    fail_once(one)
    assert other.breakers.state_of("browse", ONE_FAILURE, 11.0) == "open"
    assert {STATE_FILE, KILL_FILE} <= {path.name for path in (tmp_path / CONTROL_FOLDER).iterdir()}


def test_controls_in_process_share_nothing() -> None:
    one, other = Control.in_process(), Control.in_process()
    stop_all(one)
    fail_once(one)
    assert other.kill_switch.rules() == ()
    assert other.breakers.state_of("browse", ONE_FAILURE, 11.0) == "closed"


def test_making_and_reading_a_control_makes_no_file(tmp_path: Path) -> None:
    control = Control.at(tmp_path / "store")
    assert control.kill_switch.rules() == ()
    assert isinstance(control.breakers, Breakers)
    assert isinstance(control.windows, Windows)
    assert isinstance(control.approvals, ApprovalQueue)
    control.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["breakers", "windows", "approvals", "state"])
def test_threads_that_ask_at_once_get_the_same_member(name: str) -> None:
    control = Control.in_process()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: getattr(control, name), range(200)))
    assert {id(one) for one in made} == {id(made[0])}


def test_a_closed_control_opens_again_at_the_next_use(tmp_path: Path) -> None:
    control = Control.at(tmp_path)
    fail_once(control)
    control.close()
    assert control.breakers.state_of("browse", ONE_FAILURE, 11.0) == "open"
    control.close()


def test_a_recorder_has_the_control_of_its_store(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        assert recorder.control is recorder.control
        assert (tmp_path / "store" / CONTROL_FOLDER).is_dir()
        stop_all(Control.at(tmp_path / "store"))
        assert len(recorder.control.kill_switch.rules()) == 1
        fail_once(recorder.control)
    with Recorder(tmp_path / "store") as again:
        assert again.control.breakers.state_of("browse", ONE_FAILURE, 11.0) == "open"


def test_a_recorder_loads_no_database_before_it_is_needed() -> None:
    code = "import flightlog.recorder.recorder, sys; print('sqlite3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
