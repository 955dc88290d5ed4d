"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flightlog.trace.canonical import canonical_json, digest_of


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
    """

    task_id: str
    prompt: str
    suite: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    content_digest: str | None = None

    @cached_property
    def digest(self) -> str:
        """Digest of the task's content; runs of equal digest can be paired.

        Raises:
            ValueError: `inputs` hold something that JSON lacks.
        """
        if self.content_digest:
            return self.content_digest
        content = {
            "inputs": self.inputs,
            "prompt": self.prompt,
            "suite": self.suite,
            "task_id": self.task_id,
        }
        return digest_of("task", canonical_json(content))
