"""The lines of one device's ledger: what each copy is charged, and what readings may change."""

from __future__ import annotations

import pytest

from modelmgr.errors import InvalidTransitionError
from modelmgr.scheduling.ledger import Ledger


def ledger(limit: int = 100, *, used: int = 0) -> Ledger:
    made = Ledger("d0", 120, limit)
    made.read(0, used)
    return made


def loaded(
    book: Ledger, number: int, resident: int, peak: int, *, at_ns: int = 10, reserved: int = 0
) -> None:
    """Take a copy through its load and cover it with a reading that shows just what it takes."""
    book.reserve(number, max(reserved, peak))
    before = book.reading_used_bytes or 0
    book.loaded(number, at_ns, resident, peak)
    book.read(at_ns, before + resident)
    book.settle(number)


# Lines -------------------------------------------------------------------------------------------


def test_a_copy_is_charged_its_reservation_until_it_settles_then_what_it_holds() -> None:
    book = ledger()
    book.reserve(1, 40)
    assert (book.committed_bytes, book.reserved_bytes, book.room_bytes()) == (40, 40, 60)
    book.loaded(1, 10, 20, 30)
    assert (book.committed_bytes, book.reserved_bytes) == (40, 20)
    book.settle(1)
    assert (book.committed_bytes, book.reserved_bytes) == (20, 0)
    book.set_active(1, active=True)
    assert (book.committed_bytes, book.reserved_bytes) == (30, 0)
    book.set_active(1, active=False)
    book.start_leaving(1)
    assert (book.committed_bytes, book.freeing_bytes) == (20, 20)
    assert book.room_bytes() == 80
    assert book.expected_room_bytes() == 100
    book.gone(1)
    assert (book.committed_bytes, book.freeing_bytes, book.charge_of(1)) == (0, 0, 0)
    book.check_valid()


def test_a_copy_that_took_more_than_its_reservation_is_charged_what_it_took() -> None:
    book = ledger()
    book.reserve(1, 10)
    book.loaded(1, 10, 25, 20)
    assert book.charge_of(1) == 25
    book.set_active(1, active=True)
    assert book.charge_of(1) == 25
    assert book.reserved_bytes == 0


def test_an_active_copy_that_has_not_settled_is_charged_the_larger_of_both() -> None:
    book = ledger()
    book.reserve(1, 35)
    book.loaded(1, 10, 20, 30)
    book.set_active(1, active=True)
    assert (book.charge_of(1), book.reserved_bytes) == (35, 5)


def test_activation_is_what_granting_adds_and_asking_changes_nothing() -> None:
    book = ledger()
    loaded(book, 1, 20, 30)
    assert book.activation_bytes(1) == 10
    assert (book.committed_bytes, book.charge_of(1)) == (20, 20)
    unsettled = ledger()
    unsettled.reserve(1, 30)
    unsettled.loaded(1, 10, 20, 30)
    assert unsettled.activation_bytes(1) == 0


def test_a_better_figure_moves_the_charge_and_none_is_taken_before_loading_or_on_leaving() -> None:
    book = ledger()
    book.reserve(1, 30)
    book.set_cost(1, 1, 1)
    assert book.charge_of(1) == 30
    book.loaded(1, 10, 20, 30)
    book.settle(1)
    book.set_cost(1, 25, 20)
    assert book.charge_of(1) == 25
    book.start_leaving(1)
    book.set_cost(1, 1, 1)
    assert book.charge_of(1) == 25
    book.check_valid()


def test_a_reservation_beyond_the_limit_is_a_bug_and_refused() -> None:
    book = ledger(used=30)
    with pytest.raises(InvalidTransitionError, match="71"):
        book.reserve(1, 71)
    book.reserve(1, 70)
    assert book.room_bytes() == 0
    assert book.committed_bytes == 100


def test_before_the_first_good_reading_there_is_no_room_at_all() -> None:
    book = Ledger("d0", 120, 100)
    assert not book.known
    assert (book.room_bytes(), book.expected_room_bytes(), book.room_for_claim(1)) == (-1, -1, -1)
    book.reading_fails("no answer")
    assert not book.known
    assert book.room_bytes() < 0
    with pytest.raises(InvalidTransitionError):
        book.reserve(1, 1)


def test_a_copy_that_leaves_before_it_settled_keeps_its_whole_reservation() -> None:
    book = ledger()
    book.reserve(1, 40)
    book.loaded(1, 10, 20, 30)
    book.start_leaving(1)
    assert (book.freeing_bytes, book.committed_bytes) == (40, 40)


def test_the_highest_commitment_is_remembered() -> None:
    book = ledger(used=5)
    loaded(book, 1, 20, 30)
    book.gone(1)
    assert book.peak_committed_bytes == 35


