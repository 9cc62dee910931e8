"""The ``python`` loader: ``target: module:callable`` returns any object with ``infer(batch)``.

The object may also have ``close()``, ``make_batch(dims, seed)``, ``weights_bytes`` and
``fingerprint``. Without ``make_batch``, a batch is what ``arguments`` describe (one unnamed
argument: the array itself; several: a tuple; named ones: a dict) or, with none, the shape as a
dict. The target may have ``estimate(shapes, **options)`` that returns ``{"weights_bytes": …,
"activation_bytes": [… one a shape]}`` without loading anything.
"""
# ruff: noqa: ANN401 - the user's object may be anything

from __future__ import annotations

import operator
import reprlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from modelmgr.errors import ModelLoadError
from modelmgr.workers.loaders.arguments import check_arguments, draw_arguments
from modelmgr.workers.loaders.dimensions import refuse_empty
from modelmgr.workers.loaders.targets import call_target, check_target, find_target
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _weights_bytes(instance: Any, spec: ModelSpec) -> int | None:
    """Return what the object says of its weights; ModelLoadError where that is no size."""
    said: Any = getattr(instance, "weights_bytes", None)
    if said is None:
        return None
    try:
        size = -1 if isinstance(said, bool) else operator.index(said)  # NumPy's integers too
    except TypeError:
        size = -1
    if size < 0:
        raise ModelLoadError(
            f"model {spec.tag!r}: weights_bytes of what {spec.target!r} returned is "
            f"{reprlib.repr(said)}; it must be bytes or None"
        )
    return size


class PythonModel:
    """Adapts the user's object, ``instance``; knows nothing of its inside."""

    def __init__(self, instance: Any, spec: ModelSpec) -> None:
        self.instance: Any = instance
        self._spec = spec
        self.weights_bytes: int | None = _weights_bytes(instance, spec)
        fingerprint: Any = getattr(instance, "fingerprint", None)
        self.fingerprint: str | None = fingerprint if isinstance(fingerprint, str) else None

    def make_batch(self, dims: Mapping[str, int], seed: int) -> object:
        """Ask the object, else draw the list's arguments, else return the shape."""
        make = getattr(self.instance, "make_batch", None)
        if callable(make):
            return make(dict(dims), seed)
        refuse_empty(dims)
        if not self._spec.arguments:
            return dict(dims)
        call = draw_arguments(self._spec.arguments, dims, seed)
        if call.named:
            return {**{str(i): value for i, value in enumerate(call.positional)}, **call.named}
        return call.positional[0] if len(call.positional) == 1 else call.positional

    def infer(self, batch: object) -> object:
        """Call the object's ``infer``."""
        result: object = self.instance.infer(batch)
        return result

    def close(self) -> None:
        """Call the object's ``close`` where it has one, and drop the object; once."""
        instance, self.instance = self.instance, None
        close = getattr(instance, "close", None)
        if callable(close):
            close()


class PythonLoader:
    """Loads whatever a callable returns."""

    name = "python"
    preload: tuple[str, ...] = ("numpy",)

    def check(self, spec: ModelSpec) -> None:
        """Raise UsageError where target or arguments are written wrongly; imports nothing."""
        check_target(spec)
        check_arguments(spec, known_dims=self._input(spec))

    def prepare(self, spec: ModelSpec) -> None:
        """Import the target's module, so that its code is not counted as the model's."""
        check_target(spec)
        find_target(cast("str", spec.target))

    def load(self, spec: ModelSpec, *, device: str, seed: int) -> PythonModel:
        """Call the target with ``options``; device and seed are the target's own business."""
        del device, seed
        self.check(spec)
        target = cast("str", spec.target)
        instance = call_target(target, find_target(target), spec.options)
        if not callable(getattr(instance, "infer", None)):
            raise ModelLoadError(
                f"target {target!r} returned a {type(instance).__name__}, which has no "
                "infer(batch) method; return an object that has one"
            )
        return PythonModel(instance, spec)

    def default_input(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """Return a batch of 1, or a single empty shape where the arguments name no batch."""
        if spec.arguments and not any(
            "batch_size" in (argument.shape or ()) for argument in spec.arguments
        ):
            return {}
        return {"batch_size": (1,)}

    def estimate(self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]]) -> EstimateReport:
        """Ask the target's own ``estimate`` where it has one; nothing is loaded."""
        started_ns = time.monotonic_ns()
        self.check(spec)
        target = cast("str", spec.target)
        guess: Any = getattr(find_target(target), "estimate", None)
        reason: str | None = (
            f"target {target!r} has no estimate(shapes, **options); its cost is known when it "
            "has been measured"
        )
        weights: int | None = None
        activation: tuple[int | None, ...] = (None,) * len(shapes)
        if callable(guess):
            answer = call_target(
                f"{target}.estimate",
                guess,
                {**spec.options, "shapes": [dict(shape) for shape in shapes]},
            )
            weights, activation, reason = _read_guess(target, answer, len(shapes))
        known = weights is not None or any(figure is not None for figure in activation)
        return EstimateReport(
            weights_bytes=weights,
            activation_bytes=activation,
            method="declared" if known else "none",
            reason=reason,
            elapsed_ns=time.monotonic_ns() - started_ns,
        )

    def _input(self, spec: ModelSpec) -> Mapping[str, tuple[int, ...]]:
        return spec.input or self.default_input(spec)


def _read_guess(
    target: str, answer: Any, count: int
) -> tuple[int | None, tuple[int | None, ...], str | None]:
    if not isinstance(answer, Mapping):
        raise ModelLoadError(
            f"{target}.estimate returned a {type(answer).__name__}; return "
            '{"weights_bytes": …, "activation_bytes": [… one a shape]}'
        )
    guess = cast("Mapping[str, Any]", answer)
    weights: Any = guess.get("weights_bytes")
    given: Any = guess.get("activation_bytes")
    figures: list[Any] = [None] * count if given is None else list(given)
    sizes_fine = all(figure is None or _is_size(figure) for figure in (weights, *figures))
    if len(figures) != count or not sizes_fine:
        raise ModelLoadError(
            f"{target}.estimate returned {dict(guess)!r}; weights_bytes must be bytes or None, and "
            f"activation_bytes a list of {count} such figures, one a shape"
        )
    missing = weights is None or any(figure is None for figure in figures)
    return weights, tuple(figures), f"{target}.estimate left figures open" if missing else None
