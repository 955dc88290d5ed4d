"""What was loosened since the baseline: in the settings, and in the golden tasks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.selection import Side
    from flightlog.commands.gating import Gating
    from flightlog.golden.baselines import Baseline
    from flightlog.golden.guard import CheckState

_COMMITS: Final = """
SELECT DISTINCT labels['git_revision'] AS revision FROM runs
WHERE {condition} AND labels['git_revision'] IS NOT NULL LIMIT 2
"""


def loosened_since(
    traces: Traces, baseline: Side, kept: Baseline | None, gating: Gating, how: Mapping[str, Any]
) -> tuple[str, ...]:
    """What lets more pass than it did when the baseline was made, one sentence each.

    Held against `--guard COMMIT`, else against what a pinned baseline keeps, else against the
    commit that all runs of the baseline name, where it can be found here.

    Raises:
        UsageError: the commit that was given is none.
    """
    from flightlog.commands.revision import commit_of
    from flightlog.golden.guard import loosened, state_of

    if how["guard"] is not None:
        return loosened_since_commit(how["guard"], gating, how)
    if kept is not None:
        return loosened(kept.state, state_of(gating.metrics, gating.gated, how["goldens"]))
    commit = _commit_of_runs(traces, baseline)
    if commit is None or commit_of(commit) is None:
        return ()
    return loosened_since_commit(commit, gating, how)


def loosened_since_commit(commit: str, gating: Gating, how: Mapping[str, Any]) -> tuple[str, ...]:
    """What lets more pass than the settings and golden tasks of a commit did.

    Raises:
        UsageError: there is no such commit.
    """
    from flightlog.golden.guard import loosened, state_of

    now = state_of(gating.metrics, gating.gated, how["goldens"])
    return loosened(_state_at(commit, how), now)


def _commit_of_runs(traces: Traces, baseline: Side) -> str | None:
    condition, values = baseline.condition("g")
    found = traces.rows(_COMMITS.format(condition=condition), values)
    return found[0]["revision"] if len(found) == 1 else None


def _state_at(commit: str, how: Mapping[str, Any]) -> CheckState:
    """What a check demanded at a commit, with the settings and golden tasks of then."""
    from flightlog.analysis.gate.table import gated_of, metric_table
    from flightlog.commands.revision import files_at
    from flightlog.config import DEFAULT_CONFIG_NAME, load_config
    from flightlog.golden.guard import state_of

    settings = _inside(how["config_file"] or Path(DEFAULT_CONFIG_NAME))
    goldens = _inside(how["goldens"]) if how["goldens"] is not None else None
    wanted = [name for name in (settings, goldens) if name is not None]
    with tempfile.TemporaryDirectory(prefix="flightlog-guard-") as folder:
        there = files_at(commit, wanted, Path(folder))
        config = load_config(Path(folder) / settings) if settings in there else None
        then = Path(folder) / goldens if goldens is not None and goldens in there else None
        return state_of(metric_table(config), gated_of(config), then)


def _inside(path: Path) -> str | None:
    """The path as git knows it from here; None for one outside of this folder."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return None
