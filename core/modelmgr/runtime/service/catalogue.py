"""Which models a server's clients may ask for.

A tag stands for one model: those of the server's own list, and, where the server was started with
permission, what clients describe. No client can name code: a target is only ever one that the
server's list has.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping

from modelmgr.errors import UsageError
from modelmgr.workload.model_spec import ModelSpec

_MAX_DESCRIBED = 10_000


class Catalogue:
    """The models that are known by tag. Thread-safe.

    Args:
        models: the server's list.
        accept_specs: whether clients may describe further ones.
    """

    def __init__(self, models: Mapping[str, ModelSpec], *, accept_specs: bool) -> None:
        for tag, spec in models.items():
            if spec.tag != tag:
                raise UsageError(f"the model listed as {tag!r} calls itself {spec.tag!r}")
        self._listed = dict(models)
        self._targets = frozenset(spec.target for spec in models.values() if spec.target)
        self._accept_specs = accept_specs
        self._described: dict[str, ModelSpec] = {}
        self._lock = threading.Lock()

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the server's list, in its order."""
        return tuple(self._listed)

    def find(self, tag: str, described: ModelSpec | None) -> ModelSpec:
        """Return the model that a request means.

        Args:
            tag: the model.
            described: what the client says of it, None where it relies on the server.

        Raises:
            UsageError: the server does not know it, or does not accept what the client says.
        """
        if described is None:
            found = self._listed.get(tag) or self._described.get(tag)
            if found is None:
                raise UsageError(f"the server knows no model {tag!r}; {self._advice(tag)}")
            return found
        if described.tag != tag:
            raise UsageError(
                f"asked for {tag!r}, but the model sent calls itself {described.tag!r}"
            )
        return self._accept(described)

    def _accept(self, spec: ModelSpec) -> ModelSpec:
        tag = spec.tag
        with self._lock:
            known = self._listed.get(tag) or self._described.get(tag)
            if known is not None:
                if known != spec:
                    raise UsageError(
                        f"the server knows {tag!r} as another model; use another tag, or leave "
                        "the description out"
                    )
                return known
            if not self._accept_specs:
                raise UsageError(
                    f"the server takes only models of its own list, and {tag!r} is not one of "
                    f"them; {self._advice(tag)}"
                )
            if spec.target is not None and spec.target not in self._targets:
                raise UsageError(
                    f"{tag!r}: the target {spec.target!r} is not one of the server's own list, and "
                    "a server runs no code that a client names; add it to the list"
                )
            if len(self._described) >= _MAX_DESCRIBED:
                raise UsageError(f"clients have described {_MAX_DESCRIBED} models; use a list")
            self._described[tag] = spec
            return spec

    def _advice(self, tag: str) -> str:
        near = difflib.get_close_matches(tag, self._listed, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        if not self._listed:
            return "its list is empty"
        return f"its list has {', '.join(sorted(self._listed)[:10])}"
