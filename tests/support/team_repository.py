"""Repositories of other teams: the git that they use."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    """Run git there, as somebody; return what it says."""
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
    return subprocess.run(  # noqa: S603  # a repository of the test's own
        ["git", *who, *arguments],  # noqa: S607  # the git that users have
        check=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()
