"""What admission counts for a model, from what the estimator believes. Pure."""

from __future__ import annotations

from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.scheduling.copies import ModelCosts


def from_estimate(
    estimate: CostEstimate | None, load_ns: int | None = None, *, most_bytes: int | None = None
) -> ModelCosts | None:
    """Return what the estimator believes as admission uses it: the upper figure is the peak.

    Args:
        estimate: of one model.
        load_ns: how long its last load took.
        most_bytes: the largest limit of any device. Where the model itself fits there, the margin
            above it must not make it one that never fits: it was seen to run.
    """
    if estimate is None:
        return None
    peak = max(estimate.upper_bytes, estimate.peak_bytes)
    if most_bytes is not None and estimate.peak_bytes <= most_bytes:
        peak = min(peak, most_bytes)
    resident = peak if estimate.resident_bytes is None else min(estimate.resident_bytes, peak)
    return ModelCosts(resident_bytes=resident, peak_bytes=peak, load_ns=load_ns)
