"""The counters behind metrics and ``top``: what they count, and that nothing is counted twice."""

from __future__ import annotations

import threading

from modelmgr.runtime.counters import (
    LOAD_BOUNDS_NS,
    WAIT_BOUNDS_NS,
    ManagerCounters,
    ModelTotals,
)
from modelmgr.scheduling.actions import Grant, Refusal, Reject, StartLoad, StartUnload
from modelmgr.units import NS_PER_S


def _grant(tag: str, *, hit: bool) -> Grant:
    return Grant(1, 2, tag, copy=3, device=0, lease=4, hit=hit)


def _unload(tag: str, reason: str) -> StartUnload:
    return StartUnload(1, tag, 3, 0, reason, None, 10)


def _of(counters: ManagerCounters, tag: str) -> ModelTotals:
    (found,) = (model for model in counters.totals().models if model.tag == tag)
    return found


def test_every_action_is_counted_once_under_its_model() -> None:
    counters = ManagerCounters()
    counters.observed(StartLoad(1, 2, "bert", 3, 0, 100, isolated=False))
    counters.observed(_grant("bert", hit=False))
    counters.observed(_grant("bert", hit=True))
    counters.observed(_unload("bert", "make-room"))
    counters.observed(_unload("bert", "make-room"))
    counters.observed(_unload("bert", "shutdown"))
    counters.observed(Reject(1, 5, "t5", Refusal.TIMED_OUT, "after 3 s"))

    bert, t5 = _of(counters, "bert"), _of(counters, "t5")
    assert (bert.granted, bert.hits, bert.loads) == (2, 1, 1)
    assert bert.evictions == {"make-room": 2, "shutdown": 1}
    assert bert.refused == {}
    assert t5.refused == {"timed-out": 1}
    assert (t5.granted, t5.loads) == (0, 0)


def test_a_hit_waited_for_nothing_and_counts_so() -> None:
    counters = ManagerCounters()
    for _ in range(5):
        counters.hit("bert")
    counters.waited("bert", 2 * NS_PER_S)

    bert = _of(counters, "bert")
    assert (bert.granted, bert.hits) == (5, 5)
    assert bert.waits.count == 6
    assert bert.waits.counts[0] == 5
    assert bert.waits.sum_ns == 2 * NS_PER_S


def test_a_duration_is_in_the_first_bucket_whose_bound_it_does_not_pass() -> None:
    counters = ManagerCounters()
    for bound in WAIT_BOUNDS_NS:
        counters.waited("bert", bound)
    counters.waited("bert", WAIT_BOUNDS_NS[-1] + 1)
    counters.loaded("bert", LOAD_BOUNDS_NS[3] + 1)

    bert = _of(counters, "bert")
    assert bert.waits.counts == (1,) * (len(WAIT_BOUNDS_NS) + 1)
    assert bert.load_times.counts.index(1) == 4
    assert bert.load_times.count == 1


def test_models_come_by_tag_and_totals_do_not_change_afterwards() -> None:
    counters = ManagerCounters()
    counters.hit("t5")
    counters.observed(_unload("bert", "reset"))
    totals = counters.totals()
    counters.hit("t5")
    counters.observed(_unload("bert", "reset"))

    assert [model.tag for model in totals.models] == ["bert", "t5"]
    assert totals.models[0].evictions == {"reset": 1}
    assert totals.models[1].hits == 1
    assert counters.totals().age_ns >= totals.age_ns >= 0


def test_durations_of_many_threads_are_all_counted() -> None:
    counters = ManagerCounters()
    tags = ["a", "b", "c"]

    def count() -> None:
        for number in range(600):
            counters.waited(tags[number % 3], 1)
            counters.loaded(tags[number % 3], 2)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for tag in tags:
        assert _of(counters, tag).waits.count == 8 * 200
        assert _of(counters, tag).load_times.sum_ns == 8 * 200 * 2
