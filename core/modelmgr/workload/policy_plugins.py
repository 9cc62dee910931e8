"""Eviction policies by name: the built-in ones, and those that other packages bring.

A package registers a policy under the entry-point group ``modelmgr.policies``; the entry point is a
class, or a function without arguments, that makes an ``EvictionPolicy``. Only the policy that is
asked for is imported. Built-in names cannot be taken.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from modelmgr.errors import UsageError
from modelmgr.records.validation import nearest
from modelmgr.scheduling.policies import POLICIES, EvictionPolicy

GROUP = "modelmgr.policies"
_METHODS = ("requested", "used", "evicted", "values", "choose")


def policy_names() -> tuple[str, ...]:
    """Return the names that ``find_policy`` knows: the built-in ones first, others sorted."""
    return (*POLICIES, *sorted(_others()))


def find_policy(policy: str | EvictionPolicy) -> EvictionPolicy:
    """Return a new policy of that name, or the one that is given.

    Raises:
        UsageError: an unknown name, an entry point that does not import, or one that makes
            something that is no policy.
    """
    if not isinstance(policy, str):
        return _checked(policy, "policy=")
    maker = POLICIES.get(policy)
    if maker is not None:
        return maker()
    entry = _others().get(policy)
    if entry is None:
        raise UsageError(f"unknown policy {policy!r}; {nearest(policy, policy_names())}")
    origin = f"policy {policy!r} (entry point {entry.value!r})"
    try:
        made: Callable[[], Any] = entry.load()
        found = made()
    except Exception as error:
        raise UsageError(f"{origin} cannot be made: {type(error).__name__}: {error}") from error
    return _checked(found, origin)


def _others() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP) if e.name not in POLICIES}


def _checked(found: Any, origin: str) -> EvictionPolicy:  # noqa: ANN401 - any package's object
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    if not isinstance(getattr(found, "name", None), str):
        missing.insert(0, "name")
    if missing:
        raise UsageError(
            f"{origin} is no eviction policy: {type(found).__name__} lacks {', '.join(missing)} "
            "(see modelmgr.scheduling.policies.EvictionPolicy)"
        )
    policy: EvictionPolicy = found
    return policy
