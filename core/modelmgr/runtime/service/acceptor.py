"""Lets clients in, one after another, and tells those why who come when there is no descriptor.

Owns the thread that listens. Who may come in, and what becomes of him, is ``server``'s.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable

from modelmgr.runtime.service import descriptors

_LOG = logging.getLogger("modelmgr")
_NO_DESCRIPTOR_PAUSE_S = 0.05


class Acceptor:
    """Takes connections from a listening socket until ``stopping`` is set and the socket shut down.

    Args:
        listener: the socket; the caller's.
        take: owns a connection from then on; with a text it is to refuse it, saying so.
        stopping: set before the end.
    """

    def __init__(
        self,
        listener: socket.socket,
        take: Callable[[socket.socket, str | None], None],
        stopping: threading.Event,
    ) -> None:
        self._listener = listener
        self._take = take
        self._stopping = stopping
        self._spare = descriptors.Spare()
        self._thread = threading.Thread(target=self._accept, name="modelmgr-accept", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until nobody is let in any more."""
        self._thread.join()
        self._spare.close()

    def _accept(self) -> None:
        coming = select.poll()
        coming.register(self._listener, select.POLLIN)
        while not self._stopping.is_set():
            coming.poll()  # so that, where no descriptor is left, somebody is there to be told
            try:
                end, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping.is_set():
                    self._turn_one_away(error)
                continue
            self._take_safely(end, None)

    def _turn_one_away(self, error: OSError) -> None:
        """Tell who comes next, by means of the spare descriptor, that there is none for him."""
        _LOG.warning("no connection could be taken: %s", error)
        if descriptors.none_left(error):
            with contextlib.suppress(OSError), self._spare.lent():
                end, _ = self._listener.accept()
                self._take_safely(end, descriptors.explain(error))
                return
        self._stopping.wait(_NO_DESCRIPTOR_PAUSE_S)

    def _take_safely(self, end: socket.socket, refusal: str | None) -> None:
        try:
            self._take(end, refusal)
        except Exception:  # noqa: BLE001 - one client's trouble must not end the listening
            _LOG.exception("a connection could not be served")
            end.close()
