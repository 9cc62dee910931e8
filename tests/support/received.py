"""What came back from a worker, checked to be of the kind that a test expects."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def as_array(value: object) -> NDArray[Any]:
    assert isinstance(value, np.ndarray)
    return cast("NDArray[Any]", value)


def as_dict(value: object) -> dict[Any, Any]:
    found = cast("dict[Any, Any]", value)
    assert isinstance(value, dict)
    return found


def as_list(value: object) -> list[Any]:
    found = cast("list[Any]", value)
    assert isinstance(value, list)
    return found
