"""Golden tasks: contract, pinned recordings, judge."""
