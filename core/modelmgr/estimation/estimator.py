"""The resource estimator: what each model costs, from what it was told, measured and observed.

Three sources, in the order in which they win:

* **aggregate**: readings of a device's whole use while several models were loaded, told apart by
  regression (``estimation.fit``), once ``min_data_points`` readings were taken, the model was in
  three of them, they determine its cost, and their spread says that the figure is worth something;
* **isolation**: measurements of one copy alone (``estimation.isolation``), and what copies in
  processes of their own were seen to hold (``estimation.own_use``);
* **preload**: a figure from a cost database.

The weaker ones are priors of the stronger: they decide what readings leave open, and give way where
readings speak. Until then they stand exactly as they were. A model with none of the three is
unknown.

What a caller sees is *published*, by these rules:

* Only a model that occurs in new observations is published anew; all others keep their estimate to
  the bit, however the regression moves. (A model that was unknown can become known by observations
  of those that it was confused with: it has no estimate that could change.)
* Where the regression's figure contradicts the published one, it is approached by exponential
  smoothing: each observation of the model takes it ``smoothing_factor`` of the remaining way. The
  first figure of an unknown model, and one that only refines what is published, is taken whole.
  ``upper_bytes`` never waits for the smoothing to go up.
* Observing never solves: a log that is full gives its oldest reading to sums
  (``estimation.overflow``). The regression is solved when somebody asks, and only if what came
  since could matter: something new (a combination of a model not yet settled), an eighth more
  readings, or several readings that the last solution does not explain.

No clock, no files, no threads: a driver that shares an estimator between threads locks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelmgr.arguments import as_whole, check_positive
from modelmgr.errors import UsageError
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.estimation.isolation import RELATIVE_SD, IsolationSamples
from modelmgr.estimation.overflow import Overflow
from modelmgr.estimation.own_use import OwnUse
from modelmgr.estimation.publication import (
    Published,
    from_fit,
    from_isolation,
    from_preload,
    with_own_use,
)
from modelmgr.estimation.statistics import (
    ObservationLog,
    Row,
    check_bytes,
    check_tag,
    checked_counts,
)
from modelmgr.units import MIB

if TYPE_CHECKING:
    from modelmgr.estimation.belief import Belief
    from modelmgr.estimation.fit import Fit, Term
    from modelmgr.estimation.spd import FloatArray

PRELOAD_RELATIVE_SD = 0.10  # another machine's figure, or an upper one: readings soon outweigh it
FEWEST_OF_ONE_MODEL = 3  # one spiked reading of three is outvoted, of two it is not
_SURPRISE_SCALES = 4.5  # the regression gives such a reading no weight
_JOBS_AFTER_FAILURE = 20  # own processes' jobs after which an out-of-memory figure is put aside


class ResourceEstimator:
    """Learn what each model costs; MB at this edge are MiB, as nvidia-smi's are.

    Attributes:
        smoothing_factor: share of the way that one observation takes a published estimate.
        min_data_points: readings needed before an unknown model is trusted to the regression.
        verbose_logging: kept for drivers, which do the logging.

    Raises:
        UsageError: a number makes no sense.
    """

    def __init__(
        self,
        smoothing_factor: float = 0.2,
        min_data_points: int = 5,
        verbose_logging: bool = False,
    ) -> None:
        check_positive("smoothing_factor", smoothing_factor)
        if smoothing_factor > 1.0:
            raise UsageError(f"smoothing_factor must be in (0, 1], not {smoothing_factor!r}")
        self.smoothing_factor = smoothing_factor
        self.min_data_points = as_whole("min_data_points", min_data_points, least=1)
        self.verbose_logging = verbose_logging
        self._log = ObservationLog()
        self._belief: Belief | None = None
        self._fit: Fit | None = None
        self._fitted_total = 0
        self._checked_rows = 0
        self._surprises = 0
        self._is_stale = False
        self._preloads: dict[str, float] = {}
        self._isolation: dict[str, IsolationSamples] = {}
        self._own: dict[str, OwnUse] = {}
        self._floors: dict[str, float] = {}
        self._floor_jobs: dict[str, int] = {}
        self._overflow = Overflow()
        self._published: dict[str, Published] = {}
        self._published_at: dict[str, int] = {}

    # The original's surface: MB.

    def is_unknown(self, tag: str) -> bool:
        """Tell whether no preload, isolation run or set of observations says what ``tag`` costs."""
        published = self._view(tag)
        if published is not None and published.known:
            return False
        self._refresh()
        published = self._view(tag)
        return published is None or not published.known

    def get_estimate(self, tag: str, default_mb: float = 4000.0) -> float:
        """Return the peak of one copy in MB, ``default_mb`` for an unknown model.

        It is not below what a copy had when it ran out of memory.
        """
        self._refresh()
        published = self._view(tag)
        if published is None or not published.known:
            return default_mb
        return max(published.peak, self._floors.get(tag, 0.0)) / MIB

    def set_initial_estimate(self, tag: str, cost_mb: float) -> None:
        """Preload what one copy of ``tag`` costs, in MB; it replaces the published estimate.

        Raises:
            ValueError: the tag is no text, the cost is NaN, infinite, negative or 0; nothing was
                changed.
        """
        check_tag(tag)
        size = check_bytes(f"initial estimate (MB) of {tag!r}", cost_mb, MIB)
        self._preloads[tag] = size
        self._published[tag] = from_preload(size)
        self._published_at[tag] = self._observations(tag)

    def add_observation(self, active_snapshot: Mapping[str, int], peak_memory_mb: float) -> None:
        """Take the peak of a device's whole use while ``active_snapshot`` copies were at work.

        Args:
            active_snapshot: copies at work, by model; counts of 0 are passed over.
            peak_memory_mb: MB of the whole device, other processes' memory included.

        Raises:
            ValueError: an empty snapshot or one that counts no copy, a tag that is no text, a count
                that is negative or no whole number, a peak that is NaN, infinite, negative or 0;
                nothing was changed.
        """
        active = checked_counts("active", active_snapshot)
        size = check_bytes("peak (MB)", peak_memory_mb, MIB)
        self._log.add_active(active, size)
        self._keep_bounded()

    # Ours: bytes.

    def observe(
        self,
        loaded: Mapping[str, int],
        active: Mapping[str, int],
        peak_bytes: int,
        *,
        resident_bytes: int | None = None,
    ) -> None:
        """Take a reading that knows which copies were idle: they cost what they are resident with.

        Args:
            loaded: copies on the device during the window, by model.
            active: those of them that were at work in it; none is fine.
            peak_bytes: the peak of the device's whole use in the window.
            resident_bytes: the device's whole use while all of ``loaded`` rested, where known.

        Raises:
            ValueError: as for ``add_observation``, and for more copies active than loaded.
        """
        loaded = checked_counts("loaded", loaded)
        if any(active.values()):
            active = checked_counts("active", active)
        for tag, count in active.items():
            if count > loaded.get(tag, 0):
                raise ValueError(f"{count} copies of {tag!r} active, {loaded.get(tag, 0)} loaded")
        peak = check_bytes("peak", peak_bytes)
        resting = None if resident_bytes is None else check_bytes("resident", resident_bytes)
        self._log.add_loaded(loaded, active, peak, resting)
        self._keep_bounded()

    def observe_foreign(self, used_bytes: int) -> None:
        """Take a reading of the device while nothing of ours was loaded; 0 is a fine reading."""
        size = 0.0 if used_bytes == 0 else check_bytes("foreign use", used_bytes)
        self._log.add_foreign(size)
        self._keep_bounded()

    def record_isolation(
        self, tag: str, resident_bytes: int | None, peak_bytes: int, weight: float = 1.0
    ) -> None:
        """Take a direct measurement of one copy, its own memory alone.

        Args:
            tag: the model.
            resident_bytes: loaded and at rest, None where not measured.
            peak_bytes: while it worked.
            weight: how many plain measurements it is worth.

        Raises:
            ValueError: the tag is no text, a figure or the weight is not positive and finite;
                nothing was changed.
        """
        check_tag(tag)
        peak = check_bytes(f"peak of {tag!r}", peak_bytes)
        resident = None
        if resident_bytes is not None:
            resident = check_bytes(f"resident size of {tag!r}", resident_bytes)
        worth = check_bytes("weight", weight)
        self._refresh()  # whether readings already know it decides what this measurement changes
        samples = self._isolation.setdefault(tag, IsolationSamples())
        samples.add(resident, peak, worth)
        self._log.observations[self._log.index(tag)] += 1
        self._drop_floor(tag)
        published = self._published.get(tag)
        if published is not None and published.source == "aggregate":
            self._is_stale = True
            return
        self._published[tag] = from_isolation(samples)
        self._published_at[tag] = self._observations(tag)

    def record_own_use(
        self,
        tag: str,
        *,
        peak_bytes: int | None = None,
        resident_bytes: int | None = None,
        whole_job: bool = False,
    ) -> None:
        """Take what one copy's own process was seen to hold.

        Args:
            tag: the model.
            peak_bytes: the most that it held while it worked; ``upper_bytes`` is above at once.
            resident_bytes: what it held while it rested.
            whole_job: ``peak_bytes`` is the peak of a job that was watched to its end; only such
                jobs say what is typical, and let ``upper_bytes`` fall.

        Raises:
            ValueError: the tag is no text, a figure is not positive and finite; nothing was
                changed.
        """
        check_tag(tag)
        peak = None if peak_bytes is None else check_bytes(f"own peak of {tag!r}", peak_bytes)
        resident = None
        if resident_bytes is not None:
            resident = check_bytes(f"own resident size of {tag!r}", resident_bytes)
        own = self._own.setdefault(tag, OwnUse())
        if resident is not None:
            own.residents.add(resident, whole=True)
        if peak is None:
            return
        own.peaks.add(peak, whole=whole_job)
        if not whole_job:
            return
        own.jobs += 1
        if tag in self._floors:
            self._floor_jobs[tag] = self._floor_jobs.get(tag, _JOBS_AFTER_FAILURE) - 1
            if self._floor_jobs[tag] <= 0:
                self._drop_floor(tag)

    def record_out_of_memory(self, tag: str, at_least_bytes: int) -> None:
        """Note that one copy needed more than this.

        ``upper_bytes`` stays above until an isolation run or 20 whole jobs in processes of their
        own have measured it.

        Raises:
            ValueError: the tag is no text, the figure is not positive and finite; nothing was
                changed.
        """
        check_tag(tag)
        size = check_bytes(f"demand of {tag!r}", at_least_bytes)
        self._floors[tag] = max(size, self._floors.get(tag, 0.0))
        self._floor_jobs.pop(tag, None)

    def estimate(self, tag: str) -> CostEstimate | None:
        """Return all that is known of ``tag``; None where it was never heard of."""
        self._refresh()
        published = self._view(tag)
        floor = self._floors.get(tag, 0.0)
        if published is None:
            if not floor:
                return None
            reason = "ran out of memory before it was ever measured"
            return CostEstimate(None, int(floor), int(floor), None, "prior", 0, False, reason)
        return CostEstimate(
            None if published.resident is None else round(published.resident),
            round(published.peak),
            math.ceil(max(published.upper, floor)),
            published.interval,
            published.source,
            self._observations(tag) + (self._own[tag].jobs if tag in self._own else 0),
            published.identified,
            published.reason,
            None if published.resident_upper is None else math.ceil(published.resident_upper),
            None if published.seen is None else math.ceil(published.seen),
        )

    def learned(self) -> dict[str, CostEstimate]:
        """Return what observations and isolation runs taught, by model.

        A preload is in it only where more was seen than it says.
        """
        self._refresh()
        learned: dict[str, CostEstimate] = {}
        for tag in sorted(self._published.keys() | self._own.keys()):
            published = self._view(tag)
            if published is None or not published.known:
                continue
            if published.source != "preload" or (published.seen or 0.0) > published.peak:
                estimate = self.estimate(tag)
                if estimate is not None:
                    learned[tag] = estimate
        return learned

    def next_observation(self, limit_bytes: int | None = None) -> Mapping[str, int] | None:
        """Return the combination of active copies that would teach most; None if nothing is open.

        Args:
            limit_bytes: propose only what fits it, by ``upper_bytes`` and the memory of others.
        """
        if not self._log.rows:
            return None
        self._refresh()
        if self._fit is None or self._fitted_total != self._log.total:
            self._solve()
        fit = self._fit
        if fit is None:
            return None
        from modelmgr.estimation.proposal import propose  # noqa: PLC0415  numpy, only when asked

        uppers: dict[int, float] | None = None
        if limit_bytes is not None:
            uppers = {index: self._published[self._log.names[index]].upper for index in fit.models}
        unknown = {
            index for index in fit.models if not self._published[self._log.names[index]].known
        }
        return propose(fit, self._log.names, unknown, uppers, limit_bytes)

    def isolation_runs(self, tag: str) -> int:
        """Return how many isolation runs of ``tag`` were recorded."""
        samples = self._isolation.get(tag)
        return 0 if samples is None else samples.runs

    @property
    def kept_readings(self) -> int:
        """How many readings are kept as they are; older ones are in a matrix of fixed size."""
        return len(self._log.rows)

    @property
    def most_kept_readings(self) -> int:
        """What ``kept_readings`` never exceeds; it grows with the number of models alone."""
        return 2 * self._log.capacity

    # How it is kept up.

    def _observations(self, tag: str) -> int:
        index = self._log.tags.get(tag)
        return 0 if index is None else self._log.observations[index]

    def _view(self, tag: str) -> Published | None:
        """Return what is published, with what copies in processes of their own were seen to do."""
        published = self._published.get(tag)
        own = self._own.get(tag)
        return published if own is None else with_own_use(published, own)

    def _drop_floor(self, tag: str) -> None:
        self._floors.pop(tag, None)
        self._floor_jobs.pop(tag, None)

    def _keep_bounded(self) -> None:
        rows = self._log.rows
        if len(rows) > 2 * self._log.capacity:
            oldest = rows.pop(0)
            self._overflow.add(oldest, self._weight(oldest))
            self._checked_rows = max(self._checked_rows - 1, 0)

    def _weight(self, row: Row) -> float:
        """Return 0 for a reading that the latest costs do not explain, 1 where they cannot tell."""
        fit = self._fit
        if fit is None:
            return 1.0
        left = row[2] - fit.column_costs[0]
        for column, count in zip(row[0], row[1], strict=True):
            if (column - 1) // 2 not in fit.models:
                return 1.0
            left -= count * fit.column_costs[column]
        return 1.0 if abs(left) < _SURPRISE_SCALES * fit.scale else 0.0

    def _refresh(self) -> None:
        if (self._log.total != self._fitted_total or self._is_stale) and self._should_solve():
            self._solve()

    def _should_solve(self) -> bool:
        log, fit = self._log, self._fit
        if log.total < self.min_data_points:
            return False
        if fit is None or self._is_stale:
            return True
        pending = log.total - self._fitted_total
        if pending >= min(self._fitted_total // 8 + 1, log.capacity):
            return True
        for columns, counts, value in log.rows[self._checked_rows :]:
            if columns and columns[-1] >= len(fit.column_costs):
                return True
            expected = fit.column_costs[0]
            for column, count in zip(columns, counts, strict=True):
                index = (column - 1) // 2
                if log.observations[index] <= 2 * self.min_data_points:
                    return True
                published = self._published.get(log.names[index])
                if (published is None or not published.identified) and (
                    columns,
                    counts,
                ) not in fit.configurations:
                    return True
                expected += count * fit.column_costs[column]
            if abs(value - expected) > _SURPRISE_SCALES * fit.scale:
                self._surprises += 1
        self._checked_rows = len(log.rows)
        return self._surprises >= FEWEST_OF_ONE_MODEL and 4 * self._surprises >= pending

    def _solve(self) -> None:
        from modelmgr.estimation.belief import Belief  # noqa: PLC0415  numpy: 0.15 s to import
        from modelmgr.estimation.fit import fit_log  # noqa: PLC0415  numpy: 0.15 s to import

        log = self._log
        belief = self._belief or Belief.empty()
        if self._overflow.count:
            belief = belief.with_overflow(self._overflow, log.columns, self._guess())
            self._overflow = Overflow()
        fit = fit_log(log, belief, self._terms())
        bounds: dict[int, float] | None = None
        for index in fit.models:
            tag = log.names[index]
            published = self._published.get(tag)
            known = published is not None and published.known
            if known and log.observations[index] == self._published_at.get(tag, 0):
                continue
            if not known and bounds is None:
                bounds = self._bounds()
            bound = 0.0 if known or bounds is None else bounds.get(index, fit.largest)
            self._publish(tag, index, fit, bound)
        self._belief = fit.belief
        del log.rows[: len(log.rows) - fit.kept_rows]
        self._fit = fit
        self._fitted_total = log.total
        self._checked_rows = len(log.rows)
        self._surprises = 0
        self._is_stale = False

    def _guess(self) -> FloatArray:
        """Return where to look for costs that no overflowed reading determines, by column."""
        import numpy as np  # noqa: PLC0415  0.15 s, and only a solution needs it

        known = [] if self._fit is None else self._fit.column_costs
        return np.array(known + [0.0] * (self._log.columns - len(known)))

    def _terms(self) -> list[Term]:
        from modelmgr.estimation.fit import Term  # noqa: PLC0415  numpy: 0.15 s to import

        terms: list[Term] = []
        for index, tag in enumerate(self._log.names):
            samples = self._isolation.get(tag)
            preload = self._preloads.get(tag)
            own = self._own.get(tag)
            if own is not None and own.says_what_is_typical:
                mean = own.peaks.typical
                sd = max(RELATIVE_SD * mean, own.peaks.largest - mean)
                terms.append(Term(index, resident=False, mean=mean, sd=sd, measured=True))
            elif samples is not None:
                peak, resident = samples.peak, samples.resident
                terms.append(
                    Term(index, resident=False, mean=peak.value, sd=peak.sd, measured=True)
                )
                if resident is not None:
                    terms.append(
                        Term(
                            index, resident=True, mean=resident.value, sd=resident.sd, measured=True
                        )
                    )
            elif preload is not None:
                sd = PRELOAD_RELATIVE_SD * preload
                terms.append(Term(index, resident=False, mean=preload, sd=sd, measured=False))
        return terms

    def _publish(self, tag: str, index: int, fit: Fit, bound: float) -> None:
        log = self._log
        seen = log.observations[index]
        needed = min(FEWEST_OF_ONE_MODEL, self.min_data_points)
        enough = log.total >= self.min_data_points and seen >= needed
        previous = self._published.get(tag)
        share = 1.0 - (1.0 - self.smoothing_factor) ** (seen - self._published_at.get(tag, 0))
        self._published[tag] = from_fit(
            fit.models[index],
            fit,
            previous=previous,
            share=share,
            shortage=None if enough else f"{seen} observations of it, {log.total} in all: too few",
            bound=bound,
        )
        self._published_at[tag] = seen

    def _bounds(self) -> dict[int, float]:
        """Return what one copy cannot exceed: the least reading per copy of those with it."""
        bounds: dict[int, float] = {}
        for columns, counts, value in self._log.rows:
            for column, count in zip(columns, counts, strict=True):
                if column % 2:  # copies at work
                    index = column // 2
                    bounds[index] = min(bounds.get(index, value), value / count)
        return bounds
