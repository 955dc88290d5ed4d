"""The life of a store after recording: merging, retention, erasure, change of keys."""
