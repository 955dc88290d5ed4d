"""Options that say which metrics gate, how far they may move, and what an open verdict means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.analysis.gate.metrics import Metric
    from flightlog.analysis.gate.verdict import Verdict
    from flightlog.config import Config

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--metric", "metrics", multiple=True, help="Gate on this metric; repeat for more."
    ),
    click.option(
        "--tolerance",
        "tolerances",
        multiple=True,
        metavar="METRIC=SHARE",
        help="Largest change for the worse that is still OK: cost_usd=0.1 is 10 %.",
    ),
    click.option(
        "--define",
        "defined",
        multiple=True,
        metavar="NAME=SQL",
        help="A metric of your own: an SQL expression, then FROM and a view.",
    ),
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings whose monitoring says what gates. "
        "[default: ./flightlog.yaml if it is there]",
    ),
)
_OUTCOMES = (
    click.option(
        "--inconclusive",
        type=click.Choice(["warn", "fail"]),
        default="warn",
        show_default=True,
        help="Whether an undecided check exits 0 or 2.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice(["likely", "confirmed"]),
        default="likely",
        show_default=True,
        help="How sure a drift must be to exit 1; a less sure one is undecided.",
    ),
)


def metric_options(command: F) -> F:
    """Adds the options for what is compared to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def outcome_options(command: F) -> F:
    """Adds the options for the exit code to a command."""
    for option in reversed(_OUTCOMES):
        command = option(command)
    return command


@dataclass(frozen=True)
class Gating:
    """What is compared.

    Attributes:
        settings: the settings file that was read; None without one.
        metrics: every metric to compare, with its tolerance.
        gated: names of those that can fail the check; None leaves it to the table.
        is_chosen: the command line says what gates.
    """

    settings: Config | None
    metrics: tuple[Metric, ...]
    gated: frozenset[str] | None
    is_chosen: bool

    def notes(self, verdict: Verdict) -> list[str]:
        """Which file says what gates, and what does."""
        if self.settings is None or self.is_chosen:
            return []
        return [_gates_text(self.settings, verdict)]


def gating_of(how: Mapping[str, Any]) -> Gating:
    """What the options and the settings file ask for.

    Raises:
        UsageError, UnknownNameError, ConfigError: an option or a setting that means nothing.
    """
    from flightlog.analysis.gate.custom import check_expression
    from flightlog.analysis.gate.metrics import select_metrics
    from flightlog.analysis.gate.table import custom_of, gated_of, metric_table

    settings = settings_of(how["config_file"])
    defined = dict(_pairs(how["defined"], "--define", "NAME=SQL"))
    tolerances = shares_of(how["tolerances"], "--tolerance")
    table = metric_table(settings, tolerances=tolerances, defined=defined)
    for metric in custom_of(table):
        check_expression(metric)
    if how["metrics"]:
        chosen = {*how["metrics"], *defined}
        select_metrics(chosen, table=table)
        kept = tuple(metric for metric in table if metric.name in chosen)
        return Gating(settings, kept, frozenset(chosen), is_chosen=True)
    gated = gated_of(settings)
    if gated is not None and defined:
        gated |= set(defined)
    return Gating(settings, table, gated, is_chosen=False)


def settings_of(file: Path | None) -> Config | None:
    """The settings that were asked for, else those of the folder; None without any.

    Raises:
        ConfigError: the file cannot be used.
    """
    from flightlog.config import DEFAULT_CONFIG_NAME, load_config

    if file is None and not Path(DEFAULT_CONFIG_NAME).exists():
        return None
    return load_config(file or DEFAULT_CONFIG_NAME)


def shares_of(texts: Sequence[str], option: str) -> dict[str, float]:
    """`METRIC=SHARE` options: 0.1, or 10%.

    Raises:
        UsageError: not of that form, or one metric twice.
    """
    pairs = _pairs(texts, option, "METRIC=SHARE")
    return {name: _share(f"{option} of {name}", text) for name, text in pairs}


def _pairs(texts: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise UsageError(f"{option} {text!r} is not of its form", hint=f"Write {form}.")
        pairs.append((name.strip(), value.strip()))
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} sets {name!r} twice", hint="Give it once.")
    return pairs


def _share(name: str, text: str) -> float:
    number, is_percent = text.removesuffix("%"), text.endswith("%")
    try:
        return float(number) / (100 if is_percent else 1)
    except ValueError as error:
        raise UsageError(f"{name}: {text!r} is no number", hint="Write 0.1, or 10%.") from error


def _gates_text(settings: Config, verdict: Verdict) -> str:
    from flightlog.analysis.gate.metrics import ALWAYS_GATED
    from flightlog.analysis.gate.table import TRACK

    gates = verdict.chosen_gates
    if gates is None:
        return f"{settings.file} sets no {TRACK}: the built-in table says what gates."
    chosen = ", ".join(settings[TRACK])
    text = f"Gated by {TRACK} of {settings.sources[TRACK]}: {chosen}"
    if ALWAYS_GATED in settings[TRACK]:
        return f"{text}."
    if ALWAYS_GATED in gates:
        return f"{text}; and success, which gates wherever it is known."
    return f"{text}. Success would gate too, but no run records it."
