"""A program that starts a forkserver whose import never ends: ``python server_owner.py``.

The module that hangs, ``support.endless_import``, says who it is on the pipe that the environment
variable MODELMGR_TEST_PIPE names.
"""

from __future__ import annotations

import os

from modelmgr.workers.server_process import ServerProcess
from modelmgr.workers.watcher import Watcher

if __name__ == "__main__":
    ServerProcess(Watcher("test"), ("support.endless_import",), os.environ, timeout_s=600)
