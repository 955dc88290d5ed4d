"""Whether a thread is inside our own code, where it holds what another `emit` may wait for.

A finaliser may run at any instruction, also in the thread that syncs a journal, and may record.
Were that `emit` to wait for the recorder's lock, whose holder waits for this very thread, both
would wait for ever. So it parks its event, and the thread writes it once it holds nothing.
"""

from __future__ import annotations

import threading
from typing import Final


class _Inside(threading.local):
    """Attributes of one thread.

    Attributes:
        depth: above 0 where an event is to be parked.
    """

    depth: int = 0


INSIDE: Final = _Inside()
