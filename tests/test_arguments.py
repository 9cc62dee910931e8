"""What callers give is taken where its meaning is plain, else refused by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from modelmgr import ModelManager, UsageError
from modelmgr.arguments import as_seconds, as_whole
from modelmgr.testing.fake_device import FakeDevice, FakeModel


def test_whole_numbers_of_every_kind_are_python_s_own() -> None:
    for number in (3, np.int64(3), np.uint8(3)):
        assert type(as_whole("count", number, least=0)) is int


@pytest.mark.parametrize("value", [True, np.True_, 2.0, "2", None, Decimal(2)])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="count must be a whole number, 1 or more, not"):
        as_whole("count", value, least=1)


@pytest.mark.parametrize("value", [math.nan, -1, "a", True, 1j])
def test_what_is_no_time_out_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="timeout must be seconds, 0 or more, or None"):
        as_seconds("timeout", value)


def test_numbers_of_numpy_s_serve_a_manager() -> None:
    whole: Any = np.int64(2)
    device = FakeDevice()
    with ModelManager(
        device,
        min_model_copies=whole,
        max_bypass=whole,
        max_model_copies=whole,
        min_data_points=whole,
        wait_timeout_seconds=np.float32(2.5),  # type: ignore[arg-type]  # a number all the same
        lock_timeout_seconds=None,
        costs={"a": np.float32(100.0)},  # type: ignore[dict-item]  # a number all the same
    ) as manager:
        with manager.lease("a", lambda: FakeModel(device, 100.0), priority=whole):
            assert manager.evictions(whole) == ()
        assert type(manager.estimator.min_data_points) is int


_QUESTIONS: list[tuple[Callable[[Any], object], str]] = [
    (lambda m: m.wait_until_free(math.nan), "timeout must be seconds"),
    (lambda m: m.wait_until_free("a"), "timeout must be seconds"),
    (lambda m: m.evictions(-1), "last must be a whole number, 0 or more, not -1"),
    (lambda m: m.pin(None), "a tag is a text, not None"),
    (lambda m: m.unpin(3), "a tag is a text, not 3"),
    (lambda m: m.should_spawn_model("a", "b"), "ticket_num must be a whole number, not 'b'"),
    (lambda m: m.try_enter_isolation_mode(3, None), "a tag is a text, not 3"),
    (lambda m: m.lease("a", object, priority=1.5), "priority must be a whole number, not 1.5"),
]


@pytest.mark.parametrize(("asked", "said"), _QUESTIONS)
def test_a_question_that_makes_no_sense_is_refused(
    asked: Callable[[Any], object], said: str
) -> None:
    with ModelManager(FakeDevice()) as manager, pytest.raises(UsageError, match=said):
        asked(manager)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({3: 500}, "a tag is a text, not 3"),
        ({None: 500}, "a tag is a text, not None"),
        ({"a": True}, r"costs\['a'\] \(MB\) must be a positive number, at most 1e\+09, not True"),
        ({"a": 1e300}, r"costs\['a'\] \(MB\) must be a positive number"),
        ({"a": math.nan}, r"costs\['a'\] \(MB\) must be a positive number"),
        ({"a": "5"}, r"costs\['a'\] \(MB\) must be a positive number"),
    ],
)
def test_costs_that_make_no_sense_are_refused(costs: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ModelManager(FakeDevice(), costs=costs)


def test_the_least_cost_is_a_byte() -> None:
    with ModelManager(FakeDevice(), costs={"a": 1e-12}) as manager:
        assert not manager.estimator.is_unknown("a")
