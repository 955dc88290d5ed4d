"""Events to files and back: journal, sealing, store."""
