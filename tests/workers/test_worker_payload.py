"""What crosses the pipe arrives as it was, and nothing else crosses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from numpy.typing import NDArray

from modelmgr.errors import UsageError, WorkerProtocolError
from modelmgr.workers import payload
from support.received import as_array, as_dict

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=64)
)
_KEYS = st.text(max_size=8) | st.integers() | st.none()
_TREES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(_KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


def _cross(value: object) -> object:
    tree, buffers = payload.encode(value)
    return payload.decode(tree, [memoryview(bytearray(part)) for part in buffers])


@given(_TREES)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    back = _cross(value)
    assert back == value
    assert type(back) is type(value)


@given(
    np_st.arrays(
        dtype=np_st.integer_dtypes()
        | np_st.floating_dtypes(sizes=(16, 32, 64))
        | np_st.boolean_dtypes()
        | np_st.complex_number_dtypes(sizes=(64, 128)),
        shape=np_st.array_shapes(min_dims=0, min_side=0),
    )
)
def test_arrays_come_back_with_their_bytes_shape_and_type(array: NDArray[Any]) -> None:
    back = as_array(_cross(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_arrays_that_are_not_contiguous_and_scalars_and_not_a_number_cross() -> None:
    array = np.arange(24).reshape(4, 6)[::2, ::3].T
    sent = {"view": array, "scalar": np.float32(1.5), "nan": math.nan, "big": 10**40}
    back = as_dict(_cross(sent))
    np.testing.assert_array_equal(back["view"], array)
    assert type(back["scalar"]) is np.float32
    assert math.isnan(back["nan"])
    assert back["big"] == 10**40


def test_arrays_that_come_back_can_be_written_to() -> None:
    back = as_array(_cross(np.zeros(3)))
    back[0] = 1.0


def test_what_has_no_form_is_refused_by_type_and_place() -> None:
    with pytest.raises(UsageError, match=r"batch\['images'\]\[1\] is a builtins.set"):
        payload.encode({"images": [1, {2}]})
    with pytest.raises(UsageError, match="array of object"):
        payload.encode(np.array([object()]))


def test_a_mask_that_would_be_lost_is_refused() -> None:
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    with pytest.raises(UsageError, match=r"batch\['x'\] is a masked array whose .*use filled\(\)"):
        payload.encode({"x": masked})


def test_endless_nesting_is_refused_on_both_sides() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(
        UsageError, match=r"^batch[\[0\]]+\.\.\.[\[0\]]+ is nested .* 64 levels deep$"
    ) as no:
        payload.encode(value)
    assert len(str(no.value)) < 110  # it showed the index of each level
    tree: object = 1
    for _ in range(100):
        tree = {"list": [tree]}
    with pytest.raises(WorkerProtocolError, match="levels"):
        payload.decode(tree, [])


_NOTHING: list[object] = [
    [],
    {},
    {"pickle": "gASVBA=="},
    {"array": 0, "dtype": "<f4", "shape": [3]},
    {"array": 0, "dtype": "|O8", "shape": [1]},
    {"array": 0, "dtype": "<f3", "shape": [1]},
    {"array": 0, "dtype": "<f4", "shape": [-1, -1]},
    {"array": 0, "dtype": "<f4", "shape": [1] * 40},
    {"array": 0, "dtype": "<f4", "shape": 1},
    {"array": 0, "dtype": ["<f4"], "shape": [1]},
    {"array": 7, "dtype": "<f4", "shape": [1]},
    {"array": "0", "dtype": "<f4", "shape": [1]},
    {"scalar": 0, "dtype": "<f4", "shape": [2]},
    {"bytes": -1},
    {"int": "one"},
    {"float": "1e5"},
    {"dict": [[1]]},
    {"dict": [[{"list": []}, 1]]},
    {"dict": 3},
]


@pytest.mark.parametrize("tree", _NOTHING)
def test_a_tree_that_describes_nothing_is_refused(tree: object) -> None:
    buffers: Sequence[memoryview] = [memoryview(bytes(4))]
    with pytest.raises(WorkerProtocolError):
        payload.decode(tree, buffers)


def test_arrays_in_an_output_are_counted_wherever_they_are() -> None:
    output = {"logits": np.zeros(2), "past": ((np.zeros(1), np.zeros(1)), None), "n": 3}
    assert payload.count_arrays(output) == 3
