"""Lower priority first, first come first served among equals, and nobody waits behind too many."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.scheduling.queue import QueueTicket, Ticket, TicketQueue


def everybody(_: Ticket) -> bool:
    return True


def ticket(num: int, tag: str = "a", priority: int = 0) -> Ticket:
    return Ticket(priority, num, tag, submitted_ns=num)


def queue_of(*tickets: Ticket, max_bypass: int = 8) -> TicketQueue:
    queue = TicketQueue(max_bypass)
    for one in tickets:
        queue.push(one)
    queue.check_valid()
    return queue


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
    assert queue.positions() == {"a": [1, 2], "b": [3, 4]}


def test_only_older_tickets_that_lose_something_are_passed_over_whatever_their_priority() -> None:
    low, loser, indifferent, later = ticket(1, "a", 9), ticket(2, "b"), ticket(3, "c"), ticket(5)
    queue = queue_of(low, loser, indifferent, later)
    queue.count_passed_over(ticket(4, "x", -5), lambda one: one is not indifferent)
    assert [one.passed_over for one in (low, loser, indifferent, later)] == [1, 1, 0, 0]


def test_a_ticket_a_device_is_kept_for_is_being_served_and_not_passed_over() -> None:
    kept = ticket(1)
    kept.device = 0
    queue = queue_of(kept)
    queue.count_passed_over(ticket(2), everybody)
    assert kept.passed_over == 0


def test_a_ticket_that_was_passed_over_often_enough_goes_before_everything() -> None:
    slow, other = ticket(1, "a", 9), ticket(2, "b", 0)
    queue = queue_of(slow, other, max_bypass=2)
    queue.count_passed_over(ticket(3, priority=-1), lambda one: one is slow)
    assert (queue.urgent(), nums(queue)) == ((), [2, 1])
    queue.count_passed_over(ticket(4, priority=-1), lambda one: one is slow)
    assert (queue.urgent(), nums(queue)) == ((slow,), [1, 2])
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
    queue = queue_of(returning, ticket(2), max_bypass=1)
    queue.count_passed_over(ticket(3), lambda one: one is returning)
    queue.remove(returning)
    assert nums(queue) == [2]
    assert 1 not in queue
    assert queue.get(1) is None
    queue.push(returning)
    assert (nums(queue), returning.passed_over, queue.urgent()) == ([1, 2], 1, (returning,))
    assert queue.get(1) is returning
    queue.check_valid()


def test_an_index_that_drifted_is_found() -> None:
    queue = queue_of(ticket(1), ticket(2, "b"))
    queue.get(2).passed_over = 99  # type: ignore[union-attr]  # it was just pushed
    with pytest.raises(AssertionError, match="starving"):
        queue.check_valid()
    other = queue_of(ticket(1))
    other.get(1).urgent = True  # type: ignore[union-attr]  # it was just pushed
    with pytest.raises(AssertionError, match="urgent"):
        other.check_valid()


@given(
    moves=st.lists(
        st.tuples(st.sampled_from("puro"), st.integers(0, 9), st.sampled_from("abc")), max_size=40
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
    last = 0
    for move, which, tag in moves:
        if move == "p" or not model:
            last += 1
            model.append(ticket(last, tag, which % 3))
            queue.push(model[-1])
        elif move == "u":
            queue.make_urgent(model[which % len(model)])
        elif move == "r":
            queue.remove(model.pop(which % len(model)))
        else:
            before = [one.passed_over for one in model]
            queue.count_passed_over(ticket(which + 1), everybody)
            after = [one.passed_over for one in model]
            assert after == [
                count + (one.ticket_num <= which) for one, count in zip(model, before, strict=True)
            ]
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
        assert all(one.urgent for one in model if one.passed_over >= max_bypass)
