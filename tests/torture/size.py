"""How much is tried: FLIGHTLOG_TORTURE_SIZE is small (as in every test run) or full."""

from __future__ import annotations

import os
from typing import Final

SEED: Final = int(os.environ.get("FLIGHTLOG_TORTURE_SEED", "1"))
IS_FULL: Final = os.environ.get("FLIGHTLOG_TORTURE_SIZE", "small") == "full"


def sized(small: int, full: int) -> int:
    """The one for this run."""
    return full if IS_FULL else small
