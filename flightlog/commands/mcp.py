"""`flightlog mcp`: record, guard, replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flightlog.commands.options import config_option, key_values, redaction_of, store_option
from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.integrations.mcp.session_facts import Facts
    from flightlog.integrations.mcp_tools import McpRules
    from flightlog.runtime.budget import Budget
    from flightlog.runtime.policy import Policy
    from flightlog.runtime.session import Session
    from flightlog.runtime.tools import Tool

F = TypeVar("F", bound=Callable[..., Any])
_COLUMNS = ("agent", "task", "suite", "variant", "session", "tenant")


def _run_options(command: F) -> F:
    """Adds what a run belongs to, and what its tools do."""
    options = [
        click.option("--agent", help="Name of the agent. [default: the client's]"),
        click.option("--task", help="Task that the run is of."),
        click.option("--suite", help="Suite of the task."),
        click.option("--variant", help="Side of a comparison."),
        click.option("--session", help="Runs made together share it."),
        click.option("--tenant", help="On whose behalf."),
        click.option(
            "--effect",
            "effects",
            multiple=True,
            metavar="TOOL=EFFECT",
            callback=key_values,
            help="pure, read or write; a name or glob. Else unknown, which counts as a write.",
        ),
        click.option(
            "--trust-hints", is_flag=True, help="Believe a server that calls a tool read-only."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def mcp() -> None:
    """Stand between an MCP client and its server.

    In the client's settings, put the command before the server's own:
    `flightlog mcp record -- npx -y @modelcontextprotocol/server-filesystem /data`.
    """


@mcp.command(context_settings={"ignore_unknown_options": True})
@store_option
@_run_options
@config_option
@click.argument("command", nargs=-1, required=True)
def record(
    command: tuple[str, ...],
    store: Path,
    effects: Mapping[str, str],
    trust_hints: bool,
    config_file: Path | None,
    **columns: str | None,
) -> None:
    """Record every tool call of a server.

    The server's command stands behind `--`: mcp record -- SERVER ARGUMENTS.

    All lines pass as they are. A call is recorded before its answer reaches the client.
    """
    from flightlog.integrations.mcp.connections import record_connection
    from flightlog.recorder.recorder import Recorder

    with Recorder(store, redaction=redaction_of(config_file)) as recorder:
        seen, code = record_connection(
            command, recorder, _columns(columns), rules=_rules(effects, trust_hints)
        )
    _tell(f"{seen.calls:,} tool calls recorded in {store}")
    if seen.unread:
        _tell(f"{seen.unread:,} lines were no JSON-RPC and only passed on")
    if code:
        click.get_current_context().exit(code if 0 < code < 256 else 1)


@mcp.command(context_settings={"ignore_unknown_options": True})
@store_option
@_run_options
@click.option("--allow", multiple=True, metavar="TOOL", help="Tool or glob that may be called.")
@click.option(
    "--max-tool-calls", type=click.IntRange(1), help="Most calls; afterwards all are refused."
)
@click.option("--max-seconds", type=click.FloatRange(0, min_open=True), help="Longest session.")
@config_option
@click.argument("command", nargs=-1, required=True)
def guard(
    command: tuple[str, ...],
    store: Path,
    effects: Mapping[str, str],
    trust_hints: bool,
    allow: tuple[str, ...],
    max_tool_calls: int | None,
    max_seconds: float | None,
    config_file: Path | None,
    **columns: str | None,
) -> None:
    """Put the gateway in front of a server.

    The server's command stands behind `--`: mcp guard --allow TOOL -- SERVER ARGUMENTS.

    Nothing is allowed but what --allow or the settings name; writes need approval, budgets,
    kill switch and breakers hold, arguments and results are checked against the schemas.
    """
    from flightlog.integrations.mcp.connections import guard_connection
    from flightlog.recorder.recorder import Recorder

    with Recorder(store, redaction=redaction_of(config_file)) as recorder:
        limits = {"max_tool_calls": max_tool_calls, "max_seconds": max_seconds}
        policy = _policy(config_file, recorder, allow, limits)
        named = _columns(columns)

        def begin(tools: list[Tool], facts: Facts) -> Session:
            return _session(tools, facts, policy, named, recorder)

        guarding, code = guard_connection(
            command, begin, policy, rules=_rules(effects, trust_hints)
        )
    _tell(f"{guarding.calls:,} tool calls, {guarding.refused:,} of them refused; in {store}")
    from flightlog.trace.terminal_text import escape_terminal

    for name, why in guarding.problems.items():
        _tell(f"tool {escape_terminal(name)} cannot be used: {escape_terminal(why)}")
    if code:
        click.get_current_context().exit(code if 0 < code < 256 else 1)


def _session(
    tools: list[Tool],
    facts: Facts,
    policy: Policy,
    columns: dict[str, Any],
    recorder: Any,
) -> Session:
    from flightlog.runtime.agent import Agent
    from flightlog.runtime.model import ForeignModel
    from flightlog.runtime.result import RunContext
    from flightlog.runtime.session import Session
    from flightlog.runtime.setting_up import Around
    from flightlog.runtime.task import Task

    given = dict(columns)
    name = given.pop("agent", None) or facts.client or "mcp client"
    task = Task(given.pop("task_id", None) or "", "", suite=given.pop("suite", None))
    context = RunContext(labels=facts.labels, **given)
    agent = Agent(name, ForeignModel(), tools, policy=policy)
    return Session(agent, task, Around(sink=recorder, context=context))


def _policy(
    config_file: Path | None,
    recorder: Any,
    allow: tuple[str, ...],
    limits: Mapping[str, Any],
) -> Policy:
    """The settings' policy with what the options add.

    A connection lives long: only budgets that somebody set hold, and a refused call ends it only
    where `stop_on` says so.
    """
    from dataclasses import replace

    from flightlog.config import DEFAULT_CONFIG_NAME, load_config
    from flightlog.runtime.from_config import policy_from
    from flightlog.runtime.policy import Policy
    from flightlog.trace.vocab import Outcome

    default = Path(DEFAULT_CONFIG_NAME)
    if config_file is None and default.is_file():
        config_file = default
    given: dict[str, Any] = {name: one for name, one in limits.items() if one is not None}
    stop_on = frozenset({Outcome.BUDGET})
    if config_file is None:
        if not allow:
            raise UsageError(
                "no tool is allowed", hint="Name them: --allow TOOL, or tools.allow in a --config."
            )
        return Policy(allow=allow, budget=replace(_unbounded(), **given), stop_on=stop_on)
    config = load_config(config_file)
    policy = policy_from(config, store=recorder.control)
    set_here: dict[str, Any] = {
        name: limit
        for name, limit in policy.budget.limits().items()
        if config.is_set(f"budgets.{name}")
    }
    budget: Budget = replace(_unbounded(), **{**set_here, **given})
    stops = policy.stop_on if config.is_set("stop_on") else stop_on
    return replace(policy, allow=(*policy.allow, *allow), budget=budget, stop_on=stops)


def _unbounded() -> Budget:
    from flightlog.runtime.budget import Budget

    return Budget(max_steps=None, max_seconds=None, max_tool_calls=None)


def _rules(effects: Mapping[str, str], trust_hints: bool) -> McpRules:
    from flightlog.integrations.mcp_tools import McpRules
    from flightlog.trace.vocab import Effect

    for name, effect in effects.items():
        if effect not in list(Effect):
            raise UsageError(
                f"--effect {name}={effect}: no effect", hint=f"One of {', '.join(Effect)}."
            )
    return McpRules(effects=dict(effects) or None, trust_hints=trust_hints)


def _columns(given: Mapping[str, str | None]) -> dict[str, Any]:
    names = {"task": "task_id", "session": "session_id"}
    return {names.get(name, name): given[name] for name in _COLUMNS if given.get(name) is not None}


def _tell(text: str) -> None:
    """On stderr: stdout is the protocol's."""
    click.echo(f"flightlog mcp: {text}", err=True)


