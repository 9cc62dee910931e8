"""Single jobs of copies in processes of their own, measured exactly: by the kernel's own peak.

Readings see a short job seldom and its peak hardly ever; the kernel keeps it. Restarting and
reading it takes as long as a lease through a socket does, so one job in a while is measured and not
each.
"""

from __future__ import annotations

import time
from contextlib import suppress

from modelmgr.devices.process_memory import reset_peak
from modelmgr.errors import ReadingError
from modelmgr.runtime.learning import UseLearner
from modelmgr.runtime.loaded import Loaded
from modelmgr.runtime.measurement import own_costs


class OwnPeaks:
    """Tells a learner what jobs took. For copies that are held: one thread at a time for each.

    Args:
        learner: is told.
        period_ns: of one copy's jobs, one in so long is measured.
    """

    def __init__(self, learner: UseLearner, *, period_ns: int) -> None:
        self._learner = learner
        self._period_ns = period_ns

    def begin(self, loaded: Loaded) -> None:
        """Let a copy's peak start anew, if it is time to measure one of its jobs."""
        now_ns = time.monotonic_ns()
        if now_ns < loaded.peak_due_ns or loaded.pid is None:
            return
        loaded.peak_due_ns = now_ns + self._period_ns
        if callable(getattr(loaded.instance, "memory", None)):
            with suppress(ReadingError):  # it died: its holder will notice
                loaded.peak_restarted = reset_peak(loaded.pid)

    def end(self, loaded: Loaded) -> None:
        """Tell what the job that ends took, where it was measured."""
        loaded.peak_restarted = False
        if _has_descendants(loaded):
            return  # the kernel's peak is of one process alone
        figures = own_costs(loaded.instance)
        if figures is not None:
            self._learner.job_measured(loaded.tag, None, figures.peak_bytes)


def _has_descendants(loaded: Loaded) -> bool:
    read = getattr(loaded.instance, "descendant_memory", None)
    if not callable(read):
        return False
    try:
        return bool(getattr(read(), "processes", 0))
    except ReadingError:
        return True
