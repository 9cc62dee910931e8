"""The cheapest covering set is exact: no subset, tried one by one, is better."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.scheduling.covering import cheapest_cover, first_that_suffice, without_needless

ITEMS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=9)
NEEDS = st.integers(-3, 70)
OFTEN = settings(max_examples=400, deadline=None, derandomize=True)


def least_value(sizes: list[int], values: list[float], need: int) -> float | None:
    """Try every subset."""
    return min(
        (
            sum(values[i] for i in subset)
            for count in range(len(sizes) + 1)
            for subset in itertools.combinations(range(len(sizes)), count)
            if sum(sizes[i] for i in subset) >= need
        ),
        default=None,
    )


@given(items=ITEMS, need=NEEDS)
@OFTEN
def test_the_cover_is_as_cheap_as_the_best_of_all_subsets(
    items: list[tuple[int, int]], need: int
) -> None:
    sizes = [size for size, _ in items]
    values = [float(value) for _, value in items]
    found = cheapest_cover(sizes, values, need)
    best = least_value(sizes, values, need)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert sum(sizes[i] for i in found) >= need
    assert sum(values[i] for i in found) == best
    assert list(found) == sorted(set(found))
    assert all(sizes[i] > 0 for i in found)
    if need <= 0:
        assert found == ()


@given(
    items=st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 2), st.booleans(), st.booleans()), max_size=7
    ),
    need=st.integers(1, 30),
)
@OFTEN
def test_equal_values_are_decided_by_ties_then_count_then_places(
    items: list[tuple[int, int, bool, bool]], need: int
) -> None:
    sizes = [item[0] for item in items]
    found = cheapest_cover(
        sizes,
        [item[1] * 0.1 for item in items],
        need,
        ties=[(item[2], item[3]) for item in items],
    )

    def rank(subset: tuple[int, ...]) -> tuple[int, ...]:
        sums = [sum(items[i][column] for i in subset) for column in (1, 2, 3)]
        return (*sums, len(subset), sum(subset))

    enough = [
        subset
        for count in range(len(sizes) + 1)
        for subset in itertools.combinations(range(len(sizes)), count)
        if sum(sizes[i] for i in subset) >= need
    ]
    assert (found is None) == (not enough)
    if found is not None:
        assert rank(found) == min(map(rank, enough))


@given(items=ITEMS, need=st.integers(1, 70))
@OFTEN
def test_no_item_of_the_cover_is_needless(items: list[tuple[int, int]], need: int) -> None:
    sizes = [size for size, _ in items]
    found = cheapest_cover(sizes, [float(value) for _, value in items], need)
    for i in found or ():
        assert sum(sizes[other] for other in found or () if other != i) < need


@given(items=ITEMS, need=NEEDS, node_limit=st.integers(0, 6))
@OFTEN
def test_with_few_nodes_the_set_still_suffices_and_is_no_worse_than_greedy(
    items: list[tuple[int, int]], need: int, node_limit: int
) -> None:
    sizes = [size for size, _ in items]
    values = [float(value) for _, value in items]
    found = cheapest_cover(sizes, values, need, node_limit=node_limit)
    if sum(sizes) < need:
        assert found is None
        return
    assert found is not None
    assert sum(sizes[i] for i in found) >= need
    greedy: list[int] = []
    for i in sorted((i for i in range(len(sizes)) if sizes[i]), key=lambda i: values[i] / sizes[i]):
        if sum(sizes[j] for j in greedy) < need:
            greedy.append(i)
    assert sum(values[i] for i in found) <= sum(values[i] for i in greedy)


def test_many_worthless_items_are_decided_without_trying_every_subset() -> None:
    sizes = [7 + i % 5 for i in range(400)]
    found = cheapest_cover(sizes, [0.0] * 400, 500, node_limit=400)
    assert found is not None
    assert len(found) == -(-500 // 11)


def test_the_exact_set_beats_the_greedy_one() -> None:
    """Cheapest bytes first would take items 0 and 1; item 2 alone is cheaper than both."""
    assert cheapest_cover([6, 7, 10], [6.0, 7.7, 12.0], 10) == (2,)


def test_among_equal_sets_the_answer_is_the_same_each_time_and_has_fewest_items() -> None:
    assert cheapest_cover([5, 5, 5], [1.0, 1.0, 1.0], 5) == (0,)
    assert cheapest_cover([5, 5, 10], [1.0, 1.0, 2.0], 15) in {(0, 2), (1, 2)}


@given(sizes=st.lists(st.integers(0, 12), max_size=9), need=NEEDS)
@OFTEN
def test_the_prefix_is_the_shortest_that_suffices(sizes: list[int], need: int) -> None:
    found = first_that_suffice(sizes, need)
    shortest = next((n for n in range(len(sizes) + 1) if sum(sizes[:n]) >= need), None)
    assert found == (None if shortest is None else tuple(range(shortest)))


@given(sizes=st.lists(st.integers(0, 12), max_size=8), need=st.integers(0, 60))
@OFTEN
def test_what_is_left_suffices_and_nothing_of_it_can_be_spared(sizes: list[int], need: int) -> None:
    chosen = tuple(range(len(sizes)))
    if sum(sizes) < need:
        return
    kept = without_needless(sizes, chosen, need)
    assert sum(sizes[i] for i in kept) >= need
    assert set(kept) <= set(chosen)
    for i in kept:
        assert sum(sizes[other] for other in kept if other != i) < need


def test_the_last_chosen_is_spared_first() -> None:
    """The first are those the order wanted gone most."""
    assert without_needless([5, 5, 5], (2, 0, 1), 10) == (2, 0)
    assert without_needless([3, 10], (0, 1), 10) == (1,)
