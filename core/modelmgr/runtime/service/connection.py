"""One client's connection in the server: greets it, then reads, answers, reads, answers.

Owns a thread of its own, so that a slow client keeps nobody waiting but itself. Whatever comes that
is no message is answered with an error where that is possible, and ends this connection alone.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable

import msgspec

from modelmgr import __version__
from modelmgr.errors import ModelmgrError, ServiceLostError, UsageError
from modelmgr.runtime.service import faults, messages, parcels
from modelmgr.runtime.service.framing import (
    MalformedError,
    NoRoomError,
    SilenceError,
    Stream,
)
from modelmgr.runtime.service.peers import Peer
from modelmgr.runtime.service.requests import Answered, ClientGoneError, Desk, Service
from modelmgr.runtime.service.sessions import Session
from modelmgr.workers.shared_arrays import Segment

_LOG = logging.getLogger("modelmgr")


class Greeting:
    """What a server says to a new connection: which session it is of, or why it is refused.

    Attributes:
        session: the session.
        anchor: the connection only stands for the client's life; nothing is asked on it.
        connections: how many the session may have.
    """

    __slots__ = ("anchor", "connections", "session")

    def __init__(self, session: Session, *, anchor: bool, connections: int) -> None:
        self.session = session
        self.anchor = anchor
        self.connections = connections


class ClientConnection:
    """One connection.

    Args:
        end: its socket, owned from now on.
        peer: who is at its other end.
        service: what connections share.
        greet: finds or opens a session; raises UsageError where it refuses.
        frame_timeout_s: how slow a client may be in the middle of a message.
        server_pid: this process, for the client.
    """

    def __init__(
        self,
        end: socket.socket,
        peer: Peer,
        service: Service,
        *,
        greet: Callable[[ClientConnection, bytes | None], Greeting],
        frame_timeout_s: float,
        server_pid: int,
    ) -> None:
        self.peer = peer
        self.end = end
        self.session: Session | None = None
        self.is_anchor = False
        self._hung_up = False
        self._stream = Stream(end, frame_timeout_s=frame_timeout_s)
        self._service = service
        self._greet = greet
        self._frame_timeout_s = frame_timeout_s
        self._server_pid = server_pid
        self._encoder = msgspec.msgpack.Encoder()
        self._desk: Desk | None = None

    def serve(self) -> bool:
        """Greet the client and answer it until it goes; return whether it is an anchor instead.

        An anchor stays open, and is the caller's to watch and to close.
        """
        try:
            greeting = self._say_welcome()
            if greeting is None:
                return False
            if greeting.anchor:
                self.is_anchor = True
                return True
            self._desk = Desk(self._service, greeting.session)
            if self._hung_up:
                return False
            while self._answer_next(self._desk):
                pass
        except (EOFError, OSError, ClientGoneError):
            pass  # it went, or does not read
        except Exception:  # noqa: BLE001 - a bug of ours: it must cost this connection and nothing else
            _LOG.exception("a connection of process %d failed", self.peer.pid)
        finally:
            if self._desk is not None:
                self._desk.close()
        return False

    def turn_away(self, reason: str) -> None:
        """Say, instead of a greeting, why the server takes no further connection."""
        self._post_failed(
            ServiceLostError(f"the server did not greet this process: {reason}"), closing=True
        )

    def client_gone(self) -> None:
        """Break off what runs here, for the client hung up; called by another thread."""
        self._hung_up = True
        desk = self._desk
        if desk is not None:
            desk.client_gone()

    def cancel_waiting(self) -> None:
        """End a wait for a lease with ManagerClosedError; called by another thread."""
        desk = self._desk
        if desk is not None:
            desk.cancel_waiting()

    @property
    def waits_for(self) -> str | None:
        """The model that a lease is waited for here, None where nobody waits."""
        desk = self._desk
        return None if desk is None else desk.waits_for

    @property
    def calling(self) -> bool:
        """Whether a call of a model runs here."""
        desk = self._desk
        return desk is not None and desk.calling

    def hear_no_more(self) -> None:
        """Take no further request; the answer to the latest still goes out."""
        self._stream.hear_no_more()

    def cut(self) -> None:
        """End the connection, whatever it does; called by another thread."""
        self._stream.cut()
        self.client_gone()

    def close(self) -> None:
        """Close the socket, once nobody uses it any more."""
        self._stream.close()

    def _say_welcome(self) -> Greeting | None:
        self._stream.set_silence(self._frame_timeout_s)
        try:
            with contextlib.closing(parcels.receive(self._stream)) as parcel:
                hello = parcel.decode(messages.HELLOS)
            if hello.version != messages.PROTOCOL_VERSION:
                raise UsageError(
                    f"the client speaks protocol {hello.version}, and this server (modelmgr "
                    f"{__version__}) protocol {messages.PROTOCOL_VERSION}; install the same "
                    "version of modelmgr on both sides"
                )
            greeting = self._greet(self, hello.token)
        except SilenceError:
            return None
        except MalformedError as error:
            self._refuse(error)
            return None
        except ModelmgrError as error:
            self._post_failed(error, closing=True)
            return None
        self._stream.set_silence(None)
        self.session = greeting.session
        welcome = messages.Welcome(
            epoch=greeting.session.epoch,
            token=greeting.session.token,
            pid=self._server_pid,
            connections=greeting.connections,
        )
        parcels.post(self._stream, self._encoder, welcome)
        return greeting

    def _answer_next(self, desk: Desk) -> bool:
        """Answer one request; return whether the connection goes on."""
        try:
            parcel = parcels.receive(self._stream)
            try:
                request = parcel.decode(messages.REQUESTS)
                answered = self._answer(desk, request, parcel)
            finally:
                parcel.close()
        except NoRoomError as error:
            desk.heard()
            self._post_failed(ServiceLostError(f"the server could not take the message: {error}"))
            return True
        except MalformedError as error:
            self._refuse(error)
            return False
        message, buffers = answered
        try:
            parcels.post(self._stream, self._encoder, message, buffers)
        except ModelmgrError as error:  # nothing of it was sent
            self._post_failed(error)
        finally:
            if isinstance(buffers, Segment):
                buffers.memory.close()
        return True

    def _answer(self, desk: Desk, request: messages.Request, parcel: parcels.Parcel) -> Answered:
        try:
            return desk.answer(request, parcel)
        except ModelmgrError as error:
            return messages.Failed(fault=faults.describe(error)), ()
        except (ClientGoneError, MalformedError):
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours, and others go on
            _LOG.exception("a request of process %d failed", self.peer.pid)
            return messages.Failed(fault=faults.describe(error)), ()

    def _refuse(self, error: MalformedError) -> None:
        self._post_failed(UsageError(f"malformed message: {error}"), closing=True)

    def _post_failed(self, error: ModelmgrError, *, closing: bool = False) -> None:
        failed = messages.Failed(fault=faults.describe(error), closing=closing)
        with contextlib.suppress(OSError):
            parcels.post(self._stream, self._encoder, failed)
