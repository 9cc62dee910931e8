"""Checking the dimensions of ``input`` against those that a loader knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from modelmgr.workers.loaders.nearest import did_you_mean


def refuse_unknown(dims: Iterable[str], known: Collection[str], what: str) -> None:
    """Raise ValueError that names the first dimension which ``what`` does not have."""
    for name in dims:
        if name not in known:
            hint = did_you_mean(name, known) if known else "; it takes none"
            raise ValueError(f"{what} has no dimension {name!r}{hint}")


def refuse_empty(dims: Mapping[str, int]) -> None:
    """Raise ValueError where a size is below 1."""
    for name, size in dims.items():
        if size < 1:
            raise ValueError(f"dimension {name!r} must be at least 1, not {size}")
