"""Reading what is to be compared: what is said is about the file that was named."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.comparing.reading import is_there, read_side
from modelmgr.errors import InputError
from support.other_users import without_privileges


def test_a_baseline_where_nobody_may_look_is_read_and_so_named(tmp_path: Path) -> None:
    """The log that might have been beside it was named, or a traceback was all there was."""
    closed = tmp_path / "closed"
    closed.mkdir()
    baseline = closed / "b.json"
    baseline.write_text("{}")
    closed.chmod(0)
    try:
        with without_privileges():
            assert is_there(baseline)
            with pytest.raises(InputError, match="no permission to read") as refused:
                read_side(baseline)
    finally:
        closed.chmod(0o700)
    assert "b.json:" in str(refused.value)
    assert not is_there(tmp_path / "missing.json")
