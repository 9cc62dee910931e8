"""A program that owns workers, for tests that kill it: ``worker_owner.py METHOD PIPE [DAEMON]``.

Prints the process ids of all that it started, one line of JSON, and then waits for ever. One
worker is idle, one hangs in a batch (and says so on the named pipe). With DAEMON, the idle one has
left a process with a session of its own behind, whose id is in that file.
"""

from __future__ import annotations

import json
import sys
import threading

from modelmgr.workers.launcher import WorkerLauncher
from support.worker_specs import python_model


def main(method: str, pipe: str, daemon: str = "") -> None:
    launcher = WorkerLauncher(start_method="spawn" if method == "spawn" else "forkserver")
    idle = launcher.start(
        python_model(on_load="leave_daemon", path=daemon) if daemon else python_model()
    )
    idle.load(timeout_s=60)
    busy = launcher.start(python_model(on_infer="signal_then_hang", path=pipe))
    busy.load(timeout_s=60)
    threading.Thread(target=busy.infer, args=(1,), daemon=True).start()
    print(json.dumps(sorted(launcher.pids() | launcher.server_pids())), flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
