"""Which combination of models is worth observing next.

Candidates are one copy, two copies, or a pair: small, so that they are likely to fit. Among them
the one that would remove most uncertainty is proposed (``estimation.identifiability``): while some
models cannot be told apart, one that tells them apart; then one for the model that is known least.
Ties go to fewer copies, then by name, so that the answer is the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelmgr.estimation.quantiles import normal_quantile
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.statistics import FOREIGN_COLUMN, active_column

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from modelmgr.estimation.fit import Fit, ModelFit

GOOD_ENOUGH = 0.05  # half a 95 % interval over its figure from which there is nothing left to learn
_MOST_OPEN = 8  # models that pairs are built around
_SAME_GAIN = 1e-3


def propose(
    fit: Fit,
    names: list[str],
    unknown: AbstractSet[int],
    uppers: Mapping[int, float] | None,
    limit_bytes: float | None,
) -> Mapping[str, int] | None:
    """Return the copies to have at work in the next observation, None if all is known well.

    Args:
        fit: the latest.
        names: index to model.
        unknown: the models that are not yet trusted, however well they are determined.
        uppers: what one copy may take, by index, bytes; None without a limit.
        limit_bytes: what all of them and the memory of others must fit.
    """
    openness = {
        index: float("inf") if index in unknown else _openness(model)
        for index, model in fit.models.items()
    }
    open_models = sorted(
        (index for index, much in openness.items() if much > GOOD_ENOUGH),
        key=lambda index: (-openness[index], names[index]),
    )[:_MOST_OPEN]
    candidates: list[dict[int, int]] = []
    everything = sorted(fit.models, key=lambda index: names[index])
    for index in open_models:
        candidates += [{index: 1}, {index: 2}]
        candidates += [{index: 1, other: 1} for other in everything if other != index]
    if uppers is not None and limit_bytes is not None:
        room = limit_bytes - fit.column_costs[0]
        candidates = [
            candidate
            for candidate in candidates
            if sum(uppers[index] * count for index, count in candidate.items()) <= room
        ]
    if not candidates:
        return None
    numbers: list[int] = []
    columns: list[int] = []
    counts: list[float] = []
    for number, candidate in enumerate(candidates):
        numbers += [number] * (len(candidate) + 1)
        columns += (FOREIGN_COLUMN, *(active_column(index) for index in candidate))
        counts += (1.0, *candidate.values())
    shape = (len(candidates), len(fit.column_costs))
    counted = SparseRows(np.array(numbers), np.array(columns), np.array(counts), shape)
    gains = fit.information.gain(fit.layout.rows(counted))
    enough = float(gains.max()) * (1.0 - _SAME_GAIN)
    best = min(
        (candidate for candidate, gain in zip(candidates, gains, strict=True) if gain >= enough),
        key=lambda candidate: (
            sum(candidate.values()),
            sorted((names[index], count) for index, count in candidate.items()),
        ),
    )
    return {names[index]: best[index] for index in sorted(best, key=lambda index: names[index])}


def _openness(model: ModelFit) -> float:
    """Return half the 95 % interval over the figure, infinity for one that is not determined."""
    if not model.determined or model.peak_sd is None:
        return float("inf")
    side = normal_quantile(0.975) * model.peak_sd
    return side / model.peak if model.peak > 0.0 else 0.0
