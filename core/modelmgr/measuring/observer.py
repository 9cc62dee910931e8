"""What ``profile`` tells while it works: events for a progress display, a log, or nobody."""

from __future__ import annotations

from typing import Protocol

from modelmgr.errors import ModelmgrError
from modelmgr.records.costs import ModelCost


class ProfileObserver(Protocol):
    """Is told what happens, by one thread at a time; must return quickly and never raise."""

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        """The models that will be measured, in order; resumed ones are left out."""
        ...

    def model_started(self, tag: str, *, steps: int) -> None:
        """A model's measurement begins; ``steps`` is how many steps it will take."""
        ...

    def step_started(self, tag: str, step: str) -> None:
        """A step begins: ``estimate``, ``load 1/3``, ``batch_size=4 sequence_length=32`` ..."""
        ...

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        """The device's use just now, against its limit."""
        ...

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        """A model could not be measured, and why: what its cost's ``error`` leaves out.

        ``modelmgr.workers.failures.remote_details`` has its worker's traceback and last output.
        ``model_finished`` follows.
        """
        ...

    def model_finished(self, tag: str, cost: ModelCost) -> None:
        """A model is done; ``cost.error`` says whether it failed."""
        ...

    def noticed(self, message: str) -> None:
        """Something a person should know: foreign load, a figure that could not be taken."""
        ...


class SilentObserver:
    """An observer that ignores everything."""

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        """Ignore it."""

    def model_started(self, tag: str, *, steps: int) -> None:
        """Ignore it."""

    def step_started(self, tag: str, step: str) -> None:
        """Ignore it."""

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        """Ignore it."""

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        """Ignore it."""

    def model_finished(self, tag: str, cost: ModelCost) -> None:
        """Ignore it."""

    def noticed(self, message: str) -> None:
        """Ignore it."""
