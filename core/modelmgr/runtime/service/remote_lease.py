"""What a client holds: a lease of a copy in the server, and the model that it can call.

They mirror ``runtime.lease.Lease`` and ``workers.worker.Worker``; what differs is that both are of
one process and of one life of the server.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, NoReturn

from modelmgr.arguments import as_seconds
from modelmgr.errors import (
    LeaseError,
    OutOfMemoryError,
    ServiceLostError,
    UsageError,
    WorkerProtocolError,
)
from modelmgr.runtime.service import messages
from modelmgr.runtime.service.link import Link
from modelmgr.runtime.service.parcels import Parcel, arrays_of
from modelmgr.workers import payload
from modelmgr.workers.reports import HostMemory, ShapeReport


class RemoteModel:
    """A model in a worker of the server; the calls are ``Worker``'s. Thread-safe.

    Attributes:
        tag: the model.
        copy: the copy's number in the server's manager.
        device: the name of the device that it is on.
        pid: the worker's process id, None where it is not known.
    """

    def __init__(
        self,
        link: Link,
        *,
        tag: str,
        copy: int,
        device: str,
        pid: int | None,
        serial: int | None,
        lease: RemoteLease | None = None,
    ) -> None:
        self.tag = tag
        self.copy = copy
        self.device = device
        self.pid = pid
        self.lease = lease
        self._link = link
        self._serial = serial

    @property
    def alive(self) -> bool:
        """Whether the worker runs; errors as ``memory``."""
        request = messages.AskAlive(epoch=self._link.epoch, serial=self._held())
        return self._link.ask(request, messages.Answer).holds

    def infer(self, batch: object, *, timeout_s: float | None = None) -> object:
        """Run one batch in the worker and return the model's output, arrays as numpy arrays.

        Args:
            batch: numpy arrays, torch tensors, numbers, strings, bytes, and lists, tuples and dicts
                of them.
            timeout_s: seconds; None waits for ever.

        Raises:
            LeaseError: the copy is not held under a lease of this process.
            ServiceLostError: the server is gone.
            UsageError, WorkerError: as ``Worker.infer``.
        """
        timeout_s = as_seconds("timeout_s", timeout_s)
        tree, buffers = payload.encode(batch)
        request = messages.Infer(
            epoch=self._link.epoch,
            serial=self._held(),
            tree=tree,
            timeout_s=timeout_s,
            **arrays_of(buffers),
        )
        return self._link.call(request, messages.Outputs, _output, buffers)

    def run_shape(
        self,
        dims: Mapping[str, int],
        *,
        phase: Literal["memory", "latency"],
        warmups: int,
        repeats: int,
        seed: int,
        timeout_s: float | None,
    ) -> ShapeReport:
        """Run random batches of one shape, measured in the worker; see ``Worker.run_shape``."""
        if warmups < 0 or repeats < 1:
            raise UsageError(f"{repeats} batches after {warmups} warm-ups: 1 after 0 are the least")
        request = messages.RunShape(
            epoch=self._link.epoch,
            serial=self._held(),
            dims=dict(dims),
            phase=phase,
            warmups=warmups,
            repeats=repeats,
            seed=seed,
            timeout_s=as_seconds("timeout_s", timeout_s),
        )
        return self._link.call(request, messages.ShapeDone, lambda reply, _: reply.report)

    def memory(self) -> HostMemory:
        """Return what the worker holds of host memory now.

        Raises:
            ReadingError: the worker is gone.
            LeaseError: the copy is not held under a lease of this process.
            ServiceLostError: the server is gone.
        """
        request = messages.ReadMemory(epoch=self._link.epoch, serial=self._held())
        return self._link.ask(request, messages.MemoryRead).report

    def _held(self) -> int:
        if self._serial is None or (self.lease is not None and self.lease.over):
            raise LeaseError(
                f"copy {self.copy} of {self.tag!r} is not held here: acquire the model first"
            )
        return self._serial

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: it is of one process."""
        raise TypeError("a remote model cannot be copied or sent elsewhere")

    def __repr__(self) -> str:
        return f"<RemoteModel {self.tag!r} copy {self.copy} on {self.device}>"


