"""Goals and the Pareto front: held to rows whose figures are written here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.errors import UsageError
from modelmgr.records.result import DeviceUse, DurationFigures, RequestCounts
from modelmgr.records.sweep import SweepError, SweepFigures, SweepKey, SweepRow, SweepValue
from modelmgr.simulation.pareto import memory_curves, pareto_front
from modelmgr.simulation.slo import FIGURES, answer_goals, read_goal
from modelmgr.units import GIB, NS_PER_S

MS = 1_000_000


def make_row(
    number: int,
    *,
    gib: int,
    reload_s: int = 10,
    p95_ms: int | None = 100,
    refused: int = 0,
    policy: str = "lru",
) -> SweepRow:
    wait = DurationFigures(
        count=100,
        mean=50 * MS,
        median=40 * MS,
        p95=None if p95_ms is None else p95_ms * MS,
        p99=None,
        min=0,
        max=900 * MS,
    )
    return SweepRow(
        number=number,
        values={"devices.gpu0.memory": f"{gib} GiB", "manager.policy": policy},
        memory_bytes=gib * GIB,
        figures=SweepFigures(
            duration_ns=NS_PER_S,
            requests=RequestCounts(
                total=100,
                completed=100 - refused,
                timed_out=0,
                refused=refused,
                failed=0,
                cancelled=0,
            ),
            loads=5,
            hits=80,
            evictions=3,
            oom_events=0,
            failed_loads=0,
            reload_cost_ns=reload_s * NS_PER_S,
            first_load_cost_ns=0,
            wait_ns=wait,
            latency_ns=None,
            devices={"gpu0": DeviceUse(limit_bytes=GIB, peak_bytes=GIB, mean_bytes=GIB)},
            decisions_sha256="sha256:" + "0" * 64,
        ),
    )


FAILED = SweepRow(
    number=99, values={}, memory_bytes=GIB, error=SweepError(kind="X", message="it broke")
)


def test_the_smallest_device_that_meets_every_goal_is_found() -> None:
    rows = [
        make_row(0, gib=8, p95_ms=900),
        make_row(1, gib=16, p95_ms=400),
        make_row(2, gib=24, p95_ms=100),
        FAILED,
    ]
    answer = answer_goals([read_goal("wait_p95<500ms"), read_goal("loads<=5")], rows)
    assert answer is not None
    assert (answer.smallest, answer.closest, answer.meets) == (1, None, (1, 2))


def test_of_equal_sizes_the_one_with_less_reload_cost_is_the_answer() -> None:
    rows = [make_row(0, gib=8, reload_s=9), make_row(1, gib=8, reload_s=7)]
    answer = answer_goals([read_goal("wait_p95<500ms")], rows)
    assert answer is not None
    assert answer.smallest == 1


def test_where_none_meets_them_the_closest_is_named_with_what_it_misses() -> None:
    rows = [make_row(0, gib=8, p95_ms=900), make_row(1, gib=16, p95_ms=600)]
    answer = answer_goals([read_goal("wait_p95<500ms")], rows)
    assert answer is not None
    assert (answer.smallest, answer.closest) == (None, 1)
    assert answer.misses == ("wait_p95<500ms: it is 600.0 ms",)


def test_a_device_that_refuses_requests_does_not_meet_a_wait_by_that() -> None:
    rows = [make_row(0, gib=8, p95_ms=1, refused=10), make_row(1, gib=16, p95_ms=400)]
    goal = read_goal("wait_p95<500ms")
    answer = answer_goals([goal], rows)
    assert answer is not None
    assert answer.smallest == 1
    assert answer.implied == ("unserved<=0%",)
    allowed = answer_goals([goal, read_goal("unserved<=10%")], rows)
    assert allowed is not None
    assert (allowed.smallest, allowed.implied) == (0, ())


def test_a_percentile_that_is_not_known_meets_nothing() -> None:
    answer = answer_goals([read_goal("wait_p95<500ms")], [make_row(0, gib=8, p95_ms=None)])
    assert answer is not None
    assert answer.smallest is None
    assert answer.misses == ("wait_p95<500ms: it is not known",)


def test_without_goals_or_rows_there_is_nothing_to_answer() -> None:
    assert answer_goals([], [make_row(0, gib=8)]) is None
    answer = answer_goals([read_goal("wait_p95<500ms")], [FAILED])
    assert answer is not None
    assert (answer.smallest, answer.closest) == (None, None)


def test_the_answer_of_an_interrupted_sweep_says_that_rows_are_missing() -> None:
    goal = read_goal("wait_p95<500ms")
    whole = answer_goals([goal], [make_row(1, gib=16)])
    rest = answer_goals([goal], [make_row(1, gib=16)], complete=False)
    assert whole is not None
    assert rest is not None
    assert (whole.complete, rest.complete) == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wiat_p95<500ms", "did you mean 'wait_p95'"),
        ("wait_p95", "FIGURE OP QUANTITY"),
        ("wait_p95=500ms", "FIGURE OP QUANTITY"),
        ("wait_p95<500", "no unit"),
        ("wait_p95<500MiB", "unknown unit"),
        ("unserved<7", "outside"),
        ("loads<many", "no number"),
        ("loads<nan", "'nan' is no number"),
        ("reload_ratio<1e400", "'1e400' is no number"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_goal(text)


def test_every_known_figure_can_be_asked_of_a_row() -> None:
    figures = make_row(0, gib=8).figures
    assert figures is not None
    units = {"size": "1GiB", "wait": "1s", "latency": "1s", "reload_cost": "1s"}
    for figure in FIGURES:
        quantity = units.get(figure.partition("_")[0], "1")
        quantity = {"reload_cost": "1s", "memory_peak": "1GiB", "reload_ratio": "1"}.get(
            figure, quantity
        )
        goal = read_goal(f"{figure} >= {quantity}")
        assert goal.shown(goal.value(figures))


def test_the_front_has_what_nothing_beats() -> None:
    rows = [
        make_row(0, gib=8, reload_s=20, p95_ms=900),
        make_row(1, gib=8, reload_s=30, p95_ms=900),  # beaten by 0
        make_row(2, gib=16, reload_s=10, p95_ms=300),
        make_row(3, gib=24, reload_s=10, p95_ms=300),  # beaten by 2
        make_row(4, gib=24, reload_s=12, p95_ms=100),
        make_row(5, gib=4, reload_s=1, p95_ms=1, refused=90),  # small and fast for few
        FAILED,
    ]
    assert pareto_front(rows) == (0, 2, 4, 5)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 4), st.integers(1, 4), st.none() | st.integers(1, 4), st.integers(0, 2)
        ),
        max_size=12,
    )
)
def test_whatever_is_not_on_the_front_is_beaten_by_something_on_it(
    drawn: list[tuple[int, int, int | None, int]],
) -> None:
    rows = [
        make_row(number, gib=gib, reload_s=cost, p95_ms=p95, refused=refused)
        for number, (gib, cost, p95, refused) in enumerate(drawn)
    ]

    def beats(one: int, other: int) -> bool:
        a, b = ((g, c, p or 99, r) for g, c, p, r in (drawn[one], drawn[other]))
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    front = pareto_front(rows)
    for number in range(len(rows)):
        assert (number in front) != any(beats(other, number) for other in front)


def test_curves_go_by_memory_one_for_each_of_the_other_values() -> None:
    keys = [
        SweepKey(
            key="devices.gpu0.memory",
            quantity="bytes",
            values=(SweepValue(text="16 GiB"), SweepValue(text="8 GiB")),
        ),
        SweepKey(
            key="manager.policy",
            quantity="text",
            values=(SweepValue(text="lru"), SweepValue(text="gdsf")),
        ),
    ]
    rows = [
        make_row(0, gib=16, reload_s=1, policy="lru"),
        make_row(1, gib=16, reload_s=2, policy="gdsf"),
        make_row(2, gib=8, reload_s=3, policy="lru"),
        make_row(3, gib=8, reload_s=4, policy="gdsf"),
    ]
    lru, gdsf = memory_curves(keys, rows)
    assert lru.values == {"manager.policy": "lru"}
    assert (lru.rows, lru.memory_bytes) == ((2, 0), (8 * GIB, 16 * GIB))
    assert gdsf.reload_cost_ns == (4 * NS_PER_S, 2 * NS_PER_S)
    assert memory_curves(keys[1:], rows) == ()
