"""The descendants of real processes: found wherever they hide, counted with what they hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from modelmgr.devices.host import HostReader, describe_host
from modelmgr.devices.process_tree import (
    child_pids,
    descendant_memory_bytes,
    descendant_pids,
    read_descendants,
)
from modelmgr.units import GIB, MIB
from support.memory_child import MemoryChild

SIZE = 64 * MIB
# Starts a process in a session of its own, that takes memory, from a thread; and tells its id.
_PARENT = f"""
import subprocess, sys, threading
code = "import sys; held = b'x' * {SIZE}; print('held', flush=True); sys.stdin.read()"
def start():
    global child
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
    sys.stdin.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
child.kill()
if sys.argv[1] == "reap":
    child.wait()
print("ended", flush=True)
sys.stdin.read()
"""


class _Parent:
    def __init__(self, *, reap: bool = True) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, the code above
            [sys.executable, "-I", "-S", "-c", _PARENT, "reap" if reap else "leave"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        assert self.process.stdout is not None
        self.child_pid = int(self.process.stdout.readline())

    def end_child(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ended\n"


@pytest.fixture
def parent() -> Iterator[_Parent]:
    started = _Parent()
    with started.process:
        yield started
        assert started.process.stdin is not None
        started.process.kill()


def test_a_child_that_a_thread_started_in_a_session_of_its_own_is_found(parent: _Parent) -> None:
    assert child_pids(parent.pid) == (parent.child_pid,)
    assert set(descendant_pids(os.getpid())) >= {parent.pid, parent.child_pid}
    assert set(descendant_pids(os.getpid(), without={parent.pid})).isdisjoint(
        {parent.pid, parent.child_pid}
    )


def test_what_a_descendant_holds_counts_and_its_end_is_seen(parent: _Parent) -> None:
    held = read_descendants(parent.pid)
    assert held.processes == 1
    assert held.unreclaimable_bytes >= SIZE
    assert descendant_memory_bytes(parent.pid) >= SIZE
    parent.end_child()
    assert read_descendants(parent.pid) == (0, 0, 0)


def test_a_process_that_is_gone_has_no_descendants() -> None:
    with MemoryChild() as child:
        child.kill()
        assert child_pids(child.pid) == ()
        assert read_descendants(child.pid) == (0, 0, 0)


def test_the_host_counts_a_tracked_process_with_its_descendants(parent: _Parent) -> None:
    reader = HostReader(describe_host(GIB))
    reader.track(parent.pid)
    reading = reader.read()
    assert reading.used_bytes >= SIZE
    reader.track(parent.child_pid)  # on its own now: it must not count twice
    both = reader.read()
    assert both.used_bytes < reading.used_bytes + SIZE
    assert both.processes is not None
    assert both.processes[parent.child_pid] >= SIZE
    assert both.processes[parent.pid] < SIZE
    reader.close()


def test_what_tracked_descendants_hold_is_not_taken_for_somebody_elses(parent: _Parent) -> None:
    reader = HostReader(describe_host(GIB))
    reader.track(parent.pid)
    reading = reader.read()
    assert reading.processes == {parent.pid: reading.used_bytes}
    reader.close()


def test_a_reader_that_tracks_its_own_process_does_not_take_its_children_for_it(
    parent: _Parent,
) -> None:
    # The owner's children are the forkserver and the workers, which are tracked by themselves.
    reader = HostReader(describe_host(GIB))
    reader.track(os.getpid())
    assert reader.read().used_bytes < SIZE
    assert parent.process.poll() is None
    reader.close()
