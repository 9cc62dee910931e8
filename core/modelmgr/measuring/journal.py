"""The journal beside the output: what is measured already, safe on disk before the next begins.

JSON lines, one record a finished model, each synced to the disk before the next model starts. The
first line says who writes. Records carry a fingerprint of everything that the figures depend on, so
that ``resume`` takes only what would come out the same again. A last line that a kill tore in two
is dropped. The file is locked (flock) while a run writes: the lock ends with its process, however
that ends, so a stale one cannot exist. The journal goes once the database is safely written; this
module neither measures nor writes databases.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.costs import Eviction, ModelCost


class JournalHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: who writes, since when, and a fingerprint of the machine and its device."""

    journal: Literal["modelmgr.profile"] = "modelmgr.profile"
    version: Literal[1] = 1
    pid: int
    started_at: str
    machine: str | None = None


class JournalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished model, failed or not, and the evictions since the record before."""

    tag: str
    fingerprint: str
    cost: ModelCost
    evictions: tuple[Eviction, ...] = ()


_header_decoder = msgspec.json.Decoder(JournalHeader)
_record_decoder = msgspec.json.Decoder(JournalRecord)
_encoder = msgspec.json.Encoder(order="deterministic")


def journal_path(out: Path) -> Path:
    """Return where the journal of a database lies: beside it."""
    return out.with_name(out.name + ".journal")


def fingerprint_of(*parts: object) -> str:
    """Return ``sha256:…`` of JSON-encodable parts; the order of keys makes no difference."""
    return "sha256:" + hashlib.sha256(_encoder.encode(parts)).hexdigest()


class Journal:
    """An open, locked journal.

    Attributes:
        path: the file.
        left: what an earlier run left, by tag, the last record of a tag winning.
        records: the part of it that was resumed: all of it or none.
        discarded: how many finished models of an earlier run are not resumed.
        machine: the fingerprint of the machine that ``left`` was measured on, None where unknown.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        """Open and lock it, creating it where there is none; nothing in it changes yet.

        Args:
            out: the database that the journal belongs to.
            resume: keep what an earlier run left; otherwise start empty.

        Raises:
            UsageError: the folder is missing or not writable, the disk is full, another run holds
                the journal, or the file is not a journal.
        """
        self.path = journal_path(out)
        self._worth_keeping = True
        self._descriptor = self._open_locked(out)
        try:
            text = self._read_all()
            self._worth_keeping = bool(text)
            self.machine: str | None = None
            kept = self._parse(text)
            self.left: Mapping[str, JournalRecord] = kept
            self.records: Mapping[str, JournalRecord] = kept if resume else {}
            self.discarded = 0 if resume else len(kept)
        except BaseException:
            self.close()
            raise

    def begin(self, *, keep: Collection[str] = (), machine: str | None = None) -> None:
        """Make the file this run's: with the records that are resumed, and those to keep.

        Args:
            keep: tags whose records stay although nothing is resumed.
            machine: the fingerprint of this machine.

        To be called once nothing can refuse the run any more: until then an earlier run's journal
        stays as it is.

        Raises:
            UsageError: the disk is full or the file cannot be written.
        """
        kept = [record for tag, record in self.left.items() if tag in self.records or tag in keep]
        self._start(kept, machine)
        self._worth_keeping = bool(kept)

    def append(self, record: JournalRecord) -> None:
        """Add a finished model; it is on the disk when this returns.

        Raises:
            UsageError: the disk is full or the file cannot be written.
        """
        self._write(_encoder.encode(record) + b"\n")
        self._worth_keeping = True

    def remove(self) -> None:
        """Delete the file and give the lock back: the database holds everything now."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the lock back; the file stays where it holds any model. Can be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            if not self._worth_keeping:
                self.path.unlink(missing_ok=True)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_locked(self, out: Path) -> int:
        if out.is_dir():
            raise UsageError(f"{out} is a folder: name a file in it, e.g. {out / 'costs.json'}")
        if not out.parent.is_dir():
            raise UsageError(f"the folder {out.parent} does not exist: create it, or name another")
        while True:
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self.path, flags, 0o644)
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A run that just finished may have deleted the file between our open and our lock.
                if self._is_current(descriptor):
                    return descriptor
            except BlockingIOError:
                holder = self._holder(descriptor)
                os.close(descriptor)
                raise UsageError(
                    f"{out} is being written by {holder}: wait for it, or name another output"
                ) from None
            except OSError as error:
                os.close(descriptor)
                raise self._unwritable(error) from error
            os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    @staticmethod
    def _holder(descriptor: int) -> str:
        try:
            header = _header_decoder.decode(os.pread(descriptor, 4096, 0).partition(b"\n")[0])
        except msgspec.DecodeError:
            return "another run of profile"
        return f"another run of profile (process {header.pid}, since {header.started_at})"

    def _read_all(self) -> bytes:
        chunks: list[bytes] = []
        while chunk := os.read(self._descriptor, 1 << 20):
            chunks.append(chunk)
        return b"".join(chunks)

    def _parse(self, text: bytes) -> dict[str, JournalRecord]:
        """Return the complete records; refuse a file that some other program wrote."""
        header, newline, rest = text.partition(b"\n")
        if not newline:  # empty, or torn within the first line
            if text and not b'{"journal":"modelmgr.profile"'.startswith(text[:29]):
                raise self._foreign()
            return {}
        try:
            self.machine = _header_decoder.decode(header).machine
        except msgspec.DecodeError:
            raise self._foreign() from None
        records: dict[str, JournalRecord] = {}
        for line in rest.split(b"\n")[:-1]:  # what follows the last newline is torn
            try:
                record = _record_decoder.decode(line)
            except msgspec.DecodeError:
                continue  # torn by a kill, then written after by a resumed run
            records[record.tag] = record
        return records

    def _foreign(self) -> UsageError:
        return UsageError(
            f"{self.path} is no journal of profile: move it away, or name another --out"
        )

    def _start(self, records: Sequence[JournalRecord], machine: str | None) -> None:
        """Leave the file with a header of this process, and with these records."""
        kept = b"".join(_encoder.encode(record) + b"\n" for record in records)
        header = JournalHeader(
            pid=os.getpid(),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine,
        )
        whole = _encoder.encode(header) + b"\n" + kept
        if not kept:
            try:
                os.ftruncate(self._descriptor, 0)
            except OSError as error:
                raise self._unwritable(error) from error
            self._write(whole)
            return
        # Old records must outlive a kill right here: write a whole new file, then swap it in.
        replacement = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        old = self._descriptor
        try:
            self._descriptor = os.open(
                replacement, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644
            )
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(whole)
            replacement.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            replacement.unlink(missing_ok=True)
            os.close(old)

    def _write(self, data: bytes) -> None:
        end = 0
        try:
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError as error:
            _cut_torn_line(self._descriptor, end)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UsageError:
        why = os.strerror(error.errno) if error.errno else str(error)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        step = "free some space there, then go on with --resume" if full else "name another --out"
        return UsageError(f"{self.path} cannot be written: {why}; {step}")


def _cut_torn_line(descriptor: int, end: int) -> None:
    """Cut a half-written line off again, so far as the disk lets us."""
    try:
        os.ftruncate(descriptor, end)
    except OSError:
        return  # readers drop a torn last line anyway
