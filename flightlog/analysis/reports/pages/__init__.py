"""HTML pages about runs: one run, two runs side by side, and all of a store."""

from flightlog.analysis.reports.pages.diff import diff_page
from flightlog.analysis.reports.pages.overview import overview_page
from flightlog.analysis.reports.pages.run import run_page

__all__ = ["diff_page", "overview_page", "run_page"]
