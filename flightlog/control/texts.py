"""Texts on their way into the files of `control/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor


class TextRedaction:
    """Takes secrets out of texts; what is needed for it is loaded at the first text.

    Args:
        folder: the store's folder `control/`.
        redactor: takes the secrets out; None is that of the defaults, made when it is needed.
    """

    def __init__(self, folder: Path, redactor: Redactor | None = None) -> None:
        self._folder = folder
        self._redactor = redactor

    def __call__(self, text: str) -> str:
        """The text as it is written into the store."""
        if not text:
            return text
        if self._redactor is None:
            from flightlog.control.redacting import redactor_at  # noqa: PLC0415 - loads re2
            from flightlog.redact.policy import Redaction  # noqa: PLC0415

            self._redactor = redactor_at(self._folder, Redaction())
        return text if self._redactor is None else self._redactor.clean(text)
