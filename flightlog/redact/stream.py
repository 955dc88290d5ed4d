"""Texts that come in parts: a secret that is cut by the end of a part is still found whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flightlog.redact.finds import Work
from flightlog.redact.named import LIST

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

HELD_BYTES: Final = 16 << 10
"""Longest value that is found over the ends of parts, in bytes of UTF-8."""
_MOST_HELD_BYTES: Final = 4 << 20
_LOOKED_BACK: Final = 1024
_BREAKS: Final = (b" ", b"\n", b"\t", b",")


class StreamRedactor:
    """Redacts a text part by part; what `feed` and `close` give, joined, is the text.

    The last 16 KiB are held back until more is known. JSON stays JSON but where a bare number
    in a list is replaced.

    Attributes:
        values: how many were replaced so far.

    Args:
        redactor: says what is replaced.
        work: what the whole text may cost; None allows each part as much as one event.
    """

    def __init__(self, redactor: Redactor, work: Work | None = None) -> None:
        self.values = 0
        self._redactor = redactor
        self._work = work
        self._held = ""

    def feed(self, part: str) -> str:
        """Takes the next part; gives what is certain by now, perhaps nothing.

        Raises:
            SlowError: there is too much to look at.
        """
        self._held += part
        if len(self._held) < 2 * HELD_BYTES:
            return ""
        return self._given(is_last=False)

    def close(self) -> str:
        """The rest, once no part follows.

        Raises:
            SlowError: there is too much to look at.
        """
        return self._given(is_last=True)

    def _given(self, *, is_last: bool) -> str:
        redactor = self._redactor
        work = self._work or redactor.work(len(self._held))
        data = self._held.encode("utf-8", "surrogatepass")
        finds = []
        if not redactor.is_clean(data):
            work.look()
            text, known = redactor.without_known(self._held, data, work)
            self.values += known
            if known:
                data = text.encode("utf-8", "surrogatepass")
            finds = redactor.finds(data, work)
        cut = len(data)
        if not is_last:
            cut = _break_before(data, max(0, cut - HELD_BYTES))
            for find in reversed(finds):
                if find.since < cut < find.end:
                    cut = find.since
            if cut == 0 and len(data) > _MOST_HELD_BYTES:  # no value is that long
                cut = len(data)
        finds = [one for one in finds if one.end <= cut and one.rule != LIST]
        self.values += len(finds)
        self._held = data[cut:].decode("utf-8", "surrogatepass")
        return redactor.replaced(data[:cut], finds).decode("utf-8", "surrogatepass")


def _break_before(data: bytes, at: int) -> int:
    """The nearest place before `at` where no word and no sign is cut in two."""
    found = max(data.rfind(sign, max(0, at - _LOOKED_BACK), at) for sign in _BREAKS)
    if found >= 0:
        return found + 1
    while at > 0 and data[at] & 0xC0 == 0x80:
        at -= 1
    return at