def test_a_sum_that_drifted_is_found() -> None:
    book = ledger()
    book.reserve(1, 40)
    book._sum = 39  # pyright: ignore[reportPrivateUsage]  # to break it
    with pytest.raises(AssertionError, match="drifted"):
        book.check_valid()
    book._sum = 40  # pyright: ignore[reportPrivateUsage]  # as it was
    book.check_valid()
    book._entries[1].reserved_bytes = 39  # pyright: ignore[reportPrivateUsage]  # to break it
    with pytest.raises(AssertionError, match="not kept up"):
        book.check_valid()


# Claims ------------------------------------------------------------------------------------------


def test_nobody_else_may_take_room_that_a_plan_has_spoken_for() -> None:
    book = ledger()
    loaded(book, 1, 60, 60)
    book.start_leaving(1)
    book.claim(2, 80)
    assert book.claimed_bytes == 80
    # 40 are free and 60 come back; of the 100, 80 are spoken for.
    assert book.room_bytes() == 20
    assert book.expected_room_bytes() == 20
    assert book.room_for_claim(2) == 40
    book.gone(1)
    assert (book.room_bytes(), book.room_for_claim(2)) == (20, 100)
    book.reserve(2, 80)
    assert (book.claimed_bytes, book.room_bytes()) == (0, 20)


def test_a_claim_never_makes_room_that_is_not_there_yet() -> None:
    book = ledger()
    loaded(book, 1, 60, 60)
    book.start_leaving(1)
    book.claim(2, 10)
    assert book.room_bytes() == 40


def test_older_claims_go_first_and_a_claim_given_up_is_room_again() -> None:
    book = ledger()
    book.claim(1, 30)
    book.claim(2, 50)
    assert (book.room_for_claim(1), book.room_for_claim(2)) == (100, 70)
    assert book.room_bytes() == 20
    book.unclaim(1)
    book.unclaim(1)
    assert (book.room_for_claim(2), book.room_bytes()) == (100, 50)


# Foreign use -------------------------------------------------------------------------------------


def test_foreign_use_is_what_no_copy_accounts_for() -> None:
    book = ledger(used=7)
    assert book.foreign_bytes == 7
    loaded(book, 1, 20, 20)
    assert (book.foreign_bytes, book.committed_bytes) == (7, 27)
    book.read(20, 35)
    assert (book.foreign_bytes, book.committed_bytes) == (15, 35)
    book.read(30, 22)
    assert (book.foreign_bytes, book.committed_bytes) == (2, 22)


def test_foreign_memory_that_goes_is_noticed() -> None:
    book = ledger(used=90)
    assert book.room_bytes() == 10
    book.read(5, 10)
    assert book.room_bytes() == 90


def test_a_figure_from_a_quiet_moment_is_not_washed_out_by_a_busy_one() -> None:
    """An active copy shows anything from its resident bytes to its peak: both readings agree."""
    book = ledger(used=7)
    loaded(book, 1, 20, 50)
    book.set_active(1, active=True)
    for used in (27, 57, 40):
        book.read(20, used)
        assert book.foreign_bytes == 7
    book.read(21, 58)
    assert book.foreign_bytes == 8
    book.read(22, 26)
    assert book.foreign_bytes == 6


def test_a_reading_below_what_copies_hold_does_not_make_foreign_use_negative() -> None:
    book = ledger(used=7)
    loaded(book, 1, 20, 20)
    book.read(20, 3)
    assert (book.foreign_bytes, book.committed_bytes) == (0, 20)
    book.check_valid()


def test_what_is_loading_may_show_anything_up_to_its_reservation() -> None:
    book = ledger(used=7)
    book.reserve(1, 40)
    for used in (7, 30, 47):
        book.read(5, used)
        assert book.foreign_bytes == 7
    book.read(6, 50)
    assert book.foreign_bytes == 10


def test_a_reading_begun_before_a_load_ended_says_nothing_of_the_copy() -> None:
    """The load's end is at 10; a reading begun at 9 that shows nothing must not settle it."""
    book = ledger()
    book.reserve(1, 40)
    book.loaded(1, 10, 20, 30)
    book.read(9, 0)
    assert not book.covers(1)
    assert (book.foreign_bytes, book.committed_bytes) == (0, 40)
    assert book.unsettled() == [1]
    book.read(10, 20)
    assert book.covers(1)
    book.settle(1)
    assert (book.unsettled(), book.committed_bytes) == ([], 20)


def test_a_reading_older_than_the_last_is_dropped() -> None:
    book = ledger()
    book.read(20, 30)
    assert book.read(19, 90) == []
    assert (book.foreign_bytes, book.reading_at_ns, book.reading_used_bytes) == (30, 20, 30)
    book.read(20, 40)
    assert book.foreign_bytes == 40


