"""What a guess without loading says about fitting: certain yes, certain no, or nothing. Pure."""

from __future__ import annotations

import msgspec

from modelmgr.workers.reports import EstimateReport

# Parameters are counted exactly by these methods; a file's size is not what ends up in memory.
_CERTAIN_METHODS = frozenset({"fake-tensor", "declared"})
# Fake tensors are within 1.5 % of the true activation peak; a tenth less is certain.
_CERTAIN_ACTIVATION_SHARE = 0.9
# A framework in its process took up to 300 MiB, and activations with the default allocator up to
# 2.2 times the live tensors: with both allowed for, a yes is a yes.
_RUNTIME_ALLOWANCE_BYTES = 512 * 1024**2
_ACTIVATION_ALLOWANCE = 2.5


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model fits: True and False are certain, None is not.

    ``least_bytes`` is what it needs at the very least, None where the guess is not certain.
    """

    fits: bool | None
    least_bytes: int | None


def fit_from_guess(estimate: EstimateReport, *, limit_bytes: int) -> Fit:
    """Return what a guess says about fitting a limit, bytes."""
    if estimate.method not in _CERTAIN_METHODS or estimate.weights_bytes is None:
        return Fit(fits=None, least_bytes=None)
    known = [value for value in estimate.activation_bytes if value is not None]
    activation_bytes = max(known, default=0)
    least_bytes = estimate.weights_bytes + int(_CERTAIN_ACTIVATION_SHARE * activation_bytes)
    if least_bytes > limit_bytes:
        return Fit(fits=False, least_bytes=least_bytes)
    most_bytes = (
        estimate.weights_bytes
        + int(_ACTIVATION_ALLOWANCE * activation_bytes)
        + _RUNTIME_ALLOWANCE_BYTES
    )
    complete = len(known) == len(estimate.activation_bytes)
    return Fit(
        fits=True if complete and most_bytes <= limit_bytes else None, least_bytes=least_bytes
    )


def least_bytes_of_shapes(estimate: EstimateReport, *, count: int) -> tuple[int | None, ...]:
    """Return what each of ``count`` shapes needs at the very least, bytes; None is not certain."""
    if estimate.method not in _CERTAIN_METHODS or estimate.weights_bytes is None:
        return (None,) * count
    activations = (*estimate.activation_bytes, *(None,) * count)[:count]
    return tuple(
        estimate.weights_bytes + int(_CERTAIN_ACTIVATION_SHARE * (activation_bytes or 0))
        for activation_bytes in activations
    )
