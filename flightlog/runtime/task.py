"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flightlog.errors import AgentError
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message


@dataclass(frozen=True)
class Task:
    """One task that an agent can be run on.

    Attributes:
        task_id: name of the task, unique within its suite.
        prompt: first user message; empty where a simulated user speaks first.
        suite: suite that the task belongs to.
        inputs: data for agent factories and judges; the model sees only the prompt.
        content_digest: digest of the content where a golden or an importer has
            pinned it; None computes it.

    Raises:
        AgentError: an id, prompt, suite or digest that is not text.
    """

    task_id: str
    prompt: str
    suite: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    content_digest: str | None = None

    def __post_init__(self) -> None:
        for name in ("task_id", "prompt", "suite", "content_digest"):
            value = getattr(self, name)
            is_absent = value is None and name in ("suite", "content_digest")
            if not is_absent and not isinstance(value, str):
                raise AgentError(
                    f"{name}={value!r} of a task is not text", hint="Put it in quotes."
                )

    @cached_property
    def message(self) -> Message:
        """The content as the trace keeps it, so that a golden can be pinned from a run.

        Raises:
            ValueError: `inputs` hold something that JSON lacks.
        """
        content = {
            "inputs": self.inputs,
            "prompt": self.prompt,
            "suite": self.suite,
            "task_id": self.task_id,
        }
        return Message("task", canonical_json(content))

    @cached_property
    def digest(self) -> str:
        """Digest of the task's content; runs of equal digest can be paired.

        Raises:
            ValueError: `inputs` hold something that JSON lacks.
        """
        return self.content_digest or self.message.digest
