"""MemAvailable and cgroup limits, read from trees of files as kernels lay them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.devices.host_available import AvailableMemory, total_host_bytes
from modelmgr.errors import ReadingError
from modelmgr.units import GIB, MIB

V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2 = "30 20 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path / "proc/meminfo", f"MemTotal: {64 * MIB} kB\nMemAvailable: {32 * MIB} kB\n")
    return tmp_path


def _limit_v2(folder: Path, limit: str, used_bytes: int, cached_bytes: int = 0) -> None:
    _write(folder / "memory.max", f"{limit}\n")
    _write(folder / "memory.current", f"{used_bytes}\n")
    _write(folder / "memory.stat", f"anon 5\ninactive_file {cached_bytes}\n")


def test_without_cgroups_the_kernels_figure_stands(root: Path) -> None:
    assert AvailableMemory(root).read_bytes() == 32 * GIB
    assert total_host_bytes(root) == 64 * GIB


def test_a_group_without_a_limit_changes_nothing(root: Path) -> None:
    _write(root / "proc/self/cgroup", "0::/app\n")
    _write(root / "proc/self/mountinfo", V2.format(root="/"))
    _limit_v2(root / "sys/fs/cgroup/app", "max", 3 * GIB)
    assert AvailableMemory(root).read_bytes() == 32 * GIB


def test_a_version_2_limit_leaves_what_is_not_used_of_it(root: Path) -> None:
    _write(root / "proc/self/cgroup", "0::/app\n")
    _write(root / "proc/self/mountinfo", V2.format(root="/"))
    _limit_v2(root / "sys/fs/cgroup/app", str(8 * GIB), 3 * GIB, cached_bytes=GIB)
    assert AvailableMemory(root).read_bytes() == 6 * GIB


def test_the_tightest_group_above_ours_counts(root: Path) -> None:
    _write(root / "proc/self/cgroup", "0::/outer/inner\n")
    _write(root / "proc/self/mountinfo", V2.format(root="/"))
    _limit_v2(root / "sys/fs/cgroup/outer", str(4 * GIB), 3 * GIB)
    _limit_v2(root / "sys/fs/cgroup/outer/inner", "max", GIB)
    assert AvailableMemory(root).read_bytes() == GIB


def test_a_container_that_sees_its_own_group_as_the_top_is_limited(root: Path) -> None:
    _write(root / "proc/self/cgroup", "0::/\n")
    _write(root / "proc/self/mountinfo", V2.format(root="/"))
    _limit_v2(root / "sys/fs/cgroup", str(2 * GIB), GIB)
    assert AvailableMemory(root).read_bytes() == GIB


@pytest.mark.parametrize(
    ("mounted", "folder"), [("/", "docker/abc"), ("/docker/abc", ""), ("/other", "")]
)
def test_a_version_1_limit_is_found_wherever_it_is_mounted(
    root: Path, mounted: str, folder: str
) -> None:
    _write(root / "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    _write(root / "proc/self/mountinfo", V1.format(root=mounted))
    group = root / "sys/fs/cgroup/memory" / folder
    _write(group / "memory.limit_in_bytes", f"{8 * GIB}\n")
    _write(group / "memory.usage_in_bytes", f"{5 * GIB}\n")
    _write(group / "memory.stat", f"inactive_file 7\ntotal_inactive_file {GIB}\n")
    assert AvailableMemory(root).read_bytes() == 4 * GIB


def test_version_1s_largest_number_is_no_limit(root: Path) -> None:
    _write(root / "proc/self/cgroup", "4:memory:/\n")
    _write(root / "proc/self/mountinfo", V1.format(root="/"))
    group = root / "sys/fs/cgroup/memory"
    _write(group / "memory.limit_in_bytes", "9223372036854771712\n")
    _write(group / "memory.usage_in_bytes", f"{5 * GIB}\n")
    assert AvailableMemory(root).read_bytes() == 32 * GIB


def test_a_group_that_is_over_its_limit_leaves_nothing(root: Path) -> None:
    _write(root / "proc/self/cgroup", "0::/app\n")
    _write(root / "proc/self/mountinfo", V2.format(root="/"))
    _limit_v2(root / "sys/fs/cgroup/app", str(GIB), 2 * GIB)
    assert AvailableMemory(root).read_bytes() == 0


def test_a_kernel_that_does_not_tell_is_an_error_and_never_zero(root: Path) -> None:
    available = AvailableMemory(root)
    (root / "proc/meminfo").write_text("MemTotal: 5 kB\n")
    with pytest.raises(ReadingError, match="MemAvailable"):
        available.read_bytes()
    (root / "proc/meminfo").unlink()
    with pytest.raises(ReadingError, match="cannot be read"):
        available.read_bytes()


def test_a_limit_that_vanishes_is_an_error_and_never_unlimited(root: Path) -> None:
    _write(root / "proc/self/cgroup", "0::/app\n")
    _write(root / "proc/self/mountinfo", V2.format(root="/"))
    _limit_v2(root / "sys/fs/cgroup/app", str(GIB), 0)
    available = AvailableMemory(root)
    (root / "sys/fs/cgroup/app/memory.max").unlink()
    with pytest.raises(ReadingError, match=r"memory\.max cannot be read"):
        available.read_bytes()
