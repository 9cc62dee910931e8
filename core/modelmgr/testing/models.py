"""Small models for ``loader: python`` that exist wherever modelmgr is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_FLOAT32_BYTES = 4


class MatmulModel:
    """A stack of square float32 layers with a rectifier: sizes that one can work out by hand."""

    def __init__(self, *, size: int = 1024, layers: int = 4, seed: int = 0) -> None:
        """Draw ``layers`` matrices of ``size`` by ``size``; ValueError below 1."""
        if size < 1 or layers < 1:
            raise ValueError(f"size and layers must be at least 1, not {size} and {layers}")
        generator = np.random.default_rng(seed)
        self._size = size
        self._layers: list[NDArray[np.float32]] = []
        for _ in range(layers):
            layer = generator.standard_normal((size, size), dtype=np.float32)
            layer *= np.float32(size**-0.5)
            self._layers.append(layer)
        self.weights_bytes = layers * size * size * _FLOAT32_BYTES

    def make_batch(self, dims: Mapping[str, int], seed: int) -> NDArray[np.float32]:
        """Return ``batch_size`` random rows; ValueError names any other dimension."""
        for name, length in dims.items():
            if name != "batch_size":
                raise ValueError(f"this model has no dimension {name!r}; known: batch_size")
            if length < 1:
                raise ValueError(f"batch_size must be at least 1, not {length}")
        shape = (dims.get("batch_size", 1), self._size)
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the last layer's activations, [batch_size, size]."""
        rows = batch
        for layer in self._layers:
            rows = rows @ layer
            np.maximum(rows, 0, out=rows)
        return rows

    def close(self) -> None:
        """Drop the matrices."""
        self._layers.clear()


def load_matmul(*, size: int = 1024, layers: int = 4, seed: int = 0) -> MatmulModel:
    """Return a MatmulModel; the target ``modelmgr.testing.models:load_matmul``."""
    return MatmulModel(size=size, layers=layers, seed=seed)


def _estimate_matmul(
    *, shapes: Sequence[Mapping[str, int]], size: int = 1024, layers: int = 4, seed: int = 0
) -> dict[str, object]:
    """Weights exactly; activations are one layer's output, two from the second layer on."""
    del seed
    alive = min(layers, 2)
    return {
        "weights_bytes": layers * size * size * _FLOAT32_BYTES,
        "activation_bytes": [
            alive * shape.get("batch_size", 1) * size * _FLOAT32_BYTES for shape in shapes
        ],
    }


load_matmul.estimate = _estimate_matmul  # type: ignore[attr-defined]  # read by `loader: python`
