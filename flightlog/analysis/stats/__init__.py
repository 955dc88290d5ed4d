"""The statistics of the gate, in numpy alone: labellings, scores, tests, bounds, decisions."""
