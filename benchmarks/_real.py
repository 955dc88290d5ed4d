"""Real agent runs that others recorded, as samples: random halves, and pairs of models."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.pairing import one_side
from flightlog.analysis.gate.selection import Side
from flightlog.analysis.stats.sample import Sample
from flightlog.integrations.importers.importing import import_files

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
FILES = (
    "agentdojo_benign_all_models.jsonl.gz",
    "taubench_gpt4o_airline.jsonl.gz",
    "tau2_airline_models.jsonl.gz",
    "tau2_gemini_agent_variants.jsonl.gz",
    "tau2_other.jsonl.gz",
    "tau2_sierra_base_vs_finetuned.jsonl.gz",
)
_GPT4O = "tau2/pr_azure-gpt-4o-2024-11-20_airline"
_DOJO = "gpt-4o-2024-05-13"


@dataclass(frozen=True)
class Pair:
    """One real comparison.

    Attributes:
        name: as in truth.json.
        baseline: side of the store.
        candidate: the other side.
    """

    name: str
    baseline: str
    candidate: str


def _dojo(name: str, baseline: str, candidate: str) -> Pair:
    return Pair(
        f"agentdojo {name}",
        f"source=agentdojo,agent={baseline}",
        f"source=agentdojo,agent={candidate}",
    )


PAIRS = (
    *(
        Pair(
            f"sierra gpt-4.1 -> fine-tuned gpt-4.1, {domain}",
            f"source=tau2/sierra_gpt-4.1_{domain}",
            f"source=tau2/sierra_ft-gpt-4.1_{domain}",
        )
        for domain in ("airline", "retail", "telecom", "telecom_no-user")
    ),
    *(
        Pair(f"gpt-4o-2024-11-20 -> {name}", f"source={_GPT4O}", f"source=tau2/{name}")
        for name in (
            "sub_claude-sonnet-4-5_airline",
            "sub_gpt-5.4_airline",
            "sub_claude-opus-4-6-distyl_airline",
            "sub_gpt-oss-120b-langchain_airline",
        )
    ),
    _dojo("gpt-4o: no defence -> tool_filter", _DOJO, f"{_DOJO}-tool_filter"),
    _dojo("gpt-4o: no defence -> repeat_user_prompt", _DOJO, f"{_DOJO}-repeat_user_prompt"),
    _dojo(
        "gpt-4o: no defence -> transformers_pi_detector",
        _DOJO,
        f"{_DOJO}-transformers_pi_detector",
    ),
    _dojo("gpt-4o -> gpt-4o-mini", _DOJO, "gpt-4o-mini-2024-07-18"),
    _dojo(
        "claude-3-5-sonnet 20240620 -> 20241022",
        "claude-3-5-sonnet-20240620",
        "claude-3-5-sonnet-20241022",
    ),
    _dojo(
        "claude-3-5-sonnet-20241022 -> claude-3-7-sonnet",
        "claude-3-5-sonnet-20241022",
        "claude-3-7-sonnet-20250219",
    ),
    _dojo("gemini-1.5-flash 001 -> 002", "gemini-1.5-flash-001", "gemini-1.5-flash-002"),
)
TAU = "source=tau-bench/gpt-4o-airline"
"""The one source with 4 trials of each of 50 tasks."""


def import_real(folder: Path) -> Path:
    """A store with the runs, AgentDojo's injection tasks left out as in its tables."""
    store = folder / "store"
    for name in FILES:
        lines = gzip.decompress((DATA / "normalised" / name).read_bytes()).decode().splitlines()
        kept = [line for line in lines if _is_user_task(json.loads(line))]
        path = folder / name.removesuffix(".gz")
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")
        import_files("run-lines", [path], store)
    return store


def _is_user_task(run: dict[str, object]) -> bool:
    return run["source"] != "agentdojo" or "/user_task_" in str(run["task_id"])


def halves(traces: Traces, side: str = TAU) -> Sample:
    """All runs of one side; `split` gives random halves of it."""
    return one_side(traces, Side.parse(side))


def split(sample: Sample, seed: int) -> Sample:
    """The runs of each task, a random half of them called candidate, all in one session."""
    rng = np.random.default_rng(seed)
    arm = np.zeros(sample.task.size, np.bool_)
    for task in range(sample.task_count):
        rows = rng.permutation(np.flatnonzero(sample.task == task))
        arm[rows[: len(rows) // 2]] = True
    session = np.zeros(sample.task.size, np.int64)
    return replace(sample, is_candidate=arm, session=session, seed=seed)


def with_more_calls(sample: Sample, share: float, seed: int) -> Sample:
    """The candidate makes each call once more with this chance."""
    rng = np.random.default_rng(seed)
    calls = sample.values["tool_calls_per_run"]
    more = rng.binomial(calls.astype(np.int64), share) * sample.is_candidate
    return replace(sample, values={**sample.values, "tool_calls_per_run": calls + more})
