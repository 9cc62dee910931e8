"""Where the program starts: from here on Ctrl-C ends it in one word, while it is imported too.

Imports nothing of weight itself.
"""

from __future__ import annotations

import gc
import sys

from modelmgr_cli.missing import told_missing

_BAD_INPUT = 2
_INTERRUPTED = 130


def main() -> None:
    """Import the program and run it; this exits."""
    gc.disable()  # until the command is imported (lazy): nothing that is imported is garbage
    try:
        from modelmgr_cli.app import main as run  # noqa: PLC0415 - what may be interrupted
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    except ImportError as error:
        missing = told_missing(error)
        if missing is None:
            raise
        sys.stderr.write(f"error: {missing}\n")
        sys.exit(_BAD_INPUT)
    run()
