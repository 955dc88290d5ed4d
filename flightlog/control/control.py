"""What runs share with other runs, in one place: of all processes on a store, or of this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from flightlog.control.kill_switch import KillSwitch
from flightlog.control.texts import TextRedaction

if TYPE_CHECKING:
    from flightlog.control.approvals import ApprovalQueue
    from flightlog.control.breakers import Breakers
    from flightlog.control.shared_state import SharedState
    from flightlog.control.windows import Windows
    from flightlog.redact.redactor import Redactor

CONTROL_FOLDER: Final = "control"
KILL_FILE: Final = "kill.json"
STATE_FILE: Final = "state.sqlite"

T = TypeVar("T")


class Control:
    """Kill switch, breakers, tenants' windows and waiting approvals.

    Build it with `Control.at` or `Control.in_process`. Files are made at the first
    write; what is not used is not loaded. Safe in threads and over fork.

    Attributes:
        kill_switch: what is forbidden at the moment.
    """

    def __init__(self, folder: Path | None, *, redact: TextRedaction | None = None) -> None:
        # Absolute, so that a process that changes its folder still finds it.
        self._folder = None if folder is None else folder.absolute()
        self._made: dict[str, Any] = {}
        self._redact = redact
        self.kill_switch = KillSwitch(self._file(KILL_FILE), redact=redact)

    @classmethod
    def at(
        cls, store: str | Path, *, redactor: Redactor | None = None, records_all: bool = False
    ) -> Self:
        """The control of a store: the same for all processes on it.

        Args:
            store: its folder.
            redactor: takes secrets out of what is written; None is that of the defaults.
            records_all: take out nothing.
        """
        folder = (Path(store) / CONTROL_FOLDER).absolute()
        return cls(folder, redact=None if records_all else TextRedaction(folder, redactor))

    @classmethod
    def in_process(cls) -> Self:
        """A control of its own that nobody else sees."""
        return cls(None)

    @property
    def breakers(self) -> Breakers:
        """Circuit breakers by tool."""
        from flightlog.control.breakers import Breakers  # noqa: PLC0415 - loads sqlite3

        return self._one("breakers", lambda: Breakers(self.state))

    @property
    def windows(self) -> Windows:
        """What tenants spent in their sliding windows."""
        from flightlog.control.windows import Windows  # noqa: PLC0415 - loads sqlite3

        return self._one("windows", lambda: Windows(self.state))

    @property
    def approvals(self) -> ApprovalQueue:
        """Writes that wait for a yes or a no."""
        from flightlog.control.approvals import ApprovalQueue  # noqa: PLC0415 - loads sqlite3

        return self._one("approvals", lambda: ApprovalQueue(self.state, redact=self._redact))

    @property
    def state(self) -> SharedState:
        """The state behind breakers, windows and approvals."""
        from flightlog.control.shared_state import SharedState  # noqa: PLC0415 - loads sqlite3

        return self._one("state", lambda: SharedState(self._file(STATE_FILE)))

    def close(self) -> None:
        """Closes the file of the shared state; the next use opens it again."""
        if "state" in self._made and self._folder is not None:
            self.state.close()

    def end(self) -> None:
        """Closes it for good; a control of this process alone forgets what it held."""
        if "state" in self._made:
            self.state.close()

    def _one(self, name: str, make: Callable[[], T]) -> T:
        """The one member of this name. Without a lock, which a fork could leave held: of
        two that threads make at once, `setdefault` keeps one."""
        found: T | None = self._made.get(name)
        return found if found is not None else self._made.setdefault(name, make())

    def _file(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name
