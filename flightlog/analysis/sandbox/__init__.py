"""SQL that was written by somebody else: an analyst's query, a user's metric.

`user_sql` runs it in a process of its own that can only read the stores, within limits of
time and memory; `user_sql_on` runs it here, on snapshots that are already taken, for text
that its own user configured.
"""

from flightlog.analysis.export import QueryResult, write_result
from flightlog.analysis.sandbox.bounded import Bounds, user_sql
from flightlog.analysis.sandbox.inside import user_sql_on

__all__ = ["Bounds", "QueryResult", "user_sql", "user_sql_on", "write_result"]
