"""The models of a real run: how each is loaded, and how long what it does takes.

Durations come from the streams that the simulation draws from, in the order in which it does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from modelmgr.simulation.copies import Drawn
from modelmgr.workers.loaders.registry import get_loader
from modelmgr.workload.scenario import ScenarioModel


@dataclass(frozen=True, slots=True)
class StandInSizes:
    """What a stand-in's process allocates on top of what it is itself, bytes.

    Attributes:
        process_bytes: what it is itself; with it, the sizes are those that the scenario states.
        resident_bytes: always.
        loading_bytes: while it loads.
        running_bytes: on top of what is resident, while it runs.
    """

    process_bytes: int
    resident_bytes: int
    loading_bytes: int
    running_bytes: int


class RunModel:
    """One model of a run: how it is loaded, and its durations, drawn in the simulation's order.

    Args:
        model: the scenario's.
        seed: the scenario's.
        sizes: a stand-in's, by device; None where a loader loads the model itself.
    """

    def __init__(
        self, model: ScenarioModel, seed: int, sizes: Mapping[str, StandInSizes] | None
    ) -> None:
        self.tag = model.tag
        self.priority = model.priority
        self.spec = model.spec
        self.sizes = sizes
        self._lock = threading.Lock()
        cost = model.cost if model.spec is None else None
        self._loads = None if cost is None else Drawn(cost.load, seed, "load", model.tag)
        self._unloads = None if cost is None else Drawn(cost.unload, seed, "unload", model.tag)
        self.shape: dict[str, int] = {}
        if model.spec is not None:
            shapes = model.spec.shapes()
            if not model.spec.input:
                default = get_loader(model.spec.loader).default_input(model.spec)
                shapes = ({name: every[0] for name, every in default.items()},)
            self.shape = shapes[0]

    def draw_load_ns(self) -> int:
        """Return how long the next load takes at least: 0 for one that loads for real."""
        with self._lock:
            return 0 if self._loads is None else self._loads.take()

    def draw_unload_ns(self) -> int:
        """Return how long the next unload takes at least."""
        with self._lock:
            return 0 if self._unloads is None else self._unloads.take()
