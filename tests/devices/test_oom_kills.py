"""The kernel's own count of out-of-memory kills tells such a death from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path

from modelmgr.devices.oom_kills import kernel_oom_kills


def test_the_counter_is_read_among_its_neighbours(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 12\noom_kill_other 7\noom_kill 3\nswap_ra 0\n")
    assert kernel_oom_kills(vmstat) == 3


def test_a_kernel_that_does_not_say_is_unknown_and_not_zero(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    assert kernel_oom_kills(vmstat) is None
    vmstat.write_text("nr_free_pages 12\noom_kill many\n")
    assert kernel_oom_kills(vmstat) is None
    vmstat.write_bytes(b"oom_kill \xff\n")
    assert kernel_oom_kills(vmstat) is None


def test_this_kernel_is_read_without_an_error() -> None:
    count = kernel_oom_kills()
    assert count is None or count >= 0
