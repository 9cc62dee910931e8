"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

from support.warm_program import WarmProgram

# `make test` draws the same examples every time, `make soak` others every time and many more.
# Neither has a deadline: how long an example takes says how busy the machine is.
settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1_000, deadline=None)
settings.load_profile("quick")


def pytest_configure() -> None:
    """Let programs under test be interrupted, also where the tests themselves may not be.

    A shell starts background jobs with SIGINT ignored, and nohup with SIGHUP ignored; both are
    inherited, and a program that ignores a signal cannot be tested with it. A handler of ours is
    not inherited: what we start has the default again.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say what ``-n auto`` is: the processors that we may use, but each may hold a framework."""
    return min(len(os.sched_getaffinity(0)), 4)


@pytest.fixture(scope="session")
def warm() -> Generator[WarmProgram]:
    """The program, imported once for all calls."""
    program = WarmProgram()
    yield program
    program.close()
