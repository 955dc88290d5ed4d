"""From `flightlog.yaml` to what a recorder takes out."""

from __future__ import annotations

from pathlib import Path

from flightlog.config import Config, load_config
from flightlog.errors import ConfigError, UnknownNameError
from flightlog.redact.policy import Capture, Redaction

_SAME = ("off", "emails", "phones", "key_names", "ignored_names", "environment", "env")
_ROOT = "redaction"


def redaction_from(config: Config | str | Path) -> Redaction:
    """The redaction that the settings describe: `Recorder(store, redaction=redaction_from(file))`.

    Args:
        config: from `flightlog.load_config`, or the file.

    Raises:
        ConfigError: as of `flightlog.load_config` and `Redaction`, with file and line.
        UnknownNameError: an unknown kind in `redaction.off`.
    """
    if not isinstance(config, Config):
        config = load_config(config)
    patterns = {name: entry["regex"] for name, entry in config["redaction.patterns"].items()}
    key_file = config["redaction.key_file"]
    if key_file is not None and config.file is not None:
        key_file = str(Path(config.file).parent / key_file)
    try:
        return Redaction(
            capture=Capture(config["redaction.capture"]),
            patterns=patterns,
            key_file=key_file,
            max_seconds=config["redaction.max_seconds"],
            **{name: config[f"{_ROOT}.{name}"] for name in _SAME},
        )
    except (ConfigError, UnknownNameError) as error:
        keys = error.where.removeprefix(f"{_ROOT}.").split(".")
        place = config.where(f"{_ROOT}.{keys[0]}", *keys[1:])
        where = f"{place}: {error.where}"
        raise type(error)(error.what, where=where, hint=error.hint) from None
