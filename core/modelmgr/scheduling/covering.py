"""The cheapest set of victims that frees enough: a minimum knapsack cover, solved exactly.

Choose S with Σ size ≥ need so that Σ value is least; among equals the sum of the items' ``ties``
decides (compared place by place), then fewer items, then the earlier ones in the caller's order
(the least sum of places). All of this is folded into one integer weight an item, value in the
highest digits, so that what is searched for is a plain sum and two sets never compare equal by
accident of rounding.

Branch and bound over items by weight per byte with the fractional relaxation as the bound (Martello
& Toth, *Knapsack Problems*, 1990, ch. 2): a dozen idle copies take microseconds. Past
``node_limit`` nodes the best set found so far is returned, which is never worse than the greedy
one. No clock and no randomness: the same items give the same set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

_NODE_LIMIT: Final = 20_000
# Steps of the largest value: finer differences than a millionth of a millionth are not told apart.
_FINE: Final = 1 << 40
# Two steps: values that differ by more are told apart, however they are rounded.
_APART: Final = 2 / _FINE
# What is worth the same may be rounded to no more than so many times as much.
_ROUNDED: Final = 1 + 1e-9


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
    positive = [i for i in affordable(sizes, values, need) if sizes[i] > 0]
    if not positive:
        return None
    if min([sizes[i] for i in positive]) >= need:
        # Any one suffices, and none is worth a second.
        return (lightest(positive, values, lambda i: (ties[i] if ties else (), i)),)
    weigh = _weights([values[i] for i in positive], [ties[i] for i in positive] if ties else ())
    weights = dict(zip(positive, weigh, strict=True))
    # Cheapest bytes first, so that the first descent is the greedy set and the bound is tight.
    order = sorted(positive, key=lambda i: (weights[i] * _FINE // sizes[i], i))
    found = _search([sizes[i] for i in order], [weights[i] for i in order], need, node_limit)
    return tuple(sorted([order[place] for place in found]))


def by_value(sizes: Sequence[int], values: Sequence[float], need: int) -> list[float]:
    """Return the values of the least valuable items that suffice together, ascending.

    Whatever the order of the items. Empty where all of them do not suffice.
    """
    if sum(sizes) < need:
        return []
    taken: list[float] = []
    missing = need
    for i in sorted(range(len(sizes)), key=lambda i: (values[i], -sizes[i])):
        if missing <= 0:
            break
        taken.append(values[i])
        missing -= sizes[i]
    return taken


def affordable(sizes: Sequence[int], values: Sequence[float], need: int) -> list[int]:
    """Return the items that the cheapest set can have: none is worth more than a set that suffices.

    Empty where all do not suffice.
    """
    enough = by_value(sizes, values, need)
    if not enough:
        return []
    most = sum(enough) * _ROUNDED
    return [i for i, value in enumerate(values) if value <= most]


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


def _whole_weights(values: Sequence[float]) -> list[int]:
    """Return values in whole steps of the largest: what is finer is not told apart."""
    largest = max(values)
    scale = _FINE / largest if largest > 0 else 0.0
    return [round(value * scale) for value in values]


def lightest(
    items: Sequence[int], values: Sequence[float], tie: Callable[[int], tuple[object, ...]]
) -> int:
    """Return the item that is the cheapest cover by itself; ``tie`` orders those of equal value."""
    worth = [values[i] for i in items]
    near = min(worth) + max(worth) * _APART
    places = [i for i in items if values[i] <= near]
    if len(places) == 1:
        return places[0]
    weights = dict(zip(items, _whole_weights(worth), strict=True))
    return min(places, key=lambda i: (weights[i], tie(i)))


def _weights(values: Sequence[float], ties: Sequence[tuple[int, ...]]) -> list[int]:
    """Return one integer an item whose sums order sets as the module says."""
    count = len(values)
    weights = _whole_weights(values)
    for place in range(len(ties[0]) if ties else 0):
        digit = count * max(tie[place] for tie in ties) + 1
        weights = [w * digit + tie[place] for w, tie in zip(weights, ties, strict=True)]
    # Fewer items, then smaller places: their sum stays below count squared.
    return [(w * (count + 1) + 1) * (count * count + 1) + i for i, w in enumerate(weights)]


def _search(
    sizes: Sequence[int], weights: Sequence[int], need: int, nodes_left: int
) -> tuple[int, ...]:
    """Return the places of the lightest set that suffices; items come by weight per byte."""
    # The bytes that items from a place on can still free.
    rest = [0] * (len(sizes) + 1)
    for place in range(len(sizes) - 1, -1, -1):
        rest[place] = rest[place + 1] + sizes[place]
    greedy = first_that_suffice(sizes, need) or ()
    by_weight = sorted(greedy, key=lambda i: (weights[i], sizes[i]))
    best = without_needless(sizes, by_weight, need)
    best_weight = sum([weights[i] for i in best])
    stack: list[tuple[int, int, int, tuple[int, ...]]] = [(0, need, 0, ())]
    while stack:
        place, missing, weight, chosen = stack.pop()
        if missing <= 0:
            if weight < best_weight:
                best, best_weight = chosen, weight
            continue
        if nodes_left <= 0 or rest[place] < missing:
            continue
        nodes_left -= 1
        # The least weight that any cover of what is missing could have, the last item in part.
        bound, left, item = weight, missing, place
        while sizes[item] < left:
            bound += weights[item]
            left -= sizes[item]
            item += 1
        if bound + weights[item] * left // sizes[item] >= best_weight:
            continue
        whole = bound + weights[item]
        if whole < best_weight:
            best, best_weight = (*chosen, *range(place, item + 1)), whole
        if sizes[item] == left:
            continue  # no item in part: nothing below is lighter
        stack.append((place + 1, missing, weight, chosen))
        stack.append((place + 1, missing - sizes[place], weight + weights[place], (*chosen, place)))
    return best
