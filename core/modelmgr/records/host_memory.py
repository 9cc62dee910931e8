"""One process's host memory as the kernel counts it: the figures alone.

Reading them is ``devices.process_memory``'s work; this module touches no file.
"""

from __future__ import annotations

import msgspec


class HostMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process's host memory, bytes, from ``/proc/PID/status``.

    Attributes:
        anon_bytes: RssAnon, private pages with no file behind them.
        file_bytes: RssFile, touched pages of mapped files (weights by safetensors among them).
        shmem_bytes: RssShmem.
        peak_bytes: VmHWM, the resident peak since it was last reset (exact, the kernel's own).
    """

    anon_bytes: int
    file_bytes: int
    shmem_bytes: int
    peak_bytes: int

    @property
    def resident_bytes(self) -> int:
        """All resident pages."""
        return self.anon_bytes + self.file_bytes + self.shmem_bytes
