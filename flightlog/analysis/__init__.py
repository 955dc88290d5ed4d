"""Files to numbers to reports: views, questions, the gate, plots."""
