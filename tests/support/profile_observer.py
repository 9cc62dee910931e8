"""An observer that keeps what it was told, and acts at a step when a test says so."""

from __future__ import annotations

from collections.abc import Callable

from modelmgr.errors import ModelmgrError
from modelmgr.records.costs import ModelCost


class RecordingObserver:
    """Keeps every event; ``at_step`` is called with each step's tag and name."""

    def __init__(self, at_step: Callable[[str, str], None] | None = None) -> None:
        self.started: tuple[str, ...] = ()
        self.planned_steps: dict[str, int] = {}
        self.steps: dict[str, list[str]] = {}
        self.finished: dict[str, ModelCost] = {}
        self.failures: dict[str, ModelmgrError] = {}
        self.notices: list[str] = []
        self.readings: list[tuple[int, int]] = []
        self.limit_bytes = 0
        self._at_step = at_step

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        assert device
        self.started = tags
        self.limit_bytes = limit_bytes

    def model_started(self, tag: str, *, steps: int) -> None:
        self.planned_steps[tag] = steps
        self.steps[tag] = []

    def step_started(self, tag: str, step: str) -> None:
        self.steps.setdefault(tag, []).append(step)
        if self._at_step is not None:
            self._at_step(tag, step)

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        self.readings.append((used_bytes, limit_bytes))

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        assert tag not in self.finished
        self.failures[tag] = error

    def model_finished(self, tag: str, cost: ModelCost) -> None:
        self.finished[tag] = cost

    def noticed(self, message: str) -> None:
        self.notices.append(message)
