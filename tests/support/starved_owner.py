"""A program that starts workers with few descriptors: ``starved_owner.py METHOD FIRST LAST``.

For each limit it starts workers until one fails, and prints one line of JSON: the limit, how many
started, the kind of the error and its message, and what was logged meanwhile.
"""

from __future__ import annotations

import io
import json
import logging
import resource
import sys

from modelmgr.errors import ModelmgrError
from modelmgr.workers.launcher import Worker, WorkerLauncher
from support.worker_specs import synthetic_model


def _start_until_one_fails(method: str) -> tuple[int, Exception]:
    workers: list[Worker] = []
    launcher: WorkerLauncher | None = None
    try:
        launcher = WorkerLauncher(start_method="spawn" if method == "spawn" else "forkserver")
        while True:
            workers.append(launcher.start(synthetic_model(resident_bytes=1000)))
            workers[-1].load(timeout_s=60)
    except (ModelmgrError, OSError) as error:
        return len(workers), error
    finally:
        if launcher is not None:
            launcher.close()


def main(method: str, first: str, last: str) -> None:
    log = io.StringIO()
    logging.basicConfig(stream=log)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with WorkerLauncher() as warm:  # what is imported late is imported now
        warm.start(synthetic_model(resident_bytes=1000)).close()
    for limit in range(int(first), int(last) + 1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        started, error = _start_until_one_fails(method)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        result = (limit, started, type(error).__name__, str(error), log.getvalue())
        print(json.dumps(result), flush=True)  # noqa: T201 - the answer to the test


if __name__ == "__main__":
    main(*sys.argv[1:])
