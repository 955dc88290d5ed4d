"""`flightlog whatif` and `flightlog budgets`: history under other limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flightlog.commands.options import opened_traces, stores_option, strict_option
from flightlog.commands.outputs import forms_of, json_option
from flightlog.commands.windowing import scope_of, window_options
from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.analysis.whatif import Breaker

MOST_POINTS: Final = 60
_POINTS: Final = 12
_GEOMETRIC_FROM: Final = 8.0
_ENDINGS: Final = {".png": "png", ".svg": "svg", ".csv": "csv", ".json": "json"}
_RANGE: Final = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)")


class Values(click.ParamType[tuple[float, ...]]):
    """One value, a list `8,12,20`, or a range `8..40`."""

    name = "values"

    def __init__(self, *, is_whole: bool) -> None:
        self._is_whole = is_whole

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The values, ascending."""
        if isinstance(value, tuple):
            return value
        try:
            found = self._range(value) if ".." in value else map(float, value.split(","))
            values = tuple(sorted({round(one) if self._is_whole else one for one in found}))
        except ValueError:
            self.fail(f"{value!r} is no number, list (8,12,20) or range (8..40)", param, ctx)
        if not all(0 <= one < float("inf") for one in values):
            self.fail(f"{value!r} is not 0 or more", param, ctx)
        if len(values) > MOST_POINTS:
            self.fail(f"{len(values)} values are too many, at most {MOST_POINTS}", param, ctx)
        return values

    @staticmethod
    def _range(text: str) -> list[float]:
        found = _RANGE.fullmatch(text.strip())
        if found is None or float(found[1]) > float(found[2]):
            raise ValueError(text)
        low, high = float(found[1]), float(found[2])
        if low > 0 and high / low >= _GEOMETRIC_FROM:
            return [low * (high / low) ** (step / (_POINTS - 1)) for step in range(_POINTS)]
        return [low + (high - low) * step / (_POINTS - 1) for step in range(_POINTS)]


_WHOLE: Final = Values(is_whole=True)
_ANY: Final = Values(is_whole=False)


