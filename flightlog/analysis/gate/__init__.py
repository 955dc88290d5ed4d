"""The comparison of two sides: what is chosen, paired, and decided."""
