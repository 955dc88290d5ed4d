"""What a replay changes on the candidate: its model, its prompt, its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flightlog.control.control import Control
from flightlog.errors import AgentError
from flightlog.replay.scripted import scripted_model, scripted_user
from flightlog.runtime.from_config import agent_settings

if TYPE_CHECKING:
    from flightlog.golden.factory import Trial
    from flightlog.runtime.agent import Agent
    from flightlog.runtime.model import Model

RECORDED: Final = "recorded"
"""As a model: the recorded answers, so that nothing but the runtime can differ."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Changes to what the factory makes.

    Attributes:
        model: name of the model; the factory is to use it (`Trial.model`), and it is an error
            when it does not. `recorded` takes the recorded answers.
        client: makes the model itself, fresh for each trial; wins over `model`.
        system: system prompt that takes the place of the agent's.
        config: settings file whose policy, prices and credentials take the place of the agent's.
    """

    model: str | None = None
    client: Callable[[], Model] | None = None
    system: str | None = None
    config: Path | None = None

    def applied(self, agent: Agent, trial: Trial) -> Agent:
        """The agent with the changes.

        Raises:
            AgentError: the factory ignored the model's name, no recording holds answers, or the
                agent's own loop would ignore the change.
            ConfigError: the settings file cannot be used.
        """
        self._refuse_unheard(agent)
        changes: dict[str, Any] = {}
        if self.client is not None:
            changes["model"] = self.client()
        elif self.model is not None:
            changes |= _model_of(self.model, agent, trial)
        if self.system is not None:
            changes["system"] = self.system
        if self.config is not None:
            # Who approves stays the agent's; where settings name people, recordings do.
            approver = agent.effective_policy.approver
            control = Control.in_process()
            changes |= agent_settings(self.config, approver=approver, store=control)
        return replace(agent, **changes) if changes else agent

    def _refuse_unheard(self, agent: Agent) -> None:
        """A loop of the agent's own asks its model itself, with a prompt of its own."""
        if agent.loop is None:
            return
        where = f"agent {agent.name!r}"
        if self.client is not None or self.model == RECORDED:
            raise AgentError(
                "the agent has a loop of its own, which asks its model itself",
                where=where,
                hint="Use trial.model in the factory and give --model NAME, or leave it out.",
            )
        if self.system is not None and agent.system is None:
            raise AgentError(
                "the agent has a loop of its own and declares no system prompt to be changed",
                where=where,
                hint="Give the Agent system=, and have the loop use run.agent.system.",
            )


def _model_of(model: str, agent: Agent, trial: Trial) -> dict[str, Any]:
    if model == RECORDED:
        if not trial.recordings:
            raise AgentError("there is no recording to take the model's answers from")
        recording = trial.recordings[trial.number % len(trial.recordings)]
        return {"model": scripted_model(recording), "user": scripted_user(recording)}
    if agent.model.name != model:
        raise AgentError(
            f"the factory made an agent on {agent.model.name!r}, not on {model!r}",
            where=f"task {trial.task.task_id!r}",
            hint="Use trial.model in the factory, or name a client: openai:NAME, anthropic:NAME.",
        )
    return {}
