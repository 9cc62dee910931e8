"""Why the system makes no further process, in words that say what to do about it."""

from __future__ import annotations

import errno
import os
import resource


def explain(error: OSError) -> str:
    """Return what a user is told when a process, socket or pipe could not be made."""
    match error.errno:
        case errno.EMFILE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return (
                f"its owner may have no more than {limit} open files, and they are used up; raise "
                "the limit before the start (`ulimit -n 4096`), or keep fewer copies"
            )
        case errno.ENFILE:
            return "the machine has no room for a further open file (`sysctl fs.file-max`)"
        case errno.EAGAIN:
            return (
                f"{os.strerror(errno.EAGAIN)}: no further process or thread is allowed "
                "(`ulimit -u`, or the container's limit of processes)"
            )
        case _:
            return str(error)


def no_descriptor() -> OSError:
    """Return the error for a descriptor that was sent and found no room, which nobody raises."""
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
