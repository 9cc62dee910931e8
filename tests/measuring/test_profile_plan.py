"""What will be measured is decided, named and counted before anything starts."""

from __future__ import annotations

import pytest

from modelmgr.errors import UsageError
from modelmgr.measuring.plan import describe_dims, plan_model, refuse_duplicates
from modelmgr.workload.model_spec import ModelSpec


def spec(**changes: tuple[int, ...]) -> ModelSpec:
    return ModelSpec(tag="m", loader="synthetic", input=changes)


def test_every_combination_of_the_input_is_planned() -> None:
    plan = plan_model(
        spec(batch_size=(1, 4), sequence_length=(32, 128)),
        default_input={"batch_size": (9,)},
        repeats=None,
        estimate=True,
    )
    assert len(plan.shapes) == 4
    assert plan.repeats == 3
    assert plan.steps == 1 + 3 * (1 + 8 + 1) + 1


def test_a_model_without_input_takes_its_loaders_shapes() -> None:
    plan = plan_model(spec(), default_input={"batch_size": (1, 8)}, repeats=1, estimate=False)
    assert plan.shapes == ({"batch_size": 1}, {"batch_size": 8})
    assert plan.spec.input == {"batch_size": (1, 8)}


def test_a_list_that_names_one_dimension_keeps_the_loaders_size_of_the_others() -> None:
    plan = plan_model(
        spec(batch_size=(4,)),
        default_input={"batch_size": (1, 8), "sequence_length": (128,)},
        repeats=1,
        estimate=False,
    )
    assert plan.shapes == ({"batch_size": 4, "sequence_length": 128},)


def test_a_model_without_any_dimension_runs_as_it_is() -> None:
    plan = plan_model(spec(), default_input={}, repeats=1, estimate=False)
    assert plan.shapes == ({},)
    assert plan.shape_step({}, "memory", 0) == "memory 1/1"


def test_an_absurd_number_of_shapes_is_refused() -> None:
    sizes = tuple(range(1, 101))
    with pytest.raises(UsageError, match="10000 shapes"):
        plan_model(
            spec(batch_size=sizes, sequence_length=sizes),
            default_input={},
            repeats=1,
            estimate=False,
        )


def test_tags_are_unique_and_a_list_is_not_empty() -> None:
    with pytest.raises(UsageError, match="empty"):
        refuse_duplicates([])
    with pytest.raises(UsageError, match="'m'"):
        refuse_duplicates([spec(), spec()])
    refuse_duplicates([spec()])


def test_a_shape_is_named_as_people_write_it() -> None:
    assert describe_dims({"batch_size": 4, "sequence_length": 32}) == (
        "batch_size=4 sequence_length=32"
    )
