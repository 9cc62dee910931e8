"""A request for a model on its way: what another thread needs to end it.

The thread that asks is inside the manager, waiting or loading; when its client is gone, another one
takes its ticket back and ends the process in which the model is being loaded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from modelmgr.errors import WorkerError
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.driver import Driver
from modelmgr.runtime.lease import Lease
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.placement import place
from modelmgr.workers.worker import Worker
from modelmgr.workload.model_spec import ModelSpec


class WorkerSettings:
    """How a server starts workers; the arguments are ``WorkerLoader``'s."""

    def __init__(
        self,
        launcher: WorkerLauncher,
        *,
        device: str | None = None,
        seed: int = 0,
        budget_bytes: int | None = None,
        load_timeout_s: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.launcher = launcher
        self.device = device
        self.seed = seed
        self.budget_bytes = budget_bytes
        self.load_timeout_s = load_timeout_s
        self.env = env

    def start(self, spec: ModelSpec, placed: DeviceDescription | None) -> Worker:
        """Start a worker for a model where its copy was placed; nothing is loaded yet."""
        device, env = self.device or "cpu", dict(self.env or {})
        if self.device is None and placed is not None:
            placement = place(placed)
            device, env = placement.device, env | placement.env
        return self.launcher.start(
            spec, device=device, seed=self.seed, budget_bytes=self.budget_bytes, env=env
        )


class PendingRequest:
    """One request for a lease, which any thread may cancel; it is its own loader.

    Args:
        driver: runs the scheduler.
        settings: how to start a worker, should one be needed.
        spec: the model.
    """

    own_process = True

    def __init__(self, driver: Driver, settings: WorkerSettings, spec: ModelSpec) -> None:
        self._driver = driver
        self._settings = settings
        self._spec = spec
        self._lock = threading.Lock()
        self._ticket: int | None = None
        self._loading: Worker | None = None
        self._given_up = False
        self._placed: DeviceDescription | None = None
        self.cancelled = False

    @property
    def tag(self) -> str:
        """The model."""
        return self._spec.tag

    def acquire(
        self,
        *,
        timeout_s: float | None,
        priority: int,
        worst_case_bytes: int | None,
        alone: bool,
    ) -> Lease:
        """Return a lease; errors as ``ModelManager.lease``, AcquireTimeoutError if cancelled."""
        return self._driver.acquire(
            self._spec.tag,
            self,
            timeout_s=timeout_s,
            priority=priority,
            worst_case_bytes=worst_case_bytes,
            alone=alone,
            ticketed=self._ticketed,
        )

    def cancel(self) -> None:
        """End the request, from another thread; a lease that was granted already stays.

        A load that runs for it ends with it, unless others wait for the same model.
        """
        with self._lock:
            self.cancelled = True
            ticket = self._ticket
        if ticket is None:
            return
        self._driver.cancel(ticket)
        tag, scheduler = self._spec.tag, self._driver.scheduler
        with self._driver.gate.settled, self._driver.gate.lock:
            others = [*scheduler.queue, *scheduler.committed_tickets.values()]
            wanted_by_others = any(other.tag == tag for other in others)
        if not wanted_by_others:
            with self._lock:
                self._given_up = True
                worker = self._loading
            if worker is not None:
                worker.kill()

    def placed_on(self, device: DeviceDescription) -> PendingRequest:
        """Note on which device the copy was placed; called by the manager before the load."""
        self._placed = device
        return self

    def __call__(self) -> Worker:
        """Load; called by the manager in the thread that acquires."""
        worker = self._settings.start(self._spec, self._placed)
        try:
            with self._lock:
                self._loading = worker
                given_up = self._given_up
            if given_up:
                raise WorkerError(f"loading {self._spec.tag!r} was given up: its client is gone")  # noqa: TRY301 - one place clears away
            worker.load(timeout_s=self._settings.load_timeout_s)
        except BaseException:
            worker.kill()
            with contextlib.suppress(WorkerError):  # the kernel still has it; the first one counts
                worker.close()
            raise
        finally:
            with self._lock:
                self._loading = None
        return worker

    def _ticketed(self, ticket_num: int) -> None:
        with self._lock:
            self._ticket = ticket_num
            cancelled = self.cancelled
        if cancelled:
            self._driver.cancel(ticket_num)
