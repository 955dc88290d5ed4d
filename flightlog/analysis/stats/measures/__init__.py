"""The kinds of measure: each turns labellings into test statistics, an estimate and bounds."""
