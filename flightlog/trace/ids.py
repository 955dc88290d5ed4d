"""New ids: UUIDv7, unique over processes and in order of creation."""

from __future__ import annotations

import os

import uuid_utils


def new_id() -> str:
    """A fresh id; those made later sort later.

    Also in a child that a C library forked: nobody tells such a child to draw other random
    numbers than its parent and its siblings do, so it is asked for here.
    """
    global _pid  # noqa: PLW0603  # there is one process
    if os.getpid() != _pid:
        uuid_utils.reseed_rng()
        _pid = os.getpid()
    return str(uuid_utils.uuid7())


_pid = os.getpid()
