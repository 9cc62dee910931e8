"""A model that takes memory of the GPU that its process was told to use, and says which it was.

Loaded in worker processes as ``support.placed_model:load``, on the NVML library that the tests
compile.
"""

from __future__ import annotations

import os

from support.fake_nvml import FakeNvml


class PlacedModel:
    def __init__(self, uuid: str, gpu: int, size_bytes: int) -> None:
        self._uuid = uuid
        self._machine = FakeNvml.attach()
        self._machine.take(gpu, size_bytes)

    def infer(self, batch: object) -> str:
        assert batch is None
        return self._uuid


def load(uuids: list[str], size_bytes: int) -> PlacedModel:
    """Return a model on the one GPU that is visible here; ``uuids`` are the machine's, in order."""
    uuid = os.environ["CUDA_VISIBLE_DEVICES"]
    return PlacedModel(uuid, uuids.index(uuid), size_bytes)
