"""Options that say who is replayed: a model, a prompt, settings, one side or many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flightlog.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from flightlog.golden.overrides import Overrides
    from flightlog.runtime.model import Model

CLIENTS: Final = ("openai", "anthropic")
MAX_MATRIX_SIDES: Final = 100
_KEYS: Final = ("model", "system", "config")


@dataclass(frozen=True)
class Side:
    """One candidate of a replay.

    Attributes:
        variant: its name.
        overrides: what is changed on what the factory makes.
    """

    variant: str
    overrides: Overrides


def overrides_of(model: str | None, system: Path | None, config: Path | None) -> Overrides:
    """The changes that the options name.

    Raises:
        UsageError: a client without the name of a model.
        ConfigError: the file of the prompt cannot be read.
    """
    from flightlog.golden.overrides import Overrides

    text = text_of(system, "the prompt") if system is not None else None
    client = client_of(model) if model is not None else None
    return Overrides(None if client else model, client, text, config)


def client_of(model: str) -> Callable[[], Model] | None:
    """What makes a client of a provider; None where the text names none.

    Raises:
        UsageError: a client without the name of a model.
    """
    provider, colon, name = model.partition(":")
    if not colon or provider not in CLIENTS:
        return None
    if not name:
        raise UsageError(f"{model!r} names no model", hint=f"Write {provider}:NAME.")
    from flightlog.integrations.models import AnthropicModel, OpenAIModel

    return partial(OpenAIModel if provider == "openai" else AnthropicModel, name)


def text_of(path: Path, what: str) -> str:
    """The text of a file that an option names.

    Raises:
        ConfigError: it cannot be read, is too long, or is not UTF-8.
    """
    from flightlog.config.reading import MAX_CONFIG_BYTES
    from flightlog.config.regular_file import read_regular

    try:
        raw = read_regular(path, MAX_CONFIG_BYTES)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ValueError(f"longer than {MAX_CONFIG_BYTES:,} bytes")
        return raw.decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{what} cannot be read: {error}", where=str(path), hint="Give a UTF-8 text file."
        ) from error


def endpoint_of(text: str) -> tuple[str, int]:
    """A host, with or without a port, that a replay may reach besides the model's.

    Raises:
        UsageError: not of that form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "0"
    if not host.strip("[]") or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{text!r} is no host", hint="Write HOST or HOST:PORT.")
    return host, int(port)


def read_matrix(path: Path) -> list[Side]:
    """The sides of a matrix file: a list of variants with model, system and config.

    Files that it names are looked for beside it.

    Raises:
        GoldenError: not such a file, with file and line.
        UsageError: as of `overrides_of`.
    """
    from flightlog.golden.yaml_files import Fields, read_yaml

    value, lines = read_yaml(path)
    whole = Fields(value, lines, path)
    whole.allow_only("variants")
    variants = whole.mapping("variants")
    if not variants or len(variants) > MAX_MATRIX_SIDES:
        raise whole.wrong("variants", f"1 to {MAX_MATRIX_SIDES} variants, each with its changes")
    fields = whole.fields("variants")
    return [Side(str(name), _side(fields.fields(name), path)) for name in variants]


def _side(fields: Any, path: Path) -> Overrides:
    fields.allow_only(*_KEYS)
    files = {name: fields.text(name) for name in ("system", "config")}
    beside = {name: path.parent / text if text else None for name, text in files.items()}
    return overrides_of(fields.text("model"), beside["system"], beside["config"])
