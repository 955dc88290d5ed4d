"""The key of the pseudonyms, where the user gives one: in the environment or in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flightlog.errors import ConfigError

KEY_VARIABLE: Final = "FLIGHTLOG_REDACTION_KEY"
_MOST_BYTES: Final = 4096


def given_key(key_file: str | None, environ: Mapping[str, str]) -> bytes | None:
    """The key that the environment, or else a file, holds; None where neither is named.

    Raises:
        ConfigError: the file cannot be read, or others may read it.
    """
    from_environment = environ.get(KEY_VARIABLE, "").strip()
    if from_environment:
        return from_environment.encode("utf-8", "surrogateescape")
    return None if key_file is None else read_key(Path(key_file))


def read_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        ConfigError: as of `given_key`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            key = os.read(descriptor, _MOST_BYTES).strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(
            f"cannot read the redaction key: {error.strerror or error}",
            where=str(path),
            hint=f"Give the file, or set {KEY_VARIABLE}.",
        ) from error
    if mode & 0o007:
        raise ConfigError(
            "everybody may read the redaction key", where=str(path), hint=f"chmod 600 {path}"
        )
    return key
