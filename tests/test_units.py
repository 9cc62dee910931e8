"""Quantities read as people write them, and refuse what they cannot mean."""

from __future__ import annotations

import pytest

from modelmgr.units import (
    format_bytes,
    format_duration,
    parse_bytes,
    parse_duration_ns,
    parse_fraction,
    parse_rate_per_s,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("24 GiB", 24 * 1024**3), ("1.5KiB", 1536), ("500 MB", 500_000_000), ("0 B", 0)],
)
def test_a_size_is_read_exactly(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["-1 GiB", "24", "GiB", "", "1 GiBB", "nan GiB", "9e300 GiB", "٣ B B"]
)
def test_a_size_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("35 ms", 35_000_000), ("10min", 600 * 10**9), ("1.5 s", 1_500_000_000)]
)
def test_a_duration_is_read_exactly(text: str, expected: int) -> None:
    assert parse_duration_ns(text) == expected


def test_shares_and_rates_are_read() -> None:
    assert parse_fraction("10%") == pytest.approx(0.1)
    assert parse_rate_per_s("90/min") == pytest.approx(1.5)
    for bad in ("110%", "-1%", "x", "nan"):
        with pytest.raises(ValueError, match=r".+"):
            parse_fraction(bad)
    for bad in ("5", "-5/s", "5/fortnight", "inf/s"):
        with pytest.raises(ValueError, match=r".+"):
            parse_rate_per_s(bad)


def test_figures_carry_a_unit_that_fits_and_unknown_is_a_dash() -> None:
    assert format_bytes(None) == "-"
    assert format_bytes(1023) == "1023 B"
    assert format_bytes(438_000_000) == "417.7 MiB"
    assert format_bytes(-(24 * 1024**3)) == "-24.0 GiB"
    assert format_duration(None) == "-"
    assert format_duration(35_400_000) == "35.4 ms"
    assert format_duration(125 * 10**9) == "2 min 05 s"
