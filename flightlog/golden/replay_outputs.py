"""What came of replays as JSON, Markdown and JUnit XML, for CI servers and pull requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from flightlog.analysis.reports.markdown import escape_markdown
from flightlog.analysis.terminal import escape_terminal
from flightlog.errors import UsageError
from flightlog.golden.replay_report import ReplayReport, TrialReport
from flightlog.replay.serve import Miss

SHOWN: Final = 50
"""Trials that a Markdown report lists; the JSON has all."""
_WORDS: Final[dict[bool | None, str]] = {True: "passed", False: "failed", None: "inconclusive"}
_MARKS: Final = {"passed": "✅", "failed": "❌", "inconclusive": "❔"}


def as_json(reports: Sequence[ReplayReport]) -> str:
    """All sides with all trials, each with verdict, levels, validity, misses and divergence."""
    return json.dumps({"sides": [_side(one) for one in reports]}, indent=2, sort_keys=True) + "\n"


def as_markdown(reports: Sequence[ReplayReport]) -> str:
    """One section for each side: totals, then the trials that did not pass."""
    lines: list[str] = []
    for report in reports:
        mark = _MARKS[_verdict_of(report)]
        lines += [
            f"### {mark} replay of {escape_markdown(report.variant)}",
            "",
            escape_markdown(report.sentence(), starts_line=True),
            "",
        ]
        rest = [trial for trial in report.trials if trial.passed is not True]
        if rest:
            lines += ["| task | trial | verdict | why |", "|---|---|---|---|"]
            lines += [_row(trial) for trial in rest[:SHOWN]]
            lines += [f"| … | | | {len(rest) - SHOWN} more |"] if len(rest) > SHOWN else []
            lines.append("")
        if report.skipped:
            lines += [f"{len(report.skipped)} trials left out: the spending cap is reached", ""]
    return "\n".join(lines)


def as_junit(reports: Sequence[ReplayReport]) -> str:
    """One suite for each side, one case for each trial; who is inconclusive is an error."""
    suites = ElementTree.Element("testsuites")
    for report in reports:
        counts = {
            "tests": len(report.trials) + len(report.skipped),
            "failures": report.failed,
            "errors": report.inconclusive,
            "skipped": len(report.skipped),
        }
        name = escape_terminal(f"flightlog replay {report.variant}")
        suite = ElementTree.SubElement(
            suites, "testsuite", {"name": name, **{key: str(n) for key, n in counts.items()}}
        )
        for trial in report.trials:
            _case(suite, trial)
        for task_id, number in report.skipped:
            case = _named_case(suite, task_id, number)
            ElementTree.SubElement(case, "skipped", {"message": "the spending cap is reached"})
        ElementTree.SubElement(suite, "system-out").text = escape_terminal(report.sentence())
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


FORMS: Final = {"json": as_json, "md": as_markdown, "junit": as_junit}
ENDINGS: Final = {".json": "json", ".md": "md", ".xml": "junit"}
"""Ending of a file -> form of the report."""


def write_outputs(reports: Sequence[ReplayReport], files: Sequence[tuple[str, Path]]) -> list[Path]:
    """Writes the reports in the forms that are asked for; gives the files.

    Raises:
        UsageError: a file cannot be written.
    """
    for form, path in files:
        try:
            path.write_text(FORMS[form](reports), encoding="utf-8", newline="\n")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return [path for _, path in files]


def _side(report: ReplayReport) -> dict[str, Any]:
    return {
        "variant": report.variant,
        "session_id": report.session_id,
        "verdict": _verdict_of(report),
        "passed": report.passed,
        "failed": report.failed,
        "inconclusive": report.inconclusive,
        "skipped": [{"task_id": task, "trial": number} for task, number in report.skipped],
        "resumed": report.resumed,
        "matcher": str(report.match),
        "coverage": report.coverage,
        "served": {str(how): count for how, count in sorted(report.served.items())},
        "misses": report.misses,
        "live_tool_calls": report.live_tool_calls,
        "cost_usd": report.cost_usd,
        "trials": [_trial(one) for one in report.trials],
    }


def _trial(trial: TrialReport) -> dict[str, Any]:
    found = trial.divergence
    return {
        "task_id": trial.task_id,
        "trial": trial.number,
        "run_id": trial.run_id,
        "verdict": _WORDS[trial.passed],
        "why": trial.judgement.detail,
        "levels": [str(level) for level in trial.judgement.levels or (trial.level,)],
        "validity": str(trial.trust.validity),
        "validity_reasons": list(trial.trust.reasons),
        "stop": trial.stop,
        "coverage": trial.coverage,
        "served": {str(how): count for how, count in sorted(trial.served.items())},
        "live_tool_calls": trial.live_tool_calls,
        "cost_usd": trial.cost_usd,
        "misses": [_miss(one) for one in trial.misses],
        "divergence": None
        if found is None
        else {
            "step": found.step,
            "tool_name": found.tool_name,
            "what": found.what,
            "run_id": found.run_id,
            "cause": str(found.cause),
            "changed": list(found.changed),
        },
        "grades": [{"passed": passed, "what": what} for passed, what in trial.grades],
    }


def _miss(miss: Miss) -> dict[str, Any]:
    return {
        "step": miss.step,
        "tool_name": miss.tool_name,
        "args": miss.args,
        "why": miss.why,
        "key": miss.key,
        "policy": str(miss.policy),
        "accept": miss.accept,
        "nearest": [
            {"run_id": one.run_id, "step": one.step, "differences": list(one.differences)}
            for one in miss.nearest
        ],
    }


def _verdict_of(report: ReplayReport) -> str:
    if report.failed:
        return "failed"
    return "inconclusive" if report.inconclusive or report.skipped else "passed"


def _row(trial: TrialReport) -> str:
    cells = (trial.task_id, str(trial.number), _WORDS[trial.passed], trial.judgement.detail)
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _case(suite: ElementTree.Element, trial: TrialReport) -> None:
    case = _named_case(suite, trial.task_id, trial.number)
    if trial.passed is True:
        return
    kind = "failure" if trial.passed is False else "error"
    message = {"type": _WORDS[trial.passed].upper(), "message": trial.judgement.detail}
    end = ElementTree.SubElement(
        case, kind, {name: escape_terminal(text) for name, text in message.items()}
    )
    lines = [f"run {trial.run_id}; levels: {trial.levels}; replay {trial.trust}"]
    if trial.divergence is not None:
        lines.append(f"first divergence: {trial.divergence}")
    lines += [f"miss at step {one.step}: {one.tool_name}: {one.why}" for one in trial.misses]
    end.text = "\n".join(map(escape_terminal, lines))


def _named_case(suite: ElementTree.Element, task_id: str, number: int) -> ElementTree.Element:
    name = escape_terminal(f"{task_id} trial {number}")
    attributes = {"classname": "flightlog.replay", "name": name, "time": "0"}
    return ElementTree.SubElement(suite, "testcase", attributes)
