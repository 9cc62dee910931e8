"""Guesses by one worker that is kept for all models, where that is sound.

What a framework imports to describe one model serves the next: a guess in a process of its own
would import it again. That is sound for loaders that run no code of the model's author; every other
guess gets a process that ends with it. Figures are not touched: a model is loaded elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from modelmgr.workers.launcher import Worker, WorkerLauncher
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec

_FRAMEWORKS_OWN = frozenset({"transformers"})


def runs_framework_code_only(spec: ModelSpec) -> bool:
    """Tell whether no code of the model's author runs before the model is loaded."""
    return spec.loader in _FRAMEWORKS_OWN


class Describer:
    """The kept worker, within a ``with`` block. For one thread.

    Args:
        launcher: starts the workers; outlives this.
        env: environment variables beside this process's, as for the workers that will load.
    """

    def __init__(self, launcher: WorkerLauncher, env: Mapping[str, str] | None = None) -> None:
        self._launcher = launcher
        self._env = env
        self._kept: Worker | None = None

    def estimate(
        self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]], *, timeout_s: float | None
    ) -> EstimateReport:
        """Guess a model's size; errors as ``Worker.estimate`` and ``WorkerLauncher.start``."""
        if not runs_framework_code_only(spec):
            with self._launcher.start(spec, env=self._env) as worker:
                return worker.estimate(shapes, timeout_s=timeout_s)
        if self._kept is None or not self._kept.alive:
            self.close()
            self._kept = self._launcher.start(spec, env=self._env)
        return self._kept.estimate(shapes, timeout_s=timeout_s, spec=spec)

    def close(self) -> None:
        """End the kept worker, where there is one; the next guess starts another."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.kill()  # it holds no model that would have to be closed
            kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
