"""The command line: a lazy click group, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flightlog._version import __version__
from flightlog.errors import ExitCode, FlightlogError, nearest
from flightlog.trace.versions import FORMAT_VERSION

CANCELLED = 130
CLOSED_PIPE = 141
TERMINATED = 143
"""As a shell reports SIGINT, SIGPIPE and SIGTERM; neither 0 nor 1, which would be a verdict."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

COMMANDS = {
    "demo": ("flightlog.commands.demo:demo", "Record, pin, replay and gate a small agent."),
    "runs": ("flightlog.commands.runs:runs", "List the runs of a store."),
    "show": ("flightlog.commands.show:show", "Show one run as a timeline."),
    "sql": ("flightlog.commands.sql:sql", "Ask the store in SQL, read-only."),
    "ask": ("flightlog.commands.ask:ask", "Ask one of the ready questions."),
    "check": ("flightlog.commands.check:check", "Compare two sides; exit 1 on drift."),
    "baseline": ("flightlog.commands.baseline:baseline", "Pin runs to compare with later."),
    "gate": ("flightlog.commands.gate:gate", "Replay two sides in turn until it is settled."),
    "plan": ("flightlog.commands.plan:plan", "What a suite can detect, and at what cost."),
    "postmortem": (
        "flightlog.commands.postmortem:postmortem",
        "What went wrong, since when, and what stops it.",
    ),
    "explain": ("flightlog.commands.explain:explain", "Say a verdict in plain sentences."),
    "init": ("flightlog.commands.init:init", "Write settings, goldens/ and a CI job."),
    "golden": ("flightlog.commands.golden:golden", "Pin and list golden tasks."),
    "replay": ("flightlog.commands.replay:replay", "Replay golden tasks on an agent."),
    "fork": ("flightlog.commands.forks:fork", "Rerun a run from a step on, otherwise."),
    "minimise": ("flightlog.commands.forks:minimise", "Shrink overlays to what matters."),
    "proxy": ("flightlog.commands.proxy:proxy", "Record a model's API, or answer for it."),
    "mcp": ("flightlog.commands.mcp:mcp", "Stand between an MCP client and a server."),
    "collect": ("flightlog.commands.collect:collect", "Receive OpenTelemetry spans."),
    "import": ("flightlog.commands.import_:import_", "Import foreign traces."),
    "report": ("flightlog.commands.report:report", "Write HTML pages about runs."),
    "whatif": ("flightlog.commands.whatif:whatif", "Rerun history under other limits."),
    "budgets": ("flightlog.commands.whatif:budgets", "Propose limits from history."),
    "plot": ("flightlog.commands.plot:plot", "Plot what a store holds."),
    "seal": ("flightlog.commands.seal:seal", "Turn finished journals into Parquet."),
    "compact": ("flightlog.commands.compact:compact", "Merge small segments."),
    "retain": ("flightlog.commands.retain:retain", "Remove old runs."),
    "erase": ("flightlog.commands.erase:erase", "Erase one person's payloads."),
    "verify": ("flightlog.commands.verify:verify", "Check every byte of a store."),
    "doctor": ("flightlog.commands.doctor:doctor", "Writes in doubt, and what is wrong."),
    "export": ("flightlog.commands.export:export", "Write the traces out as files."),
    "keygen": ("flightlog.commands.keygen:keygen", "Make a key for encrypted stores."),
    "rekey": ("flightlog.commands.rekey:rekey", "Encrypt a store, or give it another key."),
    "decrypt": ("flightlog.commands.decrypt:decrypt", "Show an encrypted file of a store."),
    "kill": ("flightlog.commands.kill:kill", "Stop agents that run, or what they may do."),
    "approvals": (
        "flightlog.commands.approvals:approvals",
        "Decide the writes that agents ask for.",
    ),
    "redact": ("flightlog.commands.redact:redact", "Try what is taken out of a text."),
    "config": ("flightlog.commands.config:config", "Check or show the settings."),
}


class _ClosedPipeError(Exception):
    """The reader of the output went away."""


class LazyGroup(click.Group):
    """A group that imports a command only when it runs or shows its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = nearest(args[0], COMMANDS)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ClosedPipeError from error  # click would leave with 1: a verdict
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"flightlog %(version)s, store format {FORMAT_VERSION}")
def cli() -> None:
    """Flight recorder and regression gate for tool-calling AI agents.

    Exit codes: 0 clean, 1 drift, 2 cannot decide or cannot compare, 3 stale golden,
    64 usage or bad input, 70 a bug of flightlog.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and leaves with its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started it, as by `>&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show is written as an escape, not as a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; errors go to stderr, escaped."""
    try:
        result: Any = cli.main(
            args=None if argv is None else list(argv),
            prog_name="flightlog",
            standalone_mode=False,
        )
        return int(result) if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        return ExitCode.USAGE
    except click.ClickException as error:
        _complain(error.format_message(), usage=error)
        return ExitCode.USAGE
    except FlightlogError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("cancelled")
        return CANCELLED
    except _ClosedPipeError:
        # Nothing is left to say, not even by the interpreter's last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except SystemExit as error:
        if error.code == TERMINATED:  # so a run that is ended by SIGTERM leaves the process
            _complain("terminated")
            return TERMINATED
        _complain(f"code that flightlog was given to run called sys.exit({error.code!r})")
        return ExitCode.USAGE
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            traceback.print_exc()
        place = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"{place}{error.strerror or error}\n  Check the path, its rights and the disk.")
        return ExitCode.USAGE
    except Exception:
        traceback.print_exc()
        _complain("this is a bug of flightlog, please report it with the lines above")
        return ExitCode.BUG


def _complain(text: str, *, usage: click.ClickException | None = None) -> None:
    from flightlog.analysis.terminal import escape_terminal

    context = getattr(usage, "ctx", None)
    if context is not None:
        _say(context.get_usage())
    _say(f"error: {escape_terminal(text, keep_newlines=True)}")


def _say(text: str) -> None:
    # Where nobody reads the errors, the exit code still holds; Python's own would be 1, a verdict.
    with contextlib.suppress(BrokenPipeError):
        click.echo(text, err=True)


if __name__ == "__main__":
    main()
