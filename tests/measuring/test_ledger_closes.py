"""The memory ledger adds up to the peak exactly, whatever is known and whatever was measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelmgr.measuring.ledger import (
    close_ledger,
    combine_ledgers,
    ledger_total_bytes,
    model_growth_bytes,
    repeat_ledger,
)
from modelmgr.measuring.samples import RepeatSample, ShapeSample, with_descendants

MIB = 1024**2
SIZES = st.integers(min_value=0, max_value=2**45)
MAYBE = st.none() | SIZES


def sample(
    *,
    runtime: int | None = 200 * MIB,
    weights: int | None = 400 * MIB,
    resident: int | None = 601 * MIB,
    shapes: tuple[ShapeSample, ...] = (),
) -> RepeatSample:
    return RepeatSample(
        runtime_bytes=runtime,
        weights_bytes=weights,
        loaded_bytes=resident,
        resident_bytes=resident,
        load_peak_bytes=None,
        load_ns=1,
        shapes=shapes,
    )


def shape(before: int, activation: int | None, default_peak: int | None) -> ShapeSample:
    return ShapeSample(
        dims={"batch_size": 1},
        before_bytes=before,
        activation_bytes=activation,
        default_peak_bytes=default_peak,
    )


@given(peak=SIZES, runtime=MAYBE, weights=MAYBE, activation=MAYBE, cache=MAYBE)
def test_the_lines_add_up_to_the_peak_whatever_is_unknown(
    peak: int, runtime: int | None, weights: int | None, activation: int | None, cache: int | None
) -> None:
    ledger = close_ledger(
        peak_bytes=peak,
        runtime_bytes=runtime,
        weights_bytes=weights,
        activation_bytes=activation,
        cache_bytes=cache,
    )
    assert ledger_total_bytes(ledger) == peak


def test_one_process_is_split_into_what_each_line_says() -> None:
    measured = sample(
        shapes=(
            shape(602 * MIB, 10 * MIB, 615 * MIB),
            shape(603 * MIB, 100 * MIB, 780 * MIB),
        )
    )
    ledger = repeat_ledger(measured)
    assert ledger is not None
    assert measured.peak_bytes == 780 * MIB
    assert ledger.activation_bytes == 100 * MIB
    assert ledger.cache_bytes == 77 * MIB  # 780 - (603 + 100)
    assert ledger.unaccounted_bytes == 3 * MIB  # 603 - 200 - 400: held, and explained by no line
    assert ledger_total_bytes(ledger) == 780 * MIB


def test_what_the_models_own_processes_hold_is_unaccounted_and_in_no_other_line() -> None:
    alone = sample(shapes=(shape(603 * MIB, 100 * MIB, 780 * MIB),))
    joined = with_descendants(alone, processes=2, held_bytes=50 * MIB)
    before, after = repeat_ledger(alone), repeat_ledger(joined)
    assert before is not None
    assert before.unaccounted_bytes is not None
    assert after is not None
    assert after.unaccounted_bytes == before.unaccounted_bytes + 50 * MIB
    assert (after.activation_bytes, after.cache_bytes) == (100 * MIB, 77 * MIB)
    assert joined.resident_bytes == 651 * MIB
    assert joined.peak_bytes == ledger_total_bytes(after) == 830 * MIB


def test_the_growth_to_compare_with_true_weights_leaves_the_runtime_out() -> None:
    ledger = repeat_ledger(sample())
    assert ledger is not None
    assert model_growth_bytes(ledger, 601 * MIB) == 401 * MIB


def test_weights_without_count_or_growth_are_unaccounted_and_never_zero() -> None:
    ledger = repeat_ledger(sample(weights=None))
    assert ledger is not None
    assert ledger.weights_bytes is None
    assert ledger.unaccounted_bytes == 401 * MIB


def test_a_process_whose_memory_was_never_read_has_no_ledger() -> None:
    assert repeat_ledger(sample(runtime=None, resident=None)) is None


def test_a_model_without_shapes_peaks_at_what_it_holds() -> None:
    measured = sample()
    ledger = repeat_ledger(measured)
    assert measured.peak_bytes == 601 * MIB
    assert ledger is not None
    assert ledger.activation_bytes is None
    assert ledger.cache_bytes is None


@given(
    figures=st.lists(st.tuples(SIZES, SIZES, SIZES, SIZES, SIZES, SIZES), min_size=1, max_size=5),
    peak=SIZES,
)
def test_several_processes_combined_still_add_up(
    figures: list[tuple[int, int, int, int, int, int]], peak: int
) -> None:
    ledgers = [
        repeat_ledger(
            sample(
                runtime=runtime,
                weights=weights,
                resident=resident,
                shapes=(shape(before, activation, default_peak),),
            )
        )
        for runtime, weights, resident, before, activation, default_peak in figures
    ]
    known = [ledger for ledger in ledgers if ledger is not None]
    assert len(known) == len(figures)
    assert ledger_total_bytes(combine_ledgers(known, peak_bytes=peak)) == peak
