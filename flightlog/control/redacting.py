"""What a store redacts with: the policy, and the key, which the store makes when none is given."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flightlog.control.owner import give_to_owner
from flightlog.redact.key_files import given_key, read_key
from flightlog.redact.policy import Capture, Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor

KEY_FILE: Final = "redaction.key"
_KEY_BYTES: Final = 32


def redactor_at(
    folder: Path, redaction: Redaction, *, environ: Mapping[str, str] | None = None
) -> Redactor | None:
    """The redactor of a store; None where its policy is to record everything.

    Args:
        folder: the store's folder `control/`.
        redaction: what is taken out.
        environ: the environment; None is that of the process.

    Raises:
        ConfigError: the key that is given, or the store's own, cannot be used.
    """
    if redaction.capture is Capture.FULL:
        return None
    environ = os.environ if environ is None else environ
    key = given_key(redaction.key_file, environ)
    path = folder / KEY_FILE
    if key is None and path.exists():
        key = read_key(path)
    pseudonyms = Pseudonyms(key) if key is not None else Pseudonyms(lambda: _own_key(path))
    return Redactor(redaction, pseudonyms, environ=environ)


def _own_key(path: Path) -> bytes:
    """The key of the store, made when it has none; of several processes one makes it.

    Raises:
        ConfigError: it cannot be used.
        OSError: it cannot be written.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    return read_key(path)


def _make(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        give_to_owner(descriptor, path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(_KEY_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # whole, and only where nobody was first
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
