"""A module whose import never ends: it writes its process id to a named pipe and hangs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

if (_pipe := os.environ.get("MODELMGR_TEST_PIPE")) is not None:
    Path(_pipe).write_text(str(os.getpid()))
    threading.Event().wait()
