"""The sketch's figures against the values it counted."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.stats.sketch import RELATIVE_ERROR, QuantileSketch

NUMBERS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=200)


def sketch_of(values: list[int]) -> QuantileSketch:
    sketch = QuantileSketch()
    sketch.add(array("q", values))
    return sketch


@given(NUMBERS, st.floats(0, 1))
def test_a_quantile_is_off_by_no_more_than_the_stated_share(values: list[int], q: float) -> None:
    ordered = sorted(values)
    found = sketch_of(values).quantile(q)
    assert any(abs(found - value) <= RELATIVE_ERROR * value for value in ordered)
    rank = min(max(int((len(values) + 1 / 3) * q + 1 / 3), 1), len(values))
    true = ordered[rank - 1]
    assert abs(found - true) <= RELATIVE_ERROR * true


@given(NUMBERS, NUMBERS)
def test_two_sketches_merge_into_the_sketch_of_all_values(
    first: list[int], second: list[int]
) -> None:
    whole, merged = sketch_of(first + second), sketch_of(first)
    merged.merge(sketch_of(second))
    assert merged.count == whole.count
    assert merged.total == whole.total == sum(first) + sum(second)
    assert (merged.least, merged.greatest) == (whole.least, whole.greatest)
    for q in (0, 0.05, 0.5, 0.95, 0.99, 1):
        assert merged.quantile(q) == whole.quantile(q)


def test_small_numbers_are_exact() -> None:
    sketch = sketch_of(list(range(256)))
    assert [sketch.quantile((rank - 1 / 3) / (256 + 1 / 3)) for rank in (1, 128, 256)] == [
        0,
        127,
        255,
    ]


def test_adding_in_parts_changes_nothing() -> None:
    draw = random.Random(5)
    values = [int(draw.expovariate(1e-9)) for _ in range(10_000)]
    parts = QuantileSketch()
    for start in range(0, len(values), 777):
        parts.add(values[start : start + 777])
    assert parts.quantile(0.95) == sketch_of(values).quantile(0.95)


def test_negative_numbers_and_empty_sketches_are_refused() -> None:
    sketch = QuantileSketch()
    with pytest.raises(ValueError, match="not -3"):
        sketch.add([4, -3])
    assert sketch.count == 0
    with pytest.raises(ValueError, match="no sample"):
        sketch.quantile(0.5)
    sketch.add([])
    sketch.merge(QuantileSketch())
    assert sketch.count == 0
    with pytest.raises(ValueError, match="q must be"):
        sketch_of([1]).quantile(1.5)
