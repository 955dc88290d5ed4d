"""How one run looks on a terminal. Everything from the trace is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from flightlog.analysis.terminal import cell_text, escape_terminal, number_text
from flightlog.trace.vocab import Outcome, stop_text

if TYPE_CHECKING:
    from flightlog.analysis.timeline import Entry, Timeline

BAR_CELLS = 20
_LINE_CHARS = 400
_VALUE_CHARS = 40
_STATUS_STYLE = {"completed": "bold green", "stopped": "bold yellow", "failed": "bold red"}


def rendered(shown: Timeline, *, full: bool) -> RenderableType:
    """The run as rich renderables: header, budgets, steps, evaluations, answer."""
    lines: list[RenderableType] = [*_header(shown.run), Text()]
    if shown.budgets:
        lines += [*_budgets(shown), Text()]
    lines += _steps(shown, full=full)
    answer = shown.run["answer"]
    if answer:
        lines += [Text(), Text("answer", style="bold"), _content(answer, full=full, indent=2)]
    return Group(*lines)


def _header(run: Mapping[str, Any]) -> Iterator[Text]:
    yield Text.assemble(("run ", "bold"), (escape_terminal(run["run_id"]), "bold"))
    who = [
        ("agent", _joined(run["agent"], run["agent_version"])),
        ("model", run["model"]),
        ("variant", run["variant"]),
        ("suite", run["suite"]),
        ("task", run["task_id"]),
        ("trial", run["trial"]),
        ("golden", run["golden"]),
        ("source", _joined(run["source"], run["source_run_id"])),
        ("store", run["store"]),
    ]
    yield _fields(who)
    labels = dict(run["labels"] or {})
    if labels:
        yield Text("labels ", style="dim").append_text(_fields(sorted(labels.items())))
    yield _stop_line(run)
    calls = _counted(run["tool_calls"], "tool call")
    notes = [
        f"{run[column]} {word}"
        for column, word in (
            ("tool_failures", "failed"),
            ("refused_calls", "refused"),
            ("retries", "retried"),
            ("replay_misses", "missed"),
        )
        if run[column]
    ]
    if notes:
        calls += f" ({', '.join(notes)})"
    spent = [
        _counted(run["steps"], "step"),
        _counted(run["model_calls"], "model call"),
        calls,
        _tokens(run),
        _cost(run["cost_usd"]),
        _duration(run["duration_ms"]),
    ]
    yield Text("   ".join(spent))


def _stop_line(run: Mapping[str, Any]) -> Text:
    status = run["status"]
    reason = run["stop_reason"]
    words = stop_text(reason, run["stop_tool"]) if reason else run["source_stop_reason"]
    line = Text.assemble((status, _STATUS_STYLE.get(status, "bold")))
    if words and words != "ok":
        line.append(f": {escape_terminal(words)}", style="bold")
    if run["source_stop_reason"] and reason:
        line.append(f" (in the source: {escape_terminal(run['source_stop_reason'])})")
    if run["stop_detail"]:
        line.append(f". {escape_terminal(run['stop_detail'])}")
    if run["success"] is not None:
        line.append("   success: ")
        word, style = ("yes", "bold green") if run["success"] else ("no", "bold red")
        line.append(word, style=style)
    return line


def _budgets(shown: Timeline) -> Iterator[Text]:
    names = [_budget_name(row) for row in shown.budgets]
    widest = max(map(len, names))
    for row, name in zip(shown.budgets, names, strict=True):
        share = row["share"]
        cells = 0 if share is None else min(BAR_CELLS, round(share * BAR_CELLS))
        style = "red" if row["is_hit"] else ("yellow" if (share or 0) >= 0.8 else "green")
        line = Text(f"{name:<{widest}}  ")
        line.append("█" * cells, style=style)
        line.append("░" * (BAR_CELLS - cells), style="dim")
        line.append(f"  {cell_text(row['used'])} of {cell_text(row['allowed'])} {row['unit']}")
        line.append(f"  {share:.0%}" if share is not None else "  use unknown")
        if row["is_hit"]:
            line.append("  stopped the run", style="bold red")
        yield line


def _budget_name(row: Mapping[str, Any]) -> str:
    scope = "" if row["scope"] == "run" else f" of {row['scope'].replace(':', ' ', 1)}"
    return escape_terminal(f"{row['budget']}{scope}", max_chars=_VALUE_CHARS)


def _steps(shown: Timeline, *, full: bool) -> Iterator[RenderableType]:
    step: int | None = None
    last_user_text: str | None = None
    for entry in shown.entries:
        if entry.kind in ("run_started", "run_stopped"):
            continue
        at_step = entry.fields.get("step")
        if at_step is not None and at_step != step:
            step = at_step
            yield _step_line(entry.fields)
        if entry.kind == "model_call":
            yield from _model_call(entry, last_user_text, full=full)
            if entry.fields.get("actor") == "user" and entry.answer:
                last_user_text = entry.answer["text"]
        elif entry.kind == "tool_call":
            yield from _tool_call(entry.fields, full=full)
        elif entry.kind == "evaluation":
            yield _evaluation(entry.fields)
        elif entry.kind == "state_changed":
            yield _state_changed(entry.fields)
        elif entry.is_in_doubt:
            yield _in_doubt(entry.fields)


def _step_line(fields: Mapping[str, Any]) -> Text:
    line = Text(f"step {fields['step']}", style="bold cyan")
    if "elapsed_ms" in fields:
        # An event is stamped when its call has ended.
        since = max(0.0, fields["elapsed_ms"] - fields.get("latency_ms", 0.0))
        line.append(f"  +{_duration(since)}", style="not bold dim")
    return line


def _model_call(
    entry: Entry, last_user_text: str | None, *, full: bool
) -> Iterator[RenderableType]:
    fields, answer = entry.fields, entry.answer
    actor = fields.get("actor", "agent")
    for message in entry.sent:
        is_shown_elsewhere = message["role"] == "tool" or message["text"] == last_user_text
        if actor == "agent" and not is_shown_elsewhere:
            yield _message(message, full=full)
    line = _call_line(fields, actor)
    if line is not None:
        yield _cut(line, full=full)
    if answer and answer["text"]:
        yield _message({**answer, "role": "user" if actor == "user" else "assistant"}, full=full)


def _call_line(fields: Mapping[str, Any], actor: str) -> Text | None:
    """What is known of a model call; None for a turn of a user of which nothing is."""
    facts = [
        _tokens(fields) if {"input_tokens", "output_tokens"} & fields.keys() else "",
        _cost(fields["cost_usd"]) if "cost_usd" in fields else "",
        _duration(fields["latency_ms"]) if "latency_ms" in fields else "",
        fields.get("finish_reason", ""),
        f"attempt {fields['attempt']}" if fields.get("attempt", 1) > 1 else "",
    ]
    model = fields.get("response_model") or fields.get("request_model")
    known = [escape_terminal(model)] if model else []
    known += [fact for fact in facts if fact]
    if not known and actor != "agent" and fields.get("outcome", "ok") == "ok":
        return None
    line = Text.assemble("  ", ("model " if actor == "agent" else f"{actor} model ", "bold"))
    line.append("   ".join(known))
    if fields.get("is_truncated"):
        line.append("   prompt truncated", style="bold red")
    if fields.get("has_policy") is False:
        line.append("   policy not sent", style="bold red")
    if fields.get("outcome", "ok") != "ok":
        line.append(f"   {fields['outcome']}", style=_outcome_style(fields["outcome"]))
        line.append(f": {escape_terminal(fields.get('error', ''), max_chars=_LINE_CHARS)}")
    return line


def _tool_call(fields: Mapping[str, Any], *, full: bool) -> Iterator[RenderableType]:
    outcome = fields["outcome"]
    actor = fields.get("actor", "agent")
    line = Text.assemble(
        "    ",
        (f"{actor} " if actor != "agent" else "", "bold"),
        (escape_terminal(fields["tool_name"]), "bold"),
        "   " if full else f"({_short_args(fields)})   ",
        (outcome, _outcome_style(outcome)),
        f"   {_duration(fields['latency_ms'])}" if "latency_ms" in fields else "",
        f"   {fields['served_how']}" if fields.get("served_how", "live") != "live" else "",
        f"   attempt {fields['attempt']}" if fields.get("attempt", 1) > 1 else "",
    )
    observed = fields.get("error") if outcome != "ok" else fields.get("result")
    if full:
        yield line
        for label, value in (("args", fields.get("args")), ("error", fields.get("error"))):
            if value:
                yield _content(f"{label} {value}", full=True, indent=6)
        yield _content(f"result {_result_text(fields)}", full=True, indent=6)
        return
    shown = observed if observed is not None else _result_text(fields)
    line.append(f"   {escape_terminal(shown, max_chars=_LINE_CHARS)}", style="dim")
    yield _cut(line, full=False)


def _result_text(fields: Mapping[str, Any]) -> str:
    if "result" in fields:
        return str(fields["result"])
    if "result_blob" in fields:
        return f"(in blob {fields['result_blob']}, {fields.get('result_bytes', '?')} bytes)"
    return "(none recorded)"


def _evaluation(fields: Mapping[str, Any]) -> Text:
    passed = fields.get("passed")
    word, style = ("inconclusive", "yellow")
    if passed is not None:
        word, style = ("passed", "green") if passed else ("failed", "red")
    line = Text.assemble(("evaluation ", "bold"), f"{escape_terminal(fields['name'])}: ")
    line.append(word, style=f"bold {style}")
    if "score" in fields:
        line.append(f"   score {number_text(fields['score'])}")
    if "detail" in fields:
        line.append(f"   {escape_terminal(fields['detail'])}")
    return line


def _state_changed(fields: Mapping[str, Any]) -> Text:
    subject = _joined(fields["subject"], fields.get("tool_name")) or ""
    change = f"{fields.get('state_from', '-')} -> {fields.get('state_to', '-')}"
    text = f"    {subject}   {change}   {fields.get('detail', '')}".rstrip()
    return Text(escape_terminal(text, max_chars=_LINE_CHARS), style="yellow")


def _in_doubt(fields: Mapping[str, Any]) -> Text:
    text = f"    {fields['tool_name']}({_short_args(fields)})   in doubt: intent without an outcome"
    return Text(escape_terminal(text, max_chars=_LINE_CHARS), style="bold red")


def _message(message: Mapping[str, Any], *, full: bool) -> RenderableType:
    role = message["role"] or "message"
    text = message["text"] if message["text"] is not None else "(no text)"
    style = "dim" if role == "system" else ""
    return _content(f"{role}: {text}", full=full, indent=2, style=style)


def _content(text: str, *, full: bool, indent: int, style: str = "") -> RenderableType:
    if full:
        whole = Text(escape_terminal(text, keep_newlines=True), style=style)
        return Padding(whole, (0, 0, 0, indent))
    line = " ".join(text[: _LINE_CHARS * 2].split())
    return _cut(Text(" " * indent + escape_terminal(line), style=style), full=False)


def _cut(line: Text, *, full: bool) -> Text:
    if not full:
        line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _short_args(fields: Mapping[str, Any]) -> str:
    raw = fields.get("args", "")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return escape_terminal(raw, max_chars=_VALUE_CHARS)
    return ", ".join(
        f"{escape_terminal(key, max_chars=_VALUE_CHARS)}="
        + escape_terminal(json.dumps(item, ensure_ascii=False), max_chars=_VALUE_CHARS)
        for key, item in value.items()
    )


def _fields(pairs: list[tuple[str, Any]]) -> Text:
    line = Text()
    for name, value in pairs:
        if value is not None:
            line.append("   " if line else "")
            line.append(f"{escape_terminal(name)} ", style="dim")
            line.append(cell_text(value))
    return line


def _joined(*parts: str | None) -> str | None:
    return " ".join(part for part in parts if part) or None


def _counted(number: int | None, noun: str) -> str:
    return f"{cell_text(number)} {noun}{'' if number == 1 else 's'}"


def _tokens(fields: Mapping[str, Any]) -> str:
    used, made = fields.get("input_tokens"), fields.get("output_tokens")
    if used is None and made is None:
        return "tokens unknown"
    return f"{cell_text(used)} in, {cell_text(made)} out tokens"


def _cost(cost_usd: float | None) -> str:
    return "cost unknown" if cost_usd is None else f"{number_text(cost_usd)} USD"


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "time unknown"
    if milliseconds < 1000:
        return f"{number_text(round(milliseconds, 1))} ms"
    return f"{number_text(round(milliseconds / 1000, 2))} s"


def _outcome_style(outcome: str) -> str:
    if outcome == "ok":
        return "green"
    known = set(Outcome)
    return "yellow" if outcome in known and Outcome(outcome).is_refusal else "bold red"