@mcp.command()
@click.argument("golden")
@click.option(
    "--goldens",
    type=click.Path(path_type=Path, file_okay=False),
    default="goldens",
    show_default=True,
    help="Folder of the golden tasks.",
)
@store_option
@click.option("--agent", help="Name of the agent.")
@click.option("--variant", help="Side of a comparison.")
@click.option("--session", help="Runs made together share it.")
@click.option("--trial", type=click.IntRange(0), help="Repeat number of the task, from 0.")
@click.option(
    "--on-miss",
    type=click.Choice(["stop", "error"]),
    default="stop",
    show_default=True,
    help="A call that no recording answers ends the run, or only fails.",
)
@config_option
def replay(
    golden: str,
    goldens: Path,
    store: Path,
    agent: str | None,
    variant: str | None,
    session: str | None,
    trial: int | None,
    on_miss: str,
    config_file: Path | None,
) -> None:
    """Be an MCP server that answers from a golden task.

    It lists the tools of the golden, and answers as its recordings did in the same state. Ends
    with its client; exits with 1 where a call was in no recording.
    """
    import asyncio

    from flightlog.golden.served_session import golden_session
    from flightlog.integrations.mcp.replaying import serve_stdio, server_of
    from flightlog.recorder.recorder import Recorder
    from flightlog.trace.vocab import StopReason

    with Recorder(store, redaction=redaction_of(config_file)) as recorder:
        columns = {"variant": variant, "session_id": session, "trial": trial}
        entry, executor, running = golden_session(
            goldens, golden, recorder, agent=agent or "mcp client", columns=columns, on_miss=on_miss
        )
        try:
            asyncio.run(serve_stdio(server_of(golden, entry.tools, running)))
        finally:
            running.end(StopReason.OK)
    _tell(f"{sum(executor.served.values()):,} calls answered, {len(executor.misses):,} missed")
    if executor.misses:
        click.get_current_context().exit(1)
