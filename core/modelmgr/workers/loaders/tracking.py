"""Counting live tensor bytes while something runs: one tracker for real and for fake tensors.

Owns the counting alone. What a kernel takes for itself while it runs (packing, scratch) is no
tensor and is not seen here.
"""
# ruff: noqa: ANN401 - torch is imported when it is needed, its objects have no types here

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from modelmgr.workers.loaders.frameworks import import_framework


class StorageCount:
    """Bytes of the storages seen so far that are still alive, and their peak."""

    def __init__(self) -> None:
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()

    def ignore(self, tensors: Iterable[Any]) -> None:
        """Leave out the storages of these tensors, which must outlive the count."""
        for tensor in tensors:
            self._known.add(tensor.untyped_storage()._cdata)  # noqa: SLF001 - the storage's identity

    def see(self, tensor: Any) -> None:
        """Count the tensor's storage from now until it is freed, once."""
        storage = tensor.untyped_storage()
        identity = storage._cdata  # noqa: SLF001 - the storage's identity
        if identity in self._known:
            return
        size_bytes = int(storage.nbytes())
        self._known.add(identity)
        self.live_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        # torch keeps a storage's Python object for as long as the storage lives.
        weakref.finalize(storage, self._forget, identity, size_bytes).atexit = False

    def _forget(self, identity: int, size_bytes: int) -> None:
        self._known.discard(identity)
        self.live_bytes -= size_bytes


@cache
def _mode_class() -> Any:
    dispatch = import_framework("torch.utils._python_dispatch")
    pytree = import_framework("torch.utils._pytree")
    torch = import_framework("torch")
    base: Any = dispatch.TorchDispatchMode

    class _CountingMode(base):  # type: ignore[misc]  # torch's class is only known at run time
        def __init__(self, count: StorageCount) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType] - as above
            self._count = count

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            result = function(*args, **(kwargs or {}))
            for leaf in pytree.tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self._count.see(leaf)
            return result

    return _CountingMode


def peak_tensor_bytes(run: Callable[[], object], *, ignored: Iterable[Any] = ()) -> int:
    """Run and return the peak of live bytes of the storages that it made.

    Args:
        run: a forward pass; its result counts until it returns.
        ignored: tensors that lived before: weights, buffers, the batch.
    """
    count = StorageCount()
    count.ignore(ignored)
    with _mode_class()(count):
        result = run()
    del result
    return count.peak_bytes


def distinct_storage_bytes(tensors: Iterable[Any]) -> int:
    """Return the bytes behind the tensors, a storage that several share counted once."""
    sizes: dict[int, int] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = int(storage.nbytes())  # noqa: SLF001 - the storage's identity
    return sum(sizes.values())
