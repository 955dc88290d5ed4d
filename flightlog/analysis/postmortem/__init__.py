"""Postmortems: what went wrong, since when, who made the load, what it cost, what stops it.

Deterministic and without a model. A window of traffic is searched for pieces of time in which
something was different from the rest (`scan`), over many signals (`signals`); what explains
what is a matter of kinds, subjects and time (`chain`); each cause comes with its evidence and
with the limits that would have stopped it, tried on the recorded events (`remedies`).
"""

from flightlog.analysis.postmortem.found import (
    Evidence,
    Finding,
    Load,
    Money,
    Number,
    Postmortem,
    Remedy,
    Share,
    Spent,
    Timeline,
)
from flightlog.analysis.postmortem.kinds import Kind
from flightlog.analysis.postmortem.search import postmortem
from flightlog.analysis.window import Scope

__all__ = [
    "Evidence",
    "Finding",
    "Kind",
    "Load",
    "Money",
    "Number",
    "Postmortem",
    "Remedy",
    "Scope",
    "Share",
    "Spent",
    "Timeline",
    "postmortem",
]
