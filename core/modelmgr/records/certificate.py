"""The certificate of an offline bound: the schedule and what proves its bound, in one file.

Owns the file (``kind: modelmgr.certificate``): its types, reading, writing and its own hash.
Whether it proves what it claims is ``simulation.certificate``'s to check. The file is compact: jobs
are columns of integers, times are differences.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.costs import ToolInfo
from modelmgr.records.input_files import read_input
from modelmgr.records.versioned_json import decode_record, encode_record
from modelmgr.units import MIB

MAX_FILE_BYTES = 512 * MIB
_WHAT = "certificate"
_HINT = "'modelmgr simulate --bound' makes certificates"


class CertificateModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's figures: one idle copy and one running copy, bytes; what one load costs, ns."""

    resident_bytes: int
    peak_bytes: int
    reload_cost_ns: int


class JobColumns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The served jobs in the order in which they were granted, one entry a job in each list.

    Attributes:
        models: index into the device's models in ascending order of their tags.
        started_after_ns: since the job before started; of the first since time 0.
        held_ns: how long each held its copy.
    """

    models: tuple[int, ...]
    started_after_ns: tuple[int, ...]
    held_ns: tuple[int, ...]


class StatePrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The proof: a price on the memory of some states, nanoseconds a byte.

    Attributes:
        denominator: of every price.
        states: which states, ascending; the n-th state is that after the n-th run of starts.
        numerators: of each state's price.
    """

    denominator: int
    states: tuple[int, ...]
    numerators: tuple[int, ...]


class DeviceCertificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device's schedule, and what proves its bound.

    Attributes:
        name: the device.
        capacity_bytes: what copies might use of it.
        models: what was served on it, by tag.
        jobs: what was served.
        schedule_sha256: of all of that, as ``ServedSchedule.sha256`` has it.
        prices: the proof of ``certified_ns``.
        reloaded: the gaps over which no copy is kept; what proves ``best_ns``.
        certified_ns: no policy's reload cost is below this.
        best_ns: keeping all gaps but the reloaded ones costs this.
    """

    name: str
    capacity_bytes: int
    models: dict[str, CertificateModel]
    jobs: JobColumns
    schedule_sha256: str
    prices: StatePrices
    reloaded: tuple[int, ...]
    certified_ns: int
    best_ns: int


class SolverBound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the solver says, summed over devices. No certificate proves it, so it is kept apart."""

    reload_cost_ns: int
    method: Literal["exact", "windowed", "dual"]


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bound of a whole run, with all that is needed to check it.

    Attributes:
        tool: what wrote it.
        scenario: the scenario's name, None where there was none.
        decisions_sha256: of the run's decision log; ties the certificate to a result. None where
            it belongs to none.
        devices: each device's part.
        certified_ns: their sum: no policy's reload cost is below this.
        best_ns: their sum: some choice of evictions costs this.
        solver: the solver's own bound, which may be higher than what is certified.
        sha256: of everything else in the file.
    """

    KIND: ClassVar[str] = "modelmgr.certificate"
    SCHEMA_VERSION: ClassVar[int] = 1

    tool: ToolInfo
    scenario: str | None
    decisions_sha256: str | None
    devices: tuple[DeviceCertificate, ...]
    certified_ns: int
    best_ns: int
    solver: SolverBound
    sha256: str = ""
    schema_version: int = SCHEMA_VERSION
    kind: str = KIND

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate from a file; InputError says what is wrong with it and where."""
        return load_certificate(path)

    def save(self, path: str | Path) -> None:
        """Write the certificate, atomically; UsageError where that is not possible."""
        save_certificate(self, path)


def load_certificate(path: str | Path) -> Certificate:
    """Read a certificate; what it claims is not checked.

    Raises:
        InputError: there is no such file, or it is no certificate that this version can read.
    """
    content = read_input(path, limit_bytes=MAX_FILE_BYTES, what=_WHAT)
    return decode_certificate(content, path=os.fspath(path))


def save_certificate(certificate: Certificate, path: str | Path) -> None:
    """Write a certificate, atomically.

    Raises:
        UsageError: it cannot be written there; an old file is as it was.
    """
    write_atomically(path, encode_certificate(certificate))


def encode_certificate(certificate: Certificate) -> bytes:
    """Return the file's bytes: equal certificates give equal bytes.

    Raises:
        UsageError: a text in it is not Unicode.
    """
    return encode_record(certificate, what=_WHAT)


def content_sha256(certificate: Certificate) -> str:
    """Return the hash that belongs into ``sha256``: of the file's bytes with that left empty."""
    unsigned = msgspec.structs.replace(certificate, sha256="")
    return f"sha256:{hashlib.sha256(encode_certificate(unsigned)).hexdigest()}"


def decode_certificate(content: bytes, *, path: str | None = None) -> Certificate:
    """Return the certificate that a file's bytes hold; ``path`` is for messages.

    Raises:
        InputError: as ``load_certificate``.
    """
    return decode_record(content, Certificate, path=path, what=_WHAT, hint=_HINT)
