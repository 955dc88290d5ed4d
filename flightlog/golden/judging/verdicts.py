"""The judgement of a run as it stands in the store, written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flightlog.errors import GoldenError
from flightlog.golden.judging.answers import check_functions
from flightlog.golden.judging.judge import Judgement
from flightlog.golden.judging.levels import Level
from flightlog.golden.task import GoldenTask
from flightlog.replay.cassette import Recording
from flightlog.replay.validity import Trust, Validity
from flightlog.trace.events import Evaluation, ModelCall
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Actor, Outcome

SUCCESS: Final = "success"
VALIDITY: Final = "validity"
GRADED: Final = "graded"
_TRUSTED: Final = {Validity.COMPARABLE: True, Validity.DEGRADED: None, Validity.VOID: False}


def check_judgeable(golden: GoldenTask, *, has_grader: bool, where: str) -> None:
    """Refuses a contract that this replay could not judge, before anything is paid for.

    Raises:
        GoldenError: a check that cannot be loaded, or a required graded question without a
            grader.
    """
    check_functions(golden.judge, where=where)
    if not has_grader and any(rule.is_required for rule in golden.judge.graded):
        raise GoldenError(
            "the contract requires a graded question, and no grader is given",
            where=where,
            hint="Give a model: Replaying(grader=...).",
        )


def write_verdict(writer: RunWriter, judgement: Judgement, trust: Trust) -> None:
    """Writes the validity and the judgement of a run as evaluations of it."""
    writer.evaluation(name=VALIDITY, passed=_TRUSTED[trust.validity], detail=str(trust))
    levels = ", ".join(judgement.levels or (judgement.level,))
    writer.evaluation(name=SUCCESS, passed=judgement.passed, detail=f"{levels}: {judgement.detail}")


def read_judgement(run: Recording) -> Judgement:
    """What was written of a run's success; it has been judged."""
    made = _evaluations(run, SUCCESS)[-1]
    words, _, detail = (made.detail or "").partition(": ")
    names = words.split(", ")
    if not all(name in list(Level) for name in names):
        return Judgement(made.passed, Level.DIFFERENT, made.detail or "")
    levels = tuple(Level(name) for name in names)
    return Judgement(made.passed, levels[0], detail, levels)


def read_trust(run: Recording) -> Trust:
    """What was written of a run's validity."""
    made = _evaluations(run, VALIDITY)
    return Trust.parse(made[-1].detail or "") if made else Trust()


def read_grades(run: Recording) -> tuple[tuple[bool | None, str], ...]:
    """What a grader said of a run."""
    return tuple((one.passed, one.detail or "") for one in _evaluations(run, GRADED))


def grading_costs(run: Recording) -> list[float | None]:
    """What the answered calls of a run's grader cost."""
    return [
        event.cost_usd
        for event in run.events
        if isinstance(event, ModelCall)
        and event.actor is Actor.JUDGE
        and event.outcome is Outcome.OK
    ]


def with_grading(usd: float | None, grading: Sequence[float | None]) -> float | None:
    """The cost of a run with that of its grader, USD; None where one is unknown."""
    costs = [usd, *grading]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _evaluations(run: Recording, name: str) -> list[Evaluation]:
    return [e for e in run.events if isinstance(e, Evaluation) and e.name == name]