def _per_tool(
    _ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    found = {}
    for value in values:
        name, sign, calls = value.rpartition("=")
        if not sign or not name or not calls.isdecimal():
            raise click.BadParameter(f"{value!r} is not TOOL=CALLS", param=param)
        found[name] = int(calls)
    return found


def _breakers(
    _ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Breaker]:
    from flightlog.analysis.whatif import Breaker

    found = {}
    for value in values:
        name, _, rest = value.partition("=")
        parts = rest.split(",") if rest else []
        try:
            numbers = [float(part) for part in parts]
            if not name or len(numbers) > 4 or any(number <= 0 for number in numbers):
                raise ValueError(value)
        except ValueError as error:
            raise click.BadParameter(
                f"{value!r} is not TOOL or TOOL=RATE,CALLS,WINDOW_S,OPEN_S", param=param
            ) from error
        named = dict(
            zip(
                ("failure_rate", "min_calls", "window_seconds", "open_seconds"),
                numbers,
                strict=False,
            )
        )
        if "min_calls" in named:
            named["min_calls"] = int(named["min_calls"])
        found[name] = Breaker(**named)  # type: ignore[arg-type]
    return found


@click.command()
@stores_option
@strict_option
@window_options
@click.option("--max-steps", type=_WHOLE, help="Steps of a run: 20, or 8,12,20, or 8..40.")
@click.option("--max-tool-calls", type=_WHOLE, help="Tool call attempts of a run.")
@click.option("--max-usd", type=_ANY, help="What a run may spend.")
@click.option("--max-tokens", type=_WHOLE, help="The same in tokens.")
@click.option("--max-seconds", type=_ANY, help="Seconds of a run.")
@click.option("--stalled-steps", type=_WHOLE, help="Steps in a row that tell nothing new.")
@click.option("--per-tool", multiple=True, callback=_per_tool, help="TOOL=CALLS in a run.")
@click.option("--dedupe", is_flag=True, help="Answer a repeated read from the first one.")
@click.option(
    "--breaker",
    "breakers",
    multiple=True,
    callback=_breakers,
    help="TOOL, or TOOL=RATE,CALLS,WINDOW_S,OPEN_S: a circuit breaker over all runs.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the curve as .png, .svg, .csv or .json; repeat for more.",
)
@json_option
def whatif(stores: tuple[Path, ...], strict: bool, as_json: bool, **how: Any) -> None:
    """Rerun history under other limits: what they save, and which successes they lose.

    One limit may take several values: that is the curve. What ends a run (all but --per-tool,
    --dedupe and --breaker) is exact, since it cuts a recorded run; what refuses single calls
    is a bound, since the model would have been told something else.
    """
    from flightlog.analysis.export import write_result
    from flightlog.analysis.plots.curve import plot_curve
    from flightlog.analysis.whatif import curve_of, history_of
    from flightlog.analysis.whatif.tables import curve_table
    from flightlog.analysis.window import close_window, open_window

    forms = forms_of(how["outputs"], _ENDINGS)
    name, values, limits = _asked(how)
    with opened_traces(stores, strict=strict) as traces:
        try:
            history = history_of(open_window(traces, scope_of(traces, how)))
            points = curve_of(history, name, values, limits)
        finally:
            close_window(traces)
    table = curve_table(name, points)
    write_result(table, form="json" if as_json else "table")
    if not as_json:
        first = points[0].saved
        kind = "exact: the limits cut recorded runs" if first.is_exact else "at most: a bound"
        click.echo(
            f"of {first.runs:,} runs with calls and ${first.usd_total:,.2f}; saved is {kind}"
        )
    for form, path in forms:
        if form in ("png", "svg"):
            plot_curve(points, name, path)
        else:
            write_result(table, form=form, out=path)
        click.echo(f"wrote {path}", err=as_json)


def _asked(how: Mapping[str, Any]) -> tuple[str | None, tuple[float, ...], Any]:
    """The limit that varies with its values, and the others."""
    from flightlog.analysis.whatif import Limits
    from flightlog.analysis.whatif.curve import VARIABLE

    given = {name: how[name] for name in VARIABLE if how[name] is not None}
    several = [name for name, values in given.items() if len(values) > 1]
    if len(several) > 1:
        raise UsageError(
            f"{' and '.join(several)} both take several values",
            hint="Vary one, and give the others one value each.",
        )
    others = {name: values[0] for name, values in given.items() if name not in several}
    whole: dict[str, Any] = {
        name: int(value) if name not in ("max_usd", "max_seconds") else value
        for name, value in others.items()
    }
    limits = Limits(
        **whole, per_tool=how["per_tool"], dedupe=how["dedupe"], breakers=how["breakers"]
    )
    if not several and limits == Limits():
        raise UsageError("no limit was given", hint="Such as --max-tool-calls 8..40.")
    return (several[0], given[several[0]], limits) if several else (None, (), limits)


@click.group()
def budgets() -> None:
    """Limits of runs."""


@budgets.command()
@stores_option
@strict_option
@window_options
@click.option(
    "--lose",
    type=click.FloatRange(0, 50),
    default=1.0,
    show_default=True,
    help="Largest share of successes that the limits may end, in percent.",
)
@json_option
def advise(stores: tuple[Path, ...], strict: bool, lose: float, as_json: bool, **how: Any) -> None:
    """Propose budgets from what successes needed.

    It ends in the lines for flightlog.yaml. All limits together end no more than --lose percent
    of the runs with a success.
    """
    from flightlog.analysis.export import write_result
    from flightlog.analysis.whatif import advise as advised
    from flightlog.analysis.whatif import history_of
    from flightlog.analysis.whatif.advice import snippet
    from flightlog.analysis.whatif.tables import advice_table
    from flightlog.analysis.window import close_window, open_window

    with opened_traces(stores, strict=strict) as traces:
        try:
            advice = advised(history_of(open_window(traces, scope_of(traces, how))), lose / 100)
        finally:
            close_window(traces)
    write_result(advice_table(advice), form="json" if as_json else "table")
    if as_json:
        return
    saved = advice.saved
    low, high = saved.lost_interval
    click.echo(
        f"together: {saved.successes_lost:,} of {saved.successes:,} successes lost"
        f" ({saved.lost_share:.1%}, 95 % interval {low:.1%} to {high:.1%}),"
        f" {saved.runs_cut:,} of {saved.runs:,} runs end earlier,"
        f" ${saved.usd:,.2f} of ${saved.usd_total:,.2f} saved\n"
    )
    click.echo(snippet(advice))
