"""How a client comes to a server, and how it finds out that the server does nothing any more.

A process that is stopped keeps its sockets: whoever asks it something waits, and nothing ends. So
who has waited in silence for a while knocks: opens a connection and says hello, which a server that
runs answers at once, whatever else it does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import msgspec

from modelmgr.errors import ServiceLostError, UsageError
from modelmgr.runtime.service import descriptors, faults, messages, parcels
from modelmgr.runtime.service.framing import MalformedError, SilenceError, Stream, checked_wait
from modelmgr.runtime.service.peers import peer_of

DEFAULT_PATIENCE_S = 15.0
"""How long a server may show no sign of life before what waits for it fails."""
_SHARE_IN_SILENCE = 1 / 3  # of the patience, before somebody knocks; the rest is for the answer


class Dialler:
    """Opens connections to one server. Thread-safe.

    Attributes:
        path: the server's socket.
        patience_s: how long the server may show no sign of life.
        silence_s: how long to wait in silence before ``check_alive``.
        token: the session that connections join, None for the first, which opens one.

    Args:
        path: the server's socket.
        patience_s: how long the server may show no sign of life, seconds.

    Raises:
        UsageError: no time to wait is no patience.
    """

    def __init__(self, path: Path, patience_s: float) -> None:
        self.path = path
        self.patience_s = checked_wait("patience_s", patience_s)
        self.silence_s = self.patience_s * _SHARE_IN_SILENCE
        self.token: bytes | None = None
        self._knocking = threading.Lock()
        self._knocked_at = 0.0  # when the last knock ended
        self._unanswered = False

    def connect(self) -> tuple[Stream, messages.Welcome]:
        """Return a new connection, and what the server said to it.

        Raises:
            ServiceLostError: nobody listens there, or nobody answers.
            UsageError: the server is another user's, or refuses.
        """
        try:
            end, stream = self._open(self.patience_s)
        except BlockingIOError:
            raise self._ungreeted() from None
        try:
            server = peer_of(end)
            if server.uid != os.geteuid():
                raise UsageError(  # noqa: TRY301 - one place closes the stream
                    f"the server at {self.path} is user {server.uid}'s, and this is user "
                    f"{os.geteuid()}: choose another socket path"
                )
            welcome = self._say_hello(stream)
            stream.set_silence(self.silence_s)
        except BaseException:
            stream.close()
            raise
        return stream, welcome

    def check_alive(self) -> None:
        """Return once the server showed that it runs; TimeoutError where it does not.

        One thread knocks for all that wait.
        """
        silent_since = time.monotonic()
        with self._knocking:
            if self._knocked_at < silent_since:
                self._unanswered = not self._is_answered()
                self._knocked_at = time.monotonic()
            unanswered = self._unanswered
        if unanswered:
            raise TimeoutError(f"no sign of life for {self.patience_s:g} s; it may be stopped")

    def _is_answered(self) -> bool:
        try:
            _, stream = self._open(self.patience_s - self.silence_s)
        except BlockingIOError:
            return False
        except ServiceLostError:
            return True  # it is gone, and that is told to whoever waits
        try:
            parcels.post(stream, msgspec.msgpack.Encoder(), self._hello())
            parcels.receive(stream).close()
        except (SilenceError, BlockingIOError):
            return False
        except (EOFError, OSError, MalformedError):
            pass  # as good as an answer
        finally:
            stream.close()
        return True

    def _open(self, patience_s: float) -> tuple[socket.socket, Stream]:
        """Return a connected socket and its stream; BlockingIOError where nobody takes it."""
        try:
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            why = descriptors.explain(error) if descriptors.none_left(error) else str(error)
            raise ServiceLostError(
                f"process {os.getpid()} has no connection left to ask {self.path} on: {why}"
            ) from error
        stream = Stream(end, frame_timeout_s=patience_s)
        try:
            stream.set_silence(patience_s)
            end.connect(str(self.path))
        except BlockingIOError:
            stream.close()
            raise
        except PermissionError as error:
            stream.close()
            raise ServiceLostError(
                f"the server at {self.path} cannot be connected to ({error}); it is another "
                "user's, or its folder is"
            ) from error
        except OSError as error:
            stream.close()
            raise ServiceLostError(
                f"no server listens at {self.path} ({error}); start one with `modelmgr serve`"
            ) from error
        return end, stream

    def _hello(self) -> messages.Hello:
        return messages.Hello(version=messages.PROTOCOL_VERSION, token=self.token)

    def _say_hello(self, stream: Stream) -> messages.Welcome:
        try:
            with contextlib.suppress(BrokenPipeError):  # it has been said already why not
                parcels.post(stream, msgspec.msgpack.Encoder(), self._hello())
            parcel = parcels.receive(stream)
            parcel.close()
            reply = parcel.decode(messages.REPLIES)
        except (SilenceError, BlockingIOError):
            raise self._ungreeted() from None
        except (EOFError, OSError, MalformedError) as error:
            raise ServiceLostError(
                f"the server at {self.path} did not greet this process: {error}"
            ) from error
        if isinstance(reply, messages.Failed):
            raise faults.revive(reply.fault)
        if not isinstance(reply, messages.Welcome):
            raise ServiceLostError(f"the server at {self.path} greets with {type(reply).__name__}")
        return reply

    def _ungreeted(self) -> ServiceLostError:
        return ServiceLostError(
            f"the server at {self.path} did not greet this process within {self.patience_s:g} s; "
            "it may be stopped"
        )
