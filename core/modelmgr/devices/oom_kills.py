"""How often the kernel has killed a process because memory ran out.

A worker that ends by SIGKILL was killed by somebody: by the kernel's out-of-memory killer if its
counter moved since. The counter is the whole machine's (``oom_kill`` in ``/proc/vmstat``, Linux
4.13), so that another process's death at the same time can be mistaken for ours, never the reverse.
"""

from __future__ import annotations

from pathlib import Path

_VMSTAT = Path("/proc/vmstat")


def kernel_oom_kills(vmstat: Path = _VMSTAT) -> int | None:
    """Return the machine's count of out-of-memory kills, None where the kernel does not say."""
    try:
        lines = vmstat.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.isdecimal():
            return int(count)
    return None
