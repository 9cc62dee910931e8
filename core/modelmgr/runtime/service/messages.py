"""What client and server say to each other: msgpack maps with a ``type``, each one validated.

Numbers and text only; a model is a tag or a ``ModelSpec``, which is plain data. Arrays are the
``tree`` of ``workers.payload``, their bytes beside it: ``inline``, or ``shared``, the lengths of
what lies in the memory that came with the message (see
``workers.shared_arrays``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from modelmgr.records.costs import Eviction
from modelmgr.runtime.service.faults import Fault
from modelmgr.runtime.snapshot import ManagerSnapshot
from modelmgr.workers.reports import HostMemory, ShapeReport
from modelmgr.workload.model_spec import ModelSpec

PROTOCOL_VERSION = 2

Count = Annotated[int, msgspec.Meta(ge=0)]
# More, and the system's clocks would not take it; clients say None for such a time.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    pass


# What a client says ------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message of every connection; a later protocol's may say more.

    Attributes:
        version: the protocol that the client speaks.
        token: the session that this connection belongs to; None opens one.
    """

    version: int
    token: bytes | None = None


class Acquire(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Grant a copy of a model.

    Attributes:
        default_timeout: the server decides how long to wait.
        alone: load it on a drained device, for it ran out of memory.
    """

    tag: Text
    spec: ModelSpec | None = None
    timeout_s: Seconds | None = None
    default_timeout: bool = False
    priority: int = 0
    worst_case_bytes: Annotated[int, msgspec.Meta(gt=0)] | None = None
    alone: bool = False


class Release(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Take a lease back; ``exhausted`` says that its last call ran out of memory."""

    epoch: Text
    serial: Count
    exhausted: bool = False


class Infer(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Run a batch in the worker of a leased copy."""

    epoch: Text
    serial: Count
    tree: Any
    inline: tuple[bytes, ...] = ()
    shared: tuple[Count, ...] = ()
    timeout_s: Seconds | None = None


class RunShape(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Run random batches of one shape in the worker of a leased copy."""

    epoch: Text
    serial: Count
    dims: dict[str, int]
    phase: Literal["memory", "latency"]
    warmups: Count
    repeats: Count
    seed: int
    timeout_s: Seconds | None = None


class ReadMemory(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Tell what the worker of a leased copy holds of host memory."""

    epoch: Text
    serial: Count


class AskAlive(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Tell whether the worker of a leased copy runs."""

    epoch: Text
    serial: Count


class ListCopies(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Name the loaded copies of a model."""

    tag: Text


class ListModels(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Name the models that the server's list has."""


class AskIsolation(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Say whether a model could be measured alone now."""

    tag: Text
    ticket_num: int | None


class AskSpawn(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Say whether one more copy could be loaded now."""

    tag: Text
    ticket_num: int | None


class Pin(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Keep a model's copies from eviction, or allow it again."""

    tag: Text
    pinned: bool


class TakeSnapshot(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Tell what is loaded, held, queued and reserved."""


class ListEvictions(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Tell what was evicted, and why; only the ``last`` so many where that is said."""

    last: Count | None = None


class ListClients(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Tell who is connected, what each holds, and what it waits for."""


class Reset(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Unload idle copies now and held ones when they are released."""


class StopServer(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """End the server, for everybody."""

    timeout_s: Seconds | None


# What the server answers -------------------------------------------------------------------------


class Welcome(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The connection is one of a session.

    Attributes:
        epoch: this life of the server.
        token: proves the session.
        pid: the server's process.
        connections: how many the session may have, this one included.
    """

    epoch: str
    token: bytes
    pid: int
    connections: int


class Granted(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A lease."""

    serial: int
    copy: int
    device: str
    hit: bool
    worker_pid: int | None


class Done(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """It was done."""


class Answer(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Yes or no."""

    holds: bool


class Outputs(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """What a model returned."""

    tree: Any
    inline: tuple[bytes, ...] = ()
    shared: tuple[Count, ...] = ()


class ShapeDone(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A shape was run."""

    report: ShapeReport


class MemoryRead(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """What a worker holds."""

    report: HostMemory


class FoundCopy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loaded copy; ``serial`` is the asking session's lease of it, None where it has none."""

    copy: int
    device: str
    serial: int | None


class Copies(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The loaded copies of a model, in the order in which they were loaded."""

    copies: tuple[FoundCopy, ...]


class Models(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The tags of the server's list."""

    tags: tuple[str, ...]


class Snapshot(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The manager at one moment."""

    snapshot: ManagerSnapshot


class Evictions(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """What was evicted, oldest first."""

    evictions: tuple[Eviction, ...]


class ClientInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client.

    Attributes:
        pid: its process, as the server sees it; 0 where it cannot be seen from there.
        user: whose it is.
        connected_ns: how long it has been there.
        connections: how many it has.
        held: the models of its leases, one for each.
        waiting: the models of the leases that it waits for.
    """

    pid: int
    user: str
    connected_ns: int
    connections: int
    held: tuple[str, ...]
    waiting: tuple[str, ...]


class Clients(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Who is connected, in the order in which they came."""

    clients: tuple[ClientInfo, ...]


class Failed(_Message, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """It was not done, and why; ``closing`` says that the connection ends with that."""

    fault: Fault
    closing: bool = False


Request = (
    Acquire
    | Release
    | Infer
    | RunShape
    | ReadMemory
    | AskAlive
    | ListCopies
    | ListModels
    | AskIsolation
    | AskSpawn
    | Pin
    | TakeSnapshot
    | ListEvictions
    | ListClients
    | Reset
    | StopServer
)
Reply = (
    Welcome
    | Granted
    | Done
    | Answer
    | Outputs
    | ShapeDone
    | MemoryRead
    | Copies
    | Models
    | Snapshot
    | Evictions
    | Clients
    | Failed
)

HELLOS: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)
REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
