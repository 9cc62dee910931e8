"""A model on the NVML library that the tests compile: it moves that GPU's figures as one would.

Loaded in worker processes as ``support.nvml_model:load``. The program ``nvml_model.py OUT DEVICE
GPU [OWNER]`` profiles it on a device and prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.codec import encode_costs
from modelmgr.workload.model_spec import ModelSpec
from support.fake_nvml import FakeNvml
from support.profile_observer import RecordingObserver

MIB = 1024**2
CONTEXT_BYTES = 300 * MIB
WEIGHTS_BYTES = 500 * MIB
ITEM_BYTES = 40 * MIB


class DeviceModel:
    """Takes device memory for weights, and for each item while a batch runs."""

    weights_bytes = WEIGHTS_BYTES

    def __init__(self, gpu: int, owner: int | None) -> None:
        self._machine = FakeNvml.attach()
        self._gpu = gpu
        self._owner = owner
        self._take(CONTEXT_BYTES + WEIGHTS_BYTES)

    def _take(self, size_bytes: int) -> None:
        self._machine.take(self._gpu, size_bytes, pid=self._owner)

    def make_batch(self, dims: dict[str, int], seed: int) -> int:
        assert seed >= 0
        return dims["batch_size"]

    def infer(self, batch: object) -> object:
        assert isinstance(batch, int)
        self._take(batch * ITEM_BYTES)
        time.sleep(0.03)  # as long as a batch takes: what samples the device sees it
        self._take(-batch * ITEM_BYTES)
        return None

    def close(self) -> None:
        if self._owner is not None:  # the owner lives on: nobody else gives it back
            self._take(-CONTEXT_BYTES - WEIGHTS_BYTES)


def load(gpu: int, owner: int | None = None) -> DeviceModel:
    """Return a model on a GPU, listed by NVML under another process's id where one is given."""
    return DeviceModel(gpu, owner)


def main(out: str, device: str, gpu: str, owner: str = "") -> None:
    observer = RecordingObserver()
    outcome = profile_models(
        [
            ModelSpec(
                tag=tag,
                loader="python",
                target="support.nvml_model:load",
                options={"gpu": int(gpu), "owner": int(owner) if owner else None},
                input={"batch_size": (1, 4)},
                repeats=1,
            )
            for tag in ("first", "second")
        ],
        ProfileSettings(out=Path(out), device=device),
        observer,
    )
    print(  # noqa: T201 - the answer to the test
        json.dumps(
            {
                "database": encode_costs(outcome.database).decode(),
                "notices": observer.notices,
                "highest_bytes": max(used for used, _ in observer.readings),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
