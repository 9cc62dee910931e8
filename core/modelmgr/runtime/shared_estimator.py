"""The estimator that a manager makes: the same, for any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.estimation.estimator import ResourceEstimator


class SharedEstimator(ResourceEstimator):
    """A ``ResourceEstimator`` whose every method holds a lock.

    The estimator itself knows no threads, on purpose; this is the form in which a manager can
    hand out its own.
    """

    def __init__(
        self,
        smoothing_factor: float = 0.2,
        min_data_points: int = 5,
        verbose_logging: bool = False,
    ) -> None:
        self._lock = threading.RLock()
        super().__init__(smoothing_factor, min_data_points, verbose_logging)

    def is_unknown(self, tag: str) -> bool:
        """As the estimator's."""
        with self._lock:
            return super().is_unknown(tag)

    def get_estimate(self, tag: str, default_mb: float = 4000.0) -> float:
        """As the estimator's."""
        with self._lock:
            return super().get_estimate(tag, default_mb)

    def set_initial_estimate(self, tag: str, cost_mb: float) -> None:
        """As the estimator's."""
        with self._lock:
            super().set_initial_estimate(tag, cost_mb)

    def add_observation(self, active_snapshot: Mapping[str, int], peak_memory_mb: float) -> None:
        """As the estimator's."""
        with self._lock:
            super().add_observation(active_snapshot, peak_memory_mb)

    def observe(
        self,
        loaded: Mapping[str, int],
        active: Mapping[str, int],
        peak_bytes: int,
        *,
        resident_bytes: int | None = None,
    ) -> None:
        """As the estimator's."""
        with self._lock:
            super().observe(loaded, active, peak_bytes, resident_bytes=resident_bytes)

    def observe_foreign(self, used_bytes: int) -> None:
        """As the estimator's."""
        with self._lock:
            super().observe_foreign(used_bytes)

    def record_isolation(
        self, tag: str, resident_bytes: int | None, peak_bytes: int, weight: float = 1.0
    ) -> None:
        """As the estimator's."""
        with self._lock:
            super().record_isolation(tag, resident_bytes, peak_bytes, weight)

    def record_own_use(
        self,
        tag: str,
        *,
        peak_bytes: int | None = None,
        resident_bytes: int | None = None,
        whole_job: bool = False,
    ) -> None:
        """As the estimator's."""
        with self._lock:
            super().record_own_use(
                tag, peak_bytes=peak_bytes, resident_bytes=resident_bytes, whole_job=whole_job
            )

    def isolation_runs(self, tag: str) -> int:
        """As the estimator's."""
        with self._lock:
            return super().isolation_runs(tag)

    def record_out_of_memory(self, tag: str, at_least_bytes: int) -> None:
        """As the estimator's."""
        with self._lock:
            super().record_out_of_memory(tag, at_least_bytes)

    def estimate(self, tag: str) -> CostEstimate | None:
        """As the estimator's."""
        with self._lock:
            return super().estimate(tag)

    def learned(self) -> dict[str, CostEstimate]:
        """As the estimator's."""
        with self._lock:
            return super().learned()

    def next_observation(self, limit_bytes: int | None = None) -> Mapping[str, int] | None:
        """As the estimator's."""
        with self._lock:
            return super().next_observation(limit_bytes)
