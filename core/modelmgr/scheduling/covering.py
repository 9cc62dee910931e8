"""The cheapest set of victims that frees enough: a minimum knapsack cover, solved exactly.

Choose S with Σ size ≥ need so that Σ value is least; among equals the sum of the items' ``ties``
decides (compared place by place), then fewer items, then the earlier ones in the caller's order.
Branch and bound over items by value per byte with the fractional relaxation as the bound (Martello
& Toth, *Knapsack Problems*, 1990, ch. 2): a dozen idle copies take microseconds. Past
``node_limit`` nodes the best set found so far is returned, which is never worse than the greedy
one. No clock and no randomness: the same items give the same set.
"""

from __future__ import annotations

from collections.abc import Sequence

_NODE_LIMIT = 20_000


def cheapest_cover(
    sizes: Sequence[int],
    values: Sequence[float],
    need: int,
    *,
    ties: Sequence[tuple[int, ...]] = (),
    node_limit: int = _NODE_LIMIT,
) -> tuple[int, ...] | None:
    """Return the indices of the least valuable items whose sizes reach ``need``.

    Args:
        sizes: bytes, positive; an item of size 0 is never chosen.
        values: what losing each item costs, finite and not negative.
        need: bytes to free; 0 or less needs nothing.
        ties: what decides among sets of equal value, one tuple an item; none says nothing.
        node_limit: how many nodes to look at before the best set so far is taken.

    Returns:
        Indices in ascending order; None where even all items do not suffice.
    """
    if need <= 0:
        return ()
    if sum(sizes) < need:
        return None
    usable = [i for i, size in enumerate(sizes) if size > 0]
    # Cheapest bytes first, so that the first descent is the greedy set and the bound is tight.
    order = sorted(usable, key=lambda i: (values[i] / sizes[i], i))
    best = _pruned_greedy(sizes, values, order, need)
    search = _Search(sizes, values, ties, order, best, node_limit)
    search.descend(0, need, 0.0, ())
    return tuple(sorted(search.best))


def without_needless(sizes: Sequence[int], chosen: Sequence[int], need: int) -> tuple[int, ...]:
    """Leave out, from the last chosen to the first, every item that the rest can do without."""
    kept = list(chosen)
    spare = sum(sizes[i] for i in kept) - need
    for i in reversed(chosen):
        if sizes[i] <= spare:
            kept.remove(i)
            spare -= sizes[i]
    return tuple(kept)


def first_that_suffice(sizes: Sequence[int], need: int) -> tuple[int, ...] | None:
    """Return the shortest prefix whose sizes reach ``need``, None where all do not."""
    freed = 0
    for count, size in enumerate(sizes):
        if freed >= need:
            return tuple(range(count))
        freed += size
    return tuple(range(len(sizes))) if freed >= need else None


def _pruned_greedy(
    sizes: Sequence[int], values: Sequence[float], order: Sequence[int], need: int
) -> tuple[int, ...]:
    chosen: list[int] = []
    freed = 0
    for i in order:
        if freed >= need:
            break
        chosen.append(i)
        freed += sizes[i]
    dearest_last = sorted(chosen, key=lambda i: (values[i], sizes[i]))
    return without_needless(sizes, dearest_last, need)


class _Search:
    """Depth-first branch and bound over one instance."""

    def __init__(  # noqa: PLR0917 - the instance, as it was given
        self,
        sizes: Sequence[int],
        values: Sequence[float],
        ties: Sequence[tuple[int, ...]],
        order: Sequence[int],
        best: tuple[int, ...],
        node_limit: int,
    ) -> None:
        self._sizes = sizes
        self._values = values
        self._ties = ties
        self._order = order
        self._nodes_left = node_limit
        self.best = best
        self._best_key = self._key(best)
        # The bytes that items from a place on can still free.
        self._rest = [0] * (len(order) + 1)
        for place in range(len(order) - 1, -1, -1):
            self._rest[place] = self._rest[place + 1] + sizes[order[place]]

    def _key(self, chosen: tuple[int, ...]) -> tuple[float, tuple[int, ...], int, tuple[int, ...]]:
        ordered = tuple(sorted(chosen))
        ties = [self._ties[i] for i in ordered] if self._ties else []
        summed = tuple(sum(place) for place in zip(*ties, strict=True))
        return sum(self._values[i] for i in ordered), summed, len(ordered), ordered

    def descend(self, place: int, need: int, value: float, chosen: tuple[int, ...]) -> None:
        """Decide about the item at ``place`` of the order, taking it first."""
        if need <= 0:
            key = self._key(chosen)
            if key < self._best_key:
                self.best, self._best_key = chosen, key
            return
        if self._nodes_left <= 0 or self._rest[place] < need:
            return
        self._nodes_left -= 1
        if value + self._bound(place, need) > self._best_key[0]:
            return
        item = self._order[place]
        self.descend(
            place + 1, need - self._sizes[item], value + self._values[item], (*chosen, item)
        )
        self.descend(place + 1, need, value, chosen)

    def _bound(self, place: int, need: int) -> float:
        """Return the least value any fraction-wise cover of the rest could have."""
        bound = 0.0
        for item in self._order[place:]:
            size = self._sizes[item]
            if size >= need:
                return bound + self._values[item] * need / size
            bound += self._values[item]
            need -= size
        return bound
