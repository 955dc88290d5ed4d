"""History rerun under other limits: what they would have saved, and what they would have cost.

A limit that ends a run cuts a recorded run at a call that is known, so what it saves is exact.
What refuses single calls (a breaker, deduplication) is told as a bound: the model would have
been told something else, and what it would have done then is not in the recording.
"""

from flightlog.analysis.whatif.advice import Advice, Proposal, advise
from flightlog.analysis.whatif.breaker import Breaker
from flightlog.analysis.whatif.curve import Point, curve_of
from flightlog.analysis.whatif.history import History, history_of
from flightlog.analysis.whatif.limits import Limits, Saved, rerun, succeeded
from flightlog.analysis.whatif.quota import Quota

__all__ = [
    "Advice",
    "Breaker",
    "History",
    "Limits",
    "Point",
    "Proposal",
    "Quota",
    "Saved",
    "advise",
    "curve_of",
    "history_of",
    "rerun",
    "succeeded",
]
