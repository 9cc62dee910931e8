"""The server: one manager, shared by all processes of a user on a machine.

Owns the sessions and the connections, and how all that ends. Who comes is let in by ``acceptor``,
what is asked is answered in ``requests``, who is gone is noticed in ``holders``. The manager and
the launcher stay the caller's.
"""

from __future__ import annotations

import logging
import os
import pwd
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from modelmgr.arguments import as_seconds
from modelmgr.errors import ServiceLostError, UsageError
from modelmgr.ownership import Owner
from modelmgr.runtime.manager import ModelManager
from modelmgr.runtime.service import descriptors
from modelmgr.runtime.service.acceptor import Acceptor
from modelmgr.runtime.service.catalogue import Catalogue
from modelmgr.runtime.service.connection import ClientConnection, Greeting
from modelmgr.runtime.service.framing import checked_wait
from modelmgr.runtime.service.holders import HolderWatch
from modelmgr.runtime.service.messages import ClientInfo
from modelmgr.runtime.service.peers import Peer, open_peer_pidfd, peer_of
from modelmgr.runtime.service.places import ListeningPlace, checked_path
from modelmgr.runtime.service.quotas import Quotas
from modelmgr.runtime.service.requests import Service
from modelmgr.runtime.service.sessions import Holding, Session
from modelmgr.runtime.service.waiting import WorkerSettings
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec

_LOG = logging.getLogger("modelmgr")
_EPOCH_BYTES = 8
_FRAME_TIMEOUT_S = 5.0
_LAST_ANSWERS_S = 1.0  # a stop waits no longer for a client that does not read


