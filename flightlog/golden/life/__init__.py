"""The life of golden tasks: drafted, reviewed, accepted, watched, pruned."""
