"""For an agent with a loop of its own: its tools behind the gateway, its model calls recorded.

Where the loop is a framework's, and no hook of it does, this does too: give the framework the
functions of `OwnLoop.tools`. An agent that is also replayed is an `Agent` with `loop=`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.model import ForeignModel
from flightlog.runtime.own_loop import OwnLoop, RunOverError
from flightlog.runtime.own_turns import ended_by, is_over
from flightlog.runtime.policy import Policy
from flightlog.runtime.result import RunContext
from flightlog.runtime.session import Session
from flightlog.runtime.setting_up import Around
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool, tool


@contextmanager
def own_loop(
    name: str,
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    store: str | Path | Recorder | None = None,
    policy: Policy | None = None,
    task: Task | str = "",
    model: ForeignModel | None = None,
    context: RunContext | None = None,
    credentials: Credentials | None = None,
) -> Iterator[OwnLoop]:
    """Runs the body as one bounded, recorded run of an agent.

    Once a bound stops the run, the next call of the loop raises `RunOverError`, which ends the
    block and goes no further; `result` says why. Another exception ends the run as what it means
    (a framework's own limit, an error of the provider, else crashed), and goes on.

    Args:
        name: of the agent.
        tools: what it may call; a plain function becomes a tool.
        store: folder of the store, or a recorder; None records nothing.
        policy: None allows exactly these tools under the default budget, and denies writes.
        task: what it is asked to do; a text is its prompt.
        model: the model that its loop asks, for prices and traces.
        context: what the run belongs to.
        credentials: secrets of tools.

    Raises:
        AgentError, ToolDefinitionError: the agent cannot be run so.
        StoreError: the store cannot be written to.
    """
    declared = tuple(one if isinstance(one, Tool) else tool(one) for one in tools)
    agent = Agent(name, model or ForeignModel(), declared, policy=policy, credentials=credentials)
    asked = task if isinstance(task, Task) else Task("", task)
    owned = None if store is None or isinstance(store, Recorder) else Recorder(store)
    sink = store if isinstance(store, Recorder) else owned
    try:
        session = Session(agent, asked, Around(sink=sink, context=context))
        run = OwnLoop(session, agent, asked)
        try:
            yield run
        except RunOverError:
            pass
        except BaseException as error:
            run.result = ended_by(error, run)
            if is_over(error):
                return
            raise
        run.result = session.end(answer=run.answer)
    finally:
        if owned is not None:
            owned.close()
