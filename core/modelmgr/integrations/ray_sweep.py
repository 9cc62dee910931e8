"""Run the rows of a sweep on a Ray cluster (extra ``ray``), by Ray's public API alone.

Every node needs the same modelmgr: a row is pickled there and back. Ray is imported when a runner
is made, so that a missing package is said before anything is computed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from modelmgr.errors import UsageError
from modelmgr.records.sweep import SweepRow
from modelmgr.simulation.sweep import SweepTask, run_row

_BETWEEN_LOOKS_S = 0.1
_AHEAD = 2
"""Rows handed over for each core: enough to keep it busy, few to take back."""


class RayRunner:
    """A ``RowRunner`` on a Ray cluster.

    Args:
        address: as ``ray.init`` has it: ``auto``, ``local``, ``HOST:PORT``, ``ray://HOST:PORT``.
        work: what each task does; the default simulates it.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(
        self, address: str, *, work: Callable[[SweepTask], SweepRow | None] = run_row
    ) -> None:
        self._address = address
        self._work = work
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise UsageError(
                "Ray is not installed\ninstall it: pip install 'modelmgr[ray]'"
            ) from error

    def __call__(self, tasks: Sequence[SweepTask], stop: Callable[[], bool]) -> Iterator[SweepRow]:
        """Connect, yield rows as they are done, and let go of the cluster."""
        ray = self._ray
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or ["no more is known"])[0]
            raise UsageError(f"Ray at {self._address!r} cannot be reached: {reason}") from error
        try:
            yield from self._rows(tasks, stop)
        finally:
            ray.shutdown()

    def _rows(self, tasks: Sequence[SweepTask], stop: Callable[[], bool]) -> Iterator[SweepRow]:
        ray = self._ray
        # No second try: a row that kills its worker would kill the next one as well.
        remote = ray.remote(max_retries=0)(self._work)
        most = max(1, int(ray.cluster_resources().get("CPU", 1))) * _AHEAD
        waiting = iter(tasks)
        running: dict[Any, SweepTask] = {}
        try:
            while not stop():
                while len(running) < most and (task := next(waiting, None)) is not None:
                    running[remote.remote(task)] = task
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1, timeout=_BETWEEN_LOOKS_S)
                for reference in done:
                    row = self._row(reference, running.pop(reference))
                    if row is not None:
                        yield row
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _row(self, reference: Any, task: SweepTask) -> SweepRow | None:  # noqa: ANN401 - Ray's
        try:
            row: SweepRow | None = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = (str(error).splitlines() or ["no more is known"])[0]
            return task.failed(type(error).__name__, reason)
        return row
