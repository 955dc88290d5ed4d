"""A real process that runs an agent, for tests of commands that reach it."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import tool
from flightlog.testing import ScriptedModel, asking


def run_agent(pipe: Connection, store: Path) -> None:
    """Runs an agent of ten steps that waits for a word at each; tells how the run stopped."""

    @tool(effect="read")
    def look(number: int) -> str:
        pipe.send(number)
        pipe.recv()
        return "nothing new"

    script = [asking(("look", {"number": number})) for number in range(10)]
    model = ScriptedModel("m", [*script, ModelResponse("done")])
    agent = Agent("watcher", model, [look], policy=Policy(["look"]))
    with Recorder(store) as recorder:
        result = run(agent, Task("watch", "go"), sink=recorder)
    pipe.send((result.stop, result.stop_detail))
