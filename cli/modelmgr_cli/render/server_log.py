"""What the library logs while a server runs: a line on stderr each, with the time.

A server is read by its log. Tracebacks are for ``--debug``; without it their last line says what
happened.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Generator

from modelmgr_cli.terminal import Terminal, printable

_LOGGER = "modelmgr"


class _Lines(logging.Formatter):
    """One line for a record; all of its traceback with ``debug``."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if self._debug or error is None:
            return printable(super().format(record))
        plain = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        what = str(error) or "no message"
        return printable(f"{super().format(plain)}: {type(error).__name__}: {what}")


@contextlib.contextmanager
def server_log(terminal: Terminal) -> Generator[None]:
    """Write what the library logs to stderr within a ``with`` block: warnings, else every step."""
    logger = logging.getLogger(_LOGGER)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(debug=terminal.debug))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if terminal.verbose else logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
