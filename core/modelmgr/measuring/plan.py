"""What a run will do to each model: shapes, processes and steps, decided before anything starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import msgspec

from modelmgr.errors import UsageError
from modelmgr.workload.model_spec import ModelSpec

MAX_SHAPES = 1000  # a list that asks for more is a mistake, not a plan
STEP_ESTIMATE = "estimate"
STEP_SECOND_COPY = "second copy"


class ModelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One model's measurement.

    Attributes:
        spec: the model, its ``input`` complete.
        shapes: every shape to measure, in order.
        repeats: fresh processes.
        estimate: whether a guess comes first.
    """

    spec: ModelSpec
    shapes: tuple[dict[str, int], ...]
    repeats: int
    estimate: bool

    @property
    def steps(self) -> int:
        """How many steps an observer will be told of when nothing fails."""
        each = 1 + 2 * len(self.shapes) + 1
        return int(self.estimate) + self.repeats * each + 1

    def load_step(self, repeat: int) -> str:
        """Name the load of a process, counted from 0."""
        return f"load {repeat + 1}/{self.repeats}"

    def unload_step(self, repeat: int) -> str:
        """Name the unload of a process, counted from 0."""
        return f"unload {repeat + 1}/{self.repeats}"

    def shape_step(self, dims: Mapping[str, int], phase: str, repeat: int) -> str:
        """Name one shape's run in one phase."""
        return f"{describe_dims(dims)} {phase} {repeat + 1}/{self.repeats}".lstrip()


def describe_dims(dims: Mapping[str, int]) -> str:
    """Return ``batch_size=4 sequence_length=32``; nothing for a model without dimensions."""
    return " ".join(f"{name}={size}" for name, size in dims.items())


def plan_model(
    spec: ModelSpec,
    *,
    default_input: Mapping[str, Iterable[int]],
    repeats: int | None,
    estimate: bool,
) -> ModelPlan:
    """Return what will be done to a model.

    Args:
        spec: the model as the list has it.
        default_input: the loader's own sizes, taken for each dimension that the list leaves out.
        repeats: fresh processes, None for the model's own number.
        estimate: whether a guess comes first.

    Raises:
        UsageError: more than ``MAX_SHAPES`` combinations.
    """
    defaults = {name: tuple(values) for name, values in default_input.items()}
    sizes = {**defaults, **spec.input}
    complete = msgspec.structs.replace(spec, input=sizes)
    count = 1
    for values in sizes.values():
        count *= len(values)
    if count > MAX_SHAPES:
        raise UsageError(
            f"model {spec.tag!r}: input makes {count} shapes, more than {MAX_SHAPES}: name fewer"
        )
    return ModelPlan(
        spec=complete,
        shapes=complete.shapes(),
        repeats=spec.repeats if repeats is None else repeats,
        estimate=estimate,
    )


def refuse_duplicates(models: Iterable[ModelSpec]) -> None:
    """Raise UsageError where two models have one tag, or there is no model at all."""
    tags = [model.tag for model in models]
    if not tags:
        raise UsageError("there is no model to measure: the list is empty")
    twice = [tag for tag, group in itertools.groupby(sorted(tags)) if len(list(group)) > 1]
    if twice:
        raise UsageError(f"two models have the tag {twice[0]!r}: tags must be unique")