class ServiceServer:
    """Serves a manager on a Unix socket from the moment it is made; ``close`` ends it.

    Args:
        manager: what is shared; the caller shuts it down, after the server.
        launcher: starts the models' processes; the caller closes it, after the manager.
        socket_path: where to listen; by default ``$XDG_RUNTIME_DIR/modelmgr/manager.sock``, or a
            folder of this user's below the temporary one.
        models: the models that clients may ask for, by tag.
        accept_specs: whether clients may describe further models. A ``target`` is only ever taken
            when the list names it.
        wait_timeout_s: how long a request waits that does not say it; None never ends.
        device: where models load, ``cpu`` or ``cuda:N``; None for where the manager places them.
        seed: of random weights.
        budget_bytes: what one model may take above its framework, None for no limit.
        load_timeout_s: how long a load may take, None for no limit.
        env: more environment for the workers.
        max_connections: of all clients together; by default 1,024, or fewer where the process's
            limit of open files has no room for two each beside 160 for models and the rest.
        max_connections_per_client: a client needs one, and one for each request at a time; about
            two thirds are for threads that wait. By default an eighth of all, five at least.
        max_connections_per_process: of all clients that one process made, so that it cannot take
            those of all others; by default as many as two clients have. Processes of other
            containers, which cannot be told apart from here, are limited together by
            ``max_connections`` alone.
        frame_timeout_s: how slow a client may be in the middle of a message, or in greeting.

    Raises:
        UsageError: a server listens there already, the path cannot be used, or this process may
            not have as many open files as that takes.
    """

    def __init__(
        self,
        manager: ModelManager,
        launcher: WorkerLauncher,
        *,
        socket_path: str | Path | None = None,
        models: Mapping[str, ModelSpec] | None = None,
        accept_specs: bool = False,
        wait_timeout_s: float | None = 300.0,
        device: str | None = None,
        seed: int = 0,
        budget_bytes: int | None = None,
        load_timeout_s: float | None = None,
        env: Mapping[str, str] | None = None,
        max_connections: int | None = None,
        max_connections_per_client: int | None = None,
        max_connections_per_process: int | None = None,
        frame_timeout_s: float = _FRAME_TIMEOUT_S,
    ) -> None:
        self.quotas = Quotas.choose(
            max_connections, max_connections_per_client, max_connections_per_process
        )
        self.epoch = secrets.token_hex(_EPOCH_BYTES)
        self._manager = manager
        self._owner = Owner()
        self._frame_timeout_s = checked_wait("frame_timeout_s", frame_timeout_s)
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._service = Service(
            manager=manager,
            catalogue=Catalogue(models or {}, accept_specs=accept_specs),
            workers=WorkerSettings(
                launcher,
                device=device,
                seed=seed,
                budget_bytes=budget_bytes,
                load_timeout_s=as_seconds("load_timeout_s", load_timeout_s),
                env=env,
            ),
            wait_timeout_s=as_seconds("wait_timeout_s", wait_timeout_s),
            stopping=self._stopping,
            stop=self._close_elsewhere,
            clients=self.clients,
        )
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)  # notified whenever a lease ended
        self._closing = threading.Lock()
        self._sessions: dict[bytes, Session] = {}
        self._connections: dict[ClientConnection, threading.Thread] = {}
        self._clearing: set[threading.Thread] = set()
        self._cut_off: tuple[str, ...] = ()
        self._place = ListeningPlace(checked_path(socket_path))
        try:
            self._watch = HolderWatch()
        except BaseException:
            self._place.close()
            raise
        self._acceptor = Acceptor(self._place.socket, self._take, self._stopping)

    @property
    def path(self) -> Path:
        """Where the server listens."""
        return self._place.path

    def clients(self) -> tuple[ClientInfo, ...]:
        """Return who is connected, what each holds, and what it waits for."""
        now_ns = time.monotonic_ns()
        with self._lock:
            sessions = list(self._sessions.values())
            connections = list(self._connections)
        own: dict[Session, list[ClientConnection]] = {session: [] for session in sessions}
        for connection in connections:
            if connection.session in own:
                own[connection.session].append(connection)
        return tuple(
            ClientInfo(
                pid=session.pid,
                user=_user_name(),  # others are turned away
                connected_ns=now_ns - session.started_ns,
                connections=len(own[session]),
                held=tuple(holding.lease.tag for holding in session.holdings()),
                waiting=tuple(
                    tag for tag in (each.waits_for for each in own[session]) if tag is not None
                ),
            )
            for session in sessions
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most ``timeout`` seconds; return whether it has."""
        return self._closed.wait(timeout)

    def close(self, timeout: float | None = 0.0) -> tuple[str, ...]:
        """End the server: refuse requests, wait for holders, cut off those that are left.

        A second call waits for the first and returns the same.

        Args:
            timeout: seconds to wait for holders; None waits for ever.

        Returns:
            What was still held when the time passed, one line for each lease. Those copies are
            free again, or destroyed where a call ran in them.
        """
        if not self._owner.is_here:
            return ()  # a forked child: the server is its parent's
        self._stopping.set()
        with self._closing:
            if not self._closed.is_set():
                self._close(timeout)
                self._closed.set()
        return self._cut_off

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Coming ----------------------------------------------------------------------------------

    def _take(self, end: socket.socket, refusal: str | None) -> None:
        peer = peer_of(end)
        if peer.uid != os.geteuid():
            _LOG.warning("process %d of user %d was turned away", peer.pid, peer.uid)
            end.close()
            return
        connection = ClientConnection(
            end,
            peer,
            self._service,
            greet=self._greet,
            frame_timeout_s=self._frame_timeout_s,
            server_pid=os.getpid(),
        )
        thread = threading.Thread(
            target=self._serve, args=(connection,), name=f"client {peer.pid}", daemon=True
        )
        with self._lock:
            if refusal is None:
                refusal = self._refusal(peer)
            if refusal is None:
                self._connections[connection] = thread
        if refusal is not None:
            if refusal:
                connection.turn_away(refusal)
            connection.close()
            return
        try:
            thread.start()
        except RuntimeError:
            self._forget(connection)
            raise

    def _refusal(self, peer: Peer) -> str | None:
        """Return why a connection is not taken, None where it is; "" is for a server that stops."""
        if self._stopping.is_set():
            return ""
        taken = len(self._connections)
        if taken >= self.quotas.in_all:
            return f"it has {taken} connections already, and takes no more"
        its_own = sum(connection.peer.pid == peer.pid for connection in self._connections)
        if peer.pid and its_own >= self.quotas.of_process:
            return (
                f"process {peer.pid} has {its_own} connections already, and no process may have "
                "more; close what it does not use, or share one connect() between its threads"
            )
        return None

    def _serve(self, connection: ClientConnection) -> None:
        anchor = False
        try:
            anchor = connection.serve()
        finally:
            session = connection.session
            if not anchor or (session is not None and session.ended):
                self._forget(connection)

    def _greet(self, connection: ClientConnection, token: bytes | None) -> Greeting:
        if token is None:
            return Greeting(
                self._open_session(connection), anchor=True, connections=self.quotas.of_client
            )
        with self._lock:
            session = self._sessions.get(token)
            if session is None or not session.is_proven_by(token, connection.peer.pid):
                raise UsageError(
                    f"process {connection.peer.pid} has no session of that name here; connect anew"
                )
            connections = sum(other.session is session for other in self._connections)
            if connections >= self.quotas.of_client:
                raise UsageError(
                    f"process {session.pid} has {connections} connections, and no client may have "
                    "more"
                )
            connection.session = session
            self._watch.watch_connection(connection.end.fileno(), connection.client_gone)
        return Greeting(session, anchor=False, connections=self.quotas.of_client)

    def _open_session(self, anchor: ClientConnection) -> Session:
        try:
            pidfd = open_peer_pidfd(anchor.end, anchor.peer.pid)
        except ProcessLookupError as error:
            raise UsageError(f"process {anchor.peer.pid} is gone: {error}") from error
        except OSError as error:
            why = descriptors.explain(error) if descriptors.none_left(error) else str(error)
            raise ServiceLostError(
                f"the server could not take process {anchor.peer.pid}: {why}"
            ) from error
        session = Session(
            self._service.manager.driver,
            epoch=self.epoch,
            pid=anchor.peer.pid,
            pidfd=pidfd,
            emptied=self._lease_ended,
        )
        with self._lock:
            stopping = self._stopping.is_set()
            if not stopping:
                self._sessions[session.token] = session
                anchor.session = session
                # Under the lock, so that an end cannot come between and close what is watched.
                if pidfd is not None:
                    self._watch.watch_process(pidfd, lambda: self._client_gone(session))
                self._watch.watch_connection(
                    anchor.end.fileno(), lambda: self._client_gone(session)
                )
        if stopping:
            if pidfd is not None:
                os.close(pidfd)
            raise UsageError("the server is stopping")
        return session

    # Going -----------------------------------------------------------------------------------

    def _client_gone(self, session: Session) -> None:
        """Clear up after a client that closed its connection or died."""
        holdings = self._end(session)
        # A release may have to read a device first: nobody else's end waits for that.
        thread = threading.Thread(
            target=self._reclaim,
            args=(session, holdings),
            name=f"modelmgr-reclaim-{session.pid}",
            daemon=True,
        )
        try:
            with self._lock:
                thread.start()
                self._clearing.add(thread)
        except RuntimeError:  # no further thread can be had
            self._reclaim(session, holdings)

    def _reclaim(self, session: Session, holdings: tuple[Holding, ...]) -> None:
        try:
            session.reclaim(holdings)
        finally:
            with self._lock:
                self._clearing.discard(threading.current_thread())

    def _end(self, session: Session) -> tuple[Holding, ...]:
        """End a session: its waits, its calls, its connections; return what it held."""
        with self._lock:
            if self._sessions.pop(session.token, None) is None:
                return ()
            connections = [c for c in self._connections if c.session is session]
        holdings = session.end()
        for connection in connections:
            connection.cut()
            if connection.is_anchor:  # the others' threads do it
                self._forget(connection)
        if session.pidfd is not None:
            self._watch.unwatch(session.pidfd)
            os.close(session.pidfd)
            session.pidfd = None
        return holdings

    def _forget(self, connection: ClientConnection) -> None:
        with self._lock:
            if self._connections.pop(connection, None) is None:
                return
        self._watch.unwatch(connection.end.fileno())
        connection.close()

    def _lease_ended(self) -> None:
        if self._stopping.is_set():  # nobody waits for it before
            with self._released:
                self._released.notify_all()

    def _held(self) -> list[str]:
        return [
            f"{holding.lease.tag!r} (copy {holding.lease.copy}) held by process {session.pid}"
            for session in self._sessions.values()
            for holding in session.holdings()
        ]

    def _close(self, timeout: float | None) -> None:
        self._place.stop_listening()
        self._acceptor.join()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.cancel_waiting()
        with self._released:
            self._released.wait_for(lambda: not self._held(), timeout)
            self._cut_off = tuple(self._held())
            sessions = list(self._sessions.values())
        self._let_answers_finish()
        for session in sessions:
            session.reclaim(self._end(session))
        with self._lock:
            left = list(self._connections.items())
        for connection, _ in left:
            connection.cut()
        for _, thread in left:
            thread.join()
        self._watch.stop()  # what it has begun to clear up is in the set from here on
        with self._lock:
            clearing = list(self._clearing)
        for thread in clearing:
            thread.join()
        self._place.close()

    def _let_answers_finish(self) -> None:
        """Hear nobody any more, and let go out what is being answered: the last release, mostly."""
        with self._lock:
            asked = [(c, t) for c, t in self._connections.items() if not c.is_anchor]
        for connection, _ in asked:
            self._watch.unwatch(connection.end.fileno())  # or our own silence looks like its end
            connection.hear_no_more()
        give_up_at = time.monotonic() + _LAST_ANSWERS_S
        for connection, thread in asked:
            if not connection.calling:
                thread.join(max(0.0, give_up_at - time.monotonic()))

    def _close_elsewhere(self, timeout: float | None) -> None:
        threading.Thread(
            target=self.close, args=(timeout,), name="modelmgr-stop", daemon=True
        ).start()


def _user_name() -> str:
    """Return the name of this process's user, his number where he has none (in a container)."""
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
