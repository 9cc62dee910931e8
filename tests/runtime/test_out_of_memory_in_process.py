"""A loader in the manager's own process that runs out of memory is told as just that."""

from __future__ import annotations

from typing import NoReturn

import pytest

from modelmgr import ModelManager
from modelmgr.scheduling.actions import Action
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.testing.fake_device import FakeDevice, FakeModel


class OutOfMemoryError(Exception):  # as torch.cuda's is named, of no relation to ours
    pass


class DeviceFullError(OutOfMemoryError):
    pass


class UnsayableError(MemoryError):
    def __str__(self) -> str:
        raise SystemExit("no message for you")


_ERRORS: tuple[BaseException, ...] = (
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("std::bad_alloc"),
    OSError(12, "Cannot allocate memory"),
    DeviceFullError("full"),
    UnsayableError(),
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each load that failed was told to the scheduler as out of memory."""
    heard: list[bool] = []
    load_failed = Scheduler.load_failed

    def listen(
        self: Scheduler, copy: int, now_ns: int, message: str, *, out_of_memory: bool = False
    ) -> list[Action]:
        heard.append(out_of_memory)
        return load_failed(self, copy, now_ns, message, out_of_memory=out_of_memory)

    monkeypatch.setattr(Scheduler, "load_failed", listen)
    return heard


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_a_load_that_ran_out_of_memory_is_told_to_the_scheduler_as_that(
    error: BaseException, told: list[bool]
) -> None:
    def load() -> NoReturn:
        raise error

    device = FakeDevice()
    with ModelManager(device) as manager:
        with pytest.raises(type(error)) as caught:
            manager.lease("m", load)
        assert caught.value is error
        assert told
        assert all(told)
        with manager.lease("m", lambda: FakeModel(device, 100.0)):
            pass


def test_a_cause_that_ran_out_of_memory_counts_and_another_error_does_not(
    told: list[bool],
) -> None:
    def wrapped() -> NoReturn:
        cause = RuntimeError("DefaultCPUAllocator: can't allocate memory")
        raise ValueError("the model could not be built") from cause

    def wrong() -> NoReturn:
        raise ValueError("no such file")

    with ModelManager(FakeDevice()) as manager:
        with pytest.raises(ValueError, match="could not be built"):
            manager.lease("m", wrapped)
        assert all(told)
        told.clear()
        with pytest.raises(ValueError, match="no such file"):
            manager.lease("m", wrong)
        assert told == [False]
