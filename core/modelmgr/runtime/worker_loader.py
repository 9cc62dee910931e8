"""A loader for the manager whose models live in worker processes of their own."""

from __future__ import annotations

from collections.abc import Mapping

from modelmgr.records.devices import DeviceDescription
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.placement import place
from modelmgr.workers.worker import Worker
from modelmgr.workload.model_spec import ModelSpec


class WorkerLoader:
    """Starts a worker and loads a model in it; what the manager holds is the ``Worker``.

    ``manager.lease(spec.tag, WorkerLoader(launcher, spec))`` gives a worker whose ``infer`` runs in
    its own process, whose memory is told apart from everybody else's, and which is gone, memory and
    all, when the manager unloads it.

    Args:
        launcher: starts the processes; it stays the caller's to close, after the manager.
        spec: what to load.
        device: ``cpu`` or ``cuda:N``, as the framework names it; None where the manager says which
            of its devices the copy was placed on.
        seed: of random weights.
        budget_bytes: what the model may take above its framework, None for no limit.
        timeout_s: how long a load may take, None for no limit.
        env: more environment for the worker.
    """

    own_process = True

    def __init__(
        self,
        launcher: WorkerLauncher,
        spec: ModelSpec,
        *,
        device: str | None = None,
        seed: int = 0,
        budget_bytes: int | None = None,
        timeout_s: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._launcher = launcher
        self._spec = spec
        self._device = device
        self._seed = seed
        self._budget_bytes = budget_bytes
        self._timeout_s = timeout_s
        self._env = env

    def placed_on(self, device: DeviceDescription) -> WorkerLoader:
        """Return the loader for a copy that was placed on a device of the manager's."""
        if self._device is not None:
            return self
        placement = place(device)
        return WorkerLoader(
            self._launcher,
            self._spec,
            device=placement.device,
            seed=self._seed,
            budget_bytes=self._budget_bytes,
            timeout_s=self._timeout_s,
            env={**(self._env or {}), **placement.env},
        )

    def __call__(self) -> Worker:
        """Return a loaded worker; raise WorkerError as the worker reported it."""
        worker = self._launcher.start(
            self._spec,
            device=self._device or "cpu",
            seed=self._seed,
            budget_bytes=self._budget_bytes,
            env=self._env,
        )
        try:
            worker.load(timeout_s=self._timeout_s)
        except BaseException:
            worker.kill()
            worker.close()
            raise
        return worker