def test_own_bytes_make_an_interval_a_point() -> None:
    book = ledger(used=7)
    loaded(book, 1, 20, 50)
    book.set_active(1, active=True)
    book.read(20, 60, {1: 45})
    assert book.foreign_bytes == 15
    book.read(21, 60, {1: 53})
    # What it takes beyond its charge is nobody's, so it is counted as foreign rather than not.
    assert book.foreign_bytes == 10
    assert book.committed_bytes == 60
    book.read(22, 60, {99: 60})
    assert book.foreign_bytes == 10


def test_a_failed_reading_changes_nothing_and_is_known_to_have_failed() -> None:
    book = ledger(used=30)
    book.reading_fails("timed out")
    assert (book.reading_failed, book.foreign_bytes, book.room_bytes()) == ("timed out", 30, 70)
    assert (book.reading_at_ns, book.reading_used_bytes) == (0, 30)
    book.read(5, 10)
    assert (book.reading_failed, book.foreign_bytes) == (None, 10)


def test_a_stale_reading_does_not_heal_a_failure() -> None:
    book = ledger()
    book.read(20, 30)
    book.reading_fails("timed out")
    book.read(19, 0)
    assert book.reading_failed == "timed out"
    assert book.foreign_bytes == 30


# Memory on its way back --------------------------------------------------------------------------


def leaving(resident: int = 60, *, used: int = 0) -> Ledger:
    book = ledger(used=used)
    loaded(book, 1, resident, resident)
    book.start_leaving(1)
    return book


def test_freed_memory_counts_only_when_a_reading_after_the_unload_shows_it() -> None:
    book = leaving()
    assert book.read(30, 0) == []
    assert book.freeing_bytes == 60
    book.unload_observable(1, 40)
    assert book.read(39, 0) == []
    assert book.freeing_bytes == 60
    assert book.read(40, 0) == [1]
    assert (book.freeing_bytes, book.committed_bytes, book.room_bytes()) == (0, 0, 100)
    book.check_valid()


def test_memory_that_comes_back_piece_by_piece_is_neither_lost_nor_freed_twice() -> None:
    book = leaving(used=5)
    book.unload_observable(1, 40)
    assert book.read(41, 65) == []
    assert (book.freeing_bytes, book.foreign_bytes, book.room_bytes()) == (60, 5, 35)
    assert book.read(42, 25) == []
    assert (book.freeing_bytes, book.foreign_bytes, book.room_bytes()) == (20, 5, 75)
    assert book.read(43, 5) == [1]
    assert (book.freeing_bytes, book.foreign_bytes, book.room_bytes()) == (0, 5, 95)


def test_two_unloads_whose_memory_is_half_back_keep_the_other_half_charged() -> None:
    book = ledger()
    loaded(book, 1, 30, 30)
    loaded(book, 2, 30, 30, at_ns=11)
    for number in (1, 2):
        book.start_leaving(number)
        book.unload_observable(number, 20)
    freed = book.read(21, 30)
    assert len(freed) <= 1
    assert (book.committed_bytes, book.room_bytes()) == (30, 70)
    book.read(22, 0)
    assert book.committed_bytes == 0


def test_what_never_comes_back_becomes_foreign_and_is_noticed_when_it_does() -> None:
    book = leaving(used=5)
    book.unload_observable(1, 40)
    book.read(41, 65)
    book.give_up_on(1, 42)
    assert (book.foreign_bytes, book.freeing_bytes, book.room_bytes()) == (65, 0, 35)
    book.read(42, 5)
    assert (book.foreign_bytes, book.room_bytes()) == (5, 95)
    book.give_up_on(1, 42)
    book.gone(1)
    assert book.foreign_bytes == 5


def test_a_reading_from_before_the_booking_does_not_wash_it_out() -> None:
    """One that was begun earlier and came in late knows nothing of what was booked since."""
    book = leaving(used=5)
    book.unload_observable(1, 40)
    book.give_up_on(1, 60)
    booked = book.foreign_bytes
    book.read(50, 5)
    assert book.foreign_bytes == booked
    book.read(60, 5)
    assert book.foreign_bytes == 5


def test_a_copy_leaving_by_itself_frees_nothing_of_another_in_use() -> None:
    """While one leaves, another's activity hides what came back: the stricter figure stands."""
    book = ledger()
    loaded(book, 1, 30, 30)
    loaded(book, 2, 20, 50, at_ns=11)
    book.set_active(2, active=True)
    book.start_leaving(1)
    book.unload_observable(1, 20)
    book.read(21, 30 + 50)
    assert book.freeing_bytes == 30
    book.read(22, 50)
    # 30 of those 50 may be the copy that leaves, or the peak of the other.
    assert book.committed_bytes == 50 + 30
    assert book.read(23, 20) == [1]
