"""Wait for a solver so that Ctrl-C ends the wait at once.

HiGHS returns to Python when it is done, which may be minutes later, and only then would a signal be
handled. So it solves in a thread, and it is the wait that a signal ends; what the thread still does
ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from modelmgr.measuring.interruption import StopSignals
from modelmgr_cli.native_output import kept_off_stdout

_Answer = TypeVar("_Answer")


def solved(solve: Callable[[], _Answer]) -> _Answer:
    """Return what ``solve`` returns, or raise what it raises; nothing it prints is on stdout.

    Raises:
        KeyboardInterrupt: a signal came first.
    """
    answers: list[_Answer] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(solve())
        except BaseException as error:  # noqa: BLE001 - is raised where it was asked for
            errors.append(error)

    thread = threading.Thread(target=work, name="modelmgr-solver", daemon=True)
    with kept_off_stdout(), StopSignals(thrown_from=1):
        thread.start()
        thread.join()
    for error in errors:
        raise error
    return answers[0]
