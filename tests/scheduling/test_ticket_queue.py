"""Lower priority first, first come first served among equals, and nobody waits behind too many."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.scheduling.queue import HITS_PER_BYPASS, QueueTicket, Ticket, TicketQueue


def ticket(num: int, tag: str = "a", priority: int = 0) -> Ticket:
    return Ticket(priority, num, tag, submitted_ns=num)


def queue_of(*tickets: Ticket, max_bypass: int = 8) -> TicketQueue:
    queue = TicketQueue(max_bypass)
    for one in tickets:
        queue.push(one)
    queue.check_valid()
    return queue


def serve(queue: TicketQueue, num: int, *losers: str) -> None:
    """Count that a ticket was served before the older ones of those models that lost something."""
    for tag in queue.older_tags(num):
        if not losers or tag in losers:
            queue.count_passed_over(tag, num)


def nums(queue: TicketQueue) -> list[int]:
    return [one.ticket_num for one in queue]


def test_tickets_order_by_priority_then_number() -> None:
    assert QueueTicket(0, 5, "a") < QueueTicket(1, 1, "a")
    assert QueueTicket(1, 1, "b") < QueueTicket(1, 2, "a")
    assert QueueTicket(1, 2, "a") >= QueueTicket(1, 1, "b")
    assert sorted([QueueTicket(2, 1, "a"), QueueTicket(0, 3, "b"), QueueTicket(0, 2, "c")]) == [
        QueueTicket(0, 2, "c"),
        QueueTicket(0, 3, "b"),
        QueueTicket(2, 1, "a"),
    ]


def test_equal_tickets_are_equal_and_hash_alike() -> None:
    assert QueueTicket(1, 2, "a") == QueueTicket(1, 2, "a")
    assert hash(QueueTicket(1, 2, "a")) == hash(QueueTicket(1, 2, "a"))
    assert QueueTicket(1, 2, "a") != QueueTicket(1, 2, "b")
    assert QueueTicket(1, 2, "a") != (1, 2, "a")
    assert repr(QueueTicket(1, 2, "a")) == "QueueTicket(priority=1, ticket_num=2, tag='a')"


def test_equals_are_served_in_the_order_they_came_and_priority_goes_first() -> None:
    queue = queue_of(ticket(1, "a"), ticket(2, "b"), ticket(3, "a", -1), ticket(4, "b", 1))
    assert nums(queue) == [3, 1, 2, 4]
    heads = [head.ticket_num for head in queue.heads()]
    assert (heads[0], heads[-1]) == (3, 2)
    first = queue.first("a")
    assert first is not None
    assert first.ticket_num == 3
    assert queue.first("nobody") is None
    assert queue.waiting("a") == 2
    assert queue.waiting("nobody") == 0
    assert [queue.place("a", 1), queue.place("a", 2), queue.place("a", 3)] == [1, 2, None]
    assert [queue.place("b", 1), queue.place("b", 2), queue.place("nobody", 1)] == [3, 4, None]


def test_only_older_tickets_that_lose_something_are_passed_over_whatever_their_priority() -> None:
    low, loser, indifferent, later = ticket(1, "a", 9), ticket(2, "b"), ticket(3, "c"), ticket(5)
    queue = queue_of(low, loser, indifferent, later)
    serve(queue, 4, "a", "b")
    assert [queue.passed_over(one) for one in (low, loser, indifferent, later)] == [1, 1, 0, 0]


def test_a_ticket_a_device_is_kept_for_is_being_served_and_not_passed_over() -> None:
    kept = ticket(1)
    queue = queue_of(kept)
    kept.device = 0
    queue.make_urgent(kept)
    serve(queue, 2)
    assert queue.passed_over(kept) == 0


def test_a_ticket_that_was_passed_over_often_enough_goes_before_everything() -> None:
    slow, other = ticket(1, "a", 9), ticket(2, "b", 0)
    queue = queue_of(slow, other, max_bypass=2)
    serve(queue, 3, "a")
    assert (list(queue.urgent()), nums(queue)) == ([], [2, 1])
    serve(queue, 4, "a")
    assert (list(queue.urgent()), nums(queue)) == ([slow], [1, 2])
    assert queue.heads()[0] is slow
    queue.check_valid()


def test_the_urgent_are_served_oldest_first_and_before_their_own_line() -> None:
    older, urgent, fast = ticket(1, "a", 5), ticket(2, "a", 9), ticket(3, "a", -1)
    queue = queue_of(older, urgent, fast)
    queue.make_urgent(urgent)
    assert queue.first("a") is urgent
    queue.make_urgent(older)
    queue.make_urgent(older)
    assert queue.first("a") is older
    assert nums(queue) == [1, 2, 3]
    queue.check_valid()


def test_with_no_bypass_at_all_every_ticket_is_urgent_from_the_start() -> None:
    queue = queue_of(ticket(1, priority=5), ticket(2, priority=-5), max_bypass=0)
    assert nums(queue) == [1, 2]


def test_a_ticket_that_returns_keeps_its_place_and_its_count() -> None:
    returning = ticket(1)
    queue = queue_of(returning, ticket(2, "b"), max_bypass=1)
    serve(queue, 3, "a")
    queue.remove(returning)
    assert nums(queue) == [2]
    assert 1 not in queue
    assert queue.get(1) is None
    queue.push(returning)
    assert (nums(queue), returning.passed_over) == ([1, 2], 1)
    assert list(queue.urgent()) == [returning]
    assert queue.get(1) is returning
    queue.check_valid()


def test_what_happened_while_a_ticket_was_away_is_not_counted_against_it() -> None:
    returning, other = ticket(1), ticket(2)
    queue = queue_of(returning, other, max_bypass=3)
    serve(queue, 3)
    queue.remove(returning)
    serve(queue, 4)
    queue.push(returning)
    queue.check_valid()
    assert (queue.passed_over(returning), queue.passed_over(other)) == (1, 2)
    serve(queue, 5)
    assert (queue.passed_over(returning), queue.passed_over(other)) == (2, 3)
    assert list(queue.urgent()) == [other]
    serve(queue, 6)
    assert list(queue.urgent()) == [returning, other]
    queue.check_valid()


def test_one_that_returns_with_a_higher_count_becomes_urgent_before_older_ones() -> None:
    older, returning = ticket(1), ticket(2)
    queue = queue_of(returning, max_bypass=2)
    serve(queue, 3)
    queue.remove(returning)
    queue.push(older)
    queue.push(returning)
    serve(queue, 4)
    assert list(queue.urgent()) == [returning]
    assert queue.passed_over(older) == 1
    queue.check_valid()


def test_an_exclusive_ticket_waits_behind_nobody_younger() -> None:
    retry = ticket(2)
    retry.exclusive = True
    queue = queue_of(ticket(1), retry)
    assert nums(queue) == [2, 1]


def test_hits_past_the_oldest_make_it_urgent_in_the_end_and_its_successor_starts_anew() -> None:
    first, second = ticket(1), ticket(2)
    queue = queue_of(first, second, max_bypass=1)
    for _ in range(HITS_PER_BYPASS - 1):
        queue.count_hit("a")
    assert not list(queue.urgent())
    queue.count_hit("a")
    assert list(queue.urgent()) == [first]
    queue.count_hit("a")
    assert not second.urgent
    queue.check_valid()


def test_counts_stay_true_when_spent_entries_are_dropped() -> None:
    queue = TicketQueue(1000)
    waiting: list[Ticket] = []
    counts: dict[int, int] = {}
    for num in range(1, 301, 2):
        waiting.append(ticket(num))
        queue.push(waiting[-1])
        serve(queue, num + 1)
        for one in waiting:
            counts[one.ticket_num] = counts.get(one.ticket_num, 0) + 1
        if num % 3 == 0:
            queue.remove(waiting.pop(0))
    queue.check_valid()
    assert [queue.passed_over(one) for one in waiting] == [counts[w.ticket_num] for w in waiting]


@pytest.mark.parametrize("seed", range(5))
def test_a_long_queue_stays_in_order_whoever_comes_and_goes_at_either_end(seed: int) -> None:
    draw = random.Random(seed)
    queue = TicketQueue(1000)
    model: list[Ticket] = []
    for num in range(1, 1500):
        model.append(ticket(num, draw.choice("abc"), draw.choice((0, 0, 0, 1))))
        queue.push(model[-1])
        if draw.random() < 0.2:
            queue.make_urgent(model[draw.choice((0, -1, len(model) // 2))])
        model.sort(
            key=lambda one: (not one.urgent, 0 if one.urgent else one.priority, one.ticket_num)
        )
        while len(model) > draw.randint(100, 400):
            queue.remove(model.pop(draw.choice((0, 0, 0, 1, -1, len(model) // 2))))
        if num % 10 == 0:
            queue.check_valid()
            assert list(queue) == model
            assert queue.soonest(16) == model[:16]
            last = model[-1]
            rank = sum(one.tag == last.tag for one in model)
            assert queue.place(last.tag, rank) == len(model)


def test_an_index_that_drifted_is_found() -> None:
    other = queue_of(ticket(1))
    other.get(1).urgent = True  # type: ignore[union-attr]  # it was just pushed
    with pytest.raises(AssertionError, match="order"):
        other.check_valid()
    moved = queue_of(ticket(1, "a"), ticket(2, "b"))
    moved.get(2).tag = "a"  # type: ignore[union-attr]  # it was just pushed
    with pytest.raises(AssertionError, match="calm"):
        moved.check_valid()


@given(
    moves=st.lists(
        st.tuples(st.sampled_from("purbo"), st.integers(0, 9), st.sampled_from("abc")), max_size=40
    ),
    max_bypass=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_queue_agrees_with_a_sorted_list(
    moves: list[tuple[str, int, str]], max_bypass: int
) -> None:
    """An independent model: one list, sorted by (urgent first and by number, priority, number)."""
    queue = TicketQueue(max_bypass)
    model: list[Ticket] = []
    away: list[Ticket] = []
    last = 0
    for move, which, tag in moves:
        if move == "p" or not model:
            last += 1
            model.append(ticket(last, tag, which % 3))
            queue.push(model[-1])
        elif move == "u":
            queue.make_urgent(model[which % len(model)])
        elif move == "r":
            away.append(model.pop(which % len(model)))
            queue.remove(away[-1])
        elif move == "b":
            if away:
                model.append(away.pop(which % len(away)))
                queue.push(model[-1])
        else:
            before = {one: (one.urgent, queue.passed_over(one)) for one in model}
            serve(queue, which + 1)
            for one, (urgent, count) in before.items():
                lost = not urgent and one.ticket_num <= which
                assert queue.passed_over(one) == count + lost
        queue.check_valid()

        def place(one: Ticket) -> tuple[bool, int, int]:
            return not one.urgent, 0 if one.urgent else one.priority, one.ticket_num

        model.sort(key=place)
        assert list(queue) == model
        assert len(queue) == len(model)
        for one_tag in "abc":
            line = [one for one in model if one.tag == one_tag]
            assert queue.first(one_tag) is (line[0] if line else None)
            assert queue.waiting(one_tag) == len(line)
            for rank, one in enumerate(line, start=1):
                assert queue.place(one_tag, rank) == model.index(one) + 1
        assert all(one.urgent for one in model if queue.passed_over(one) >= max_bypass)