def _output(reply: messages.Outputs, parcel: Parcel) -> object:
    try:
        return payload.decode(reply.tree, parcel.copies(reply.inline, reply.shared))
    except WorkerProtocolError as error:
        raise ServiceLostError(f"the server's answer is none: {error}") from error


class RemoteLease:
    """One granted copy; as ``Lease``: use it in a ``with`` block, or ``release`` it once.

    One that is forgotten together with its model, as when an interrupt comes between a grant and
    its use, is given back with the client's next request.

    Attributes:
        tag: the model.
        device: the name of the device that the copy is on.
        copy: the copy's number.
        epoch: the server's life that granted it.
        serial: what fences it within that life.
        hit: the copy had been loaded before.
        holder: the process and thread that acquired it.
        holder_ident: that thread's identifier.
        exhausted: its body ran out of memory, and its copy went.
    """

    def __init__(self, link: Link, tag: str, granted: messages.Granted) -> None:
        thread = threading.current_thread()
        self.tag = tag
        self.device = granted.device
        self.copy = granted.copy
        self.epoch = link.epoch
        self.serial = granted.serial
        self.hit = granted.hit
        self.holder = f"process {link.owner.pid}, {thread.name}"
        self.holder_ident = thread.ident or 0
        self.exhausted = False
        self._link = link
        self._worker_pid = granted.worker_pid
        # The model keeps its lease, and not the other way round: both are freed when nobody has
        # the model any more.
        self._instance: weakref.ref[RemoteModel] | None = None
        self._over = threading.Lock()  # taken for good by the one release
        link.keep(self, granted.serial)

    @property
    def instance(self) -> RemoteModel:
        """The model to call."""
        model = None if self._instance is None else self._instance()
        if model is None:
            model = RemoteModel(
                self._link,
                tag=self.tag,
                copy=self.copy,
                device=self.device,
                pid=self._worker_pid,
                serial=self.serial,
                lease=self,
            )
            self._instance = weakref.ref(model)
        return model

    @property
    def over(self) -> bool:
        """Whether it was released."""
        return self._over.locked()

    def release(self) -> None:
        """Give the copy back; one that a call still runs in is destroyed.

        Raises:
            LeaseError: it was released before, or is a parent process's; nothing changed.
            ServiceLostError: the server is gone, and the lease with it.
        """
        self._release(exhausted=False)

    def _release(self, *, exhausted: bool) -> None:
        owner = self._link.owner
        if not owner.is_here:
            raise LeaseError(f"{owner.told(f'this lease of {self.tag!r}')}: nothing was released")
        if not self._over.acquire(blocking=False):
            raise LeaseError(f"this lease of {self.tag!r} (copy {self.copy}) was released before")
        request = messages.Release(epoch=self.epoch, serial=self.serial, exhausted=exhausted)
        try:
            self.exhausted = self._link.ask(request, messages.Answer).holds
        except Exception:
            raise
        except BaseException:  # interrupted, perhaps before the server was told
            self._link.release_later(self.serial)
            raise
        self._link.released(self.serial)

    def __enter__(self) -> RemoteModel:
        """Return the model; raise LeaseError where the lease is over."""
        if self.over:
            raise LeaseError(f"this lease of {self.tag!r} is over: acquire the model again")
        return self.instance

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release, unless the body did; out-of-memory in the body costs the copy.

        A server that is gone hides no error of the body's.
        """
        if self.over:
            return
        try:
            self._release(exhausted=isinstance(error, OutOfMemoryError))
        except ServiceLostError:
            if error is None:
                raise

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: one lease, one holder."""
        raise TypeError("a lease cannot be copied or sent elsewhere")

    def __repr__(self) -> str:
        state = "over" if self.over else f"held by {self.holder}"
        return f"<RemoteLease of {self.tag!r} copy {self.copy} on {self.device}, {state}>"
