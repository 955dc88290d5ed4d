"""Figures of what a store holds, as PNG or SVG."""

from flightlog.analysis.plots.budgets import plot_budgets

__all__ = ["plot_budgets"]
