"""A recorded run again: cassette, state-aware matching, stubs."""
