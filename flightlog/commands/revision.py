"""What git says of the folder that a command runs in; all of it optional."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from flightlog.errors import UsageError

_SECONDS: Final = 20
_GIT_TERM: Final = re.compile(r"(^|,)(\s*git\s*=\s*)([^,]+)")


def head_labels() -> dict[str, str]:
    """Labels that name the commit of the working folder; empty outside of a repository."""
    from flightlog.analysis.gate.selection import GIT_LABEL

    commit = _text("rev-parse", "--verify", "HEAD^{commit}")
    if commit is None:
        return {}
    is_dirty = bool(_text("status", "--porcelain", "--untracked-files=no"))
    return {GIT_LABEL: commit, **({"git_dirty": "true"} if is_dirty else {})}


def resolved_side(text: str) -> str:
    """A side with the names of commits (`git=main`) as the commits that they name here."""

    def resolved(found: re.Match[str]) -> str:
        name = found[3].strip()
        return f"{found[1]}{found[2]}{commit_of(name) or name}"

    return _GIT_TERM.sub(resolved, text)


def commit_of(name: str) -> str | None:
    """The commit that a name means here; None where there is none."""
    if name.startswith("-"):
        return None
    return _text("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")


def files_at(revision: str, paths: list[str], into: Path) -> list[str]:
    """Writes files and folders as they were at a commit below a folder; gives those there were.

    Raises:
        UsageError: no repository, or no such commit.
    """
    commit = commit_of(revision)
    if commit is None:
        raise UsageError(
            f"{revision!r} is no commit of a repository here",
            hint="Name one that is fetched: in CI a shallow clone may lack it.",
        )
    found = []
    for path in paths:
        raw = _bytes("archive", "--format=tar", commit, "--", path)
        if raw is not None:
            with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
                archive.extractall(into, filter="data")
            found.append(path)
    return found


def _text(*arguments: str) -> str | None:
    raw = _bytes(*arguments)
    return None if raw is None else raw.decode("utf-8", "replace").strip()


def _bytes(*arguments: str) -> bytes | None:
    """What git prints; None where it fails, is not there, or hangs."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
