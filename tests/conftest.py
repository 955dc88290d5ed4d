"""What all tests share: an environment that does not depend on who runs them."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

from tests.torture.figures import figure_lines

# How busy the machine is decides no test.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """What collecting has made stays to the end: no later collection looks at it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # extension modules tell of what is left behind at the end


@pytest.fixture(autouse=True)
def no_terminal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is as wide as in a pipe, whatever terminal or test runner is around."""
    keys = ("FLIGHTLOG_STORE_KEY", "FLIGHTLOG_STORE_KEY_FILE")
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "FLIGHTLOG_STORE", *keys):
        monkeypatch.delenv(name, raising=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests recorded: what was tried, and what came of it."""
    reports = [one for some in terminalreporter.stats.values() for one in some]
    # The end of a test is reported too, with the same figures.
    lines = list(figure_lines(one for one in reports if getattr(one, "when", None) == "call"))
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join(lines) + "\n")
