"""Running out of memory is recognised whoever says so, and nothing else is."""

from __future__ import annotations

import errno

import pytest

from modelmgr.workers.loaders.exhaustion import is_out_of_memory


class OutOfMemoryError(Exception):
    """As torch's is named, of no relation to ours."""


class _DeviceFullError(OutOfMemoryError):
    pass


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("full"),
        _DeviceFullError("full"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Failed to allocate memory for requested buffer of size 4096"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_an_allocators_words_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    wrapped = ValueError("loading failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


class _BrokenMessageError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message for you")


def test_an_error_whose_message_cannot_be_made_is_looked_through() -> None:
    error = _BrokenMessageError()
    assert not is_out_of_memory(error)
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)


def test_other_errors_are_not_taken_for_it() -> None:
    error = ValueError("no such layer")
    error.__context__ = error
    assert not is_out_of_memory(error)
    assert not is_out_of_memory(OSError(errno.ENOENT, "No such file"))
