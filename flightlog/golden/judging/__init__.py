"""The judge of replayed runs: what its contract asks, and what a run did."""
