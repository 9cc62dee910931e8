"""A torch module as a loaded model: what the ``transformers`` and ``torch`` loaders have in common.

Owns running, counting and freeing a module; how it is built and what it is sent are its loader's.
"""
# ruff: noqa: ANN401 - torch is imported when it is needed, its objects have no types here

from __future__ import annotations

import gc
import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from modelmgr.errors import ModelLoadError, UsageError
from modelmgr.workers.loaders.arguments import CallArguments
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workers.loaders.tracking import distinct_storage_bytes, peak_tensor_bytes

DTYPES = ("float32", "float16", "bfloat16", "float64")


class ModuleModel:
    """A module in evaluation mode, run without autograd.

    Attributes:
        module: the torch module itself; None once closed.
        weights_bytes: parameters and buffers, each storage once.
    """

    def __init__(
        self,
        module: Any,
        *,
        device: str,
        make_batch: Callable[[Mapping[str, int], int], CallArguments],
        fingerprint: Callable[[], str],
    ) -> None:
        self._torch = import_framework("torch")
        self.module: Any = module
        self._device = device
        self._make_batch = make_batch
        self._fingerprint = fingerprint
        self._batch_sizes: tuple[tuple[int, ...], ...] | None = None
        self.weights_bytes: int | None = distinct_storage_bytes(self._own_tensors())

    @cached_property
    def fingerprint(self) -> str | None:
        """``sha256:…``; worked out when it is asked for, as that may read the weights' files."""
        return self._fingerprint()

    def make_batch(self, dims: Mapping[str, int], seed: int) -> object:
        """Return a random batch of that shape on the model's device."""
        return self._make_batch(dims, seed)

    def infer(self, batch: object) -> object:
        """Run the batch to its end; the device is synchronised.

        A batch of the caller's own is a mapping (keywords), a list or tuple (positions), or one
        array or tensor; arrays become tensors on the model's device.
        """
        call = self._as_call(batch)
        with self._torch.inference_mode():
            self._forget_state(call)
            outputs: object = self.module(*call.positional, **call.named)
            if self._device != "cpu":
                self._torch.cuda.synchronize(self._device)
        return outputs

    def tensor_peak(self, batch: object) -> int | None:
        """Run the batch once and return the peak of live tensor bytes that it made."""
        call = self._as_call(batch)
        sent = [
            value
            for value in (*call.positional, *call.named.values())
            if isinstance(value, self._torch.Tensor)
        ]
        own = self._own_tensors()
        return peak_tensor_bytes(lambda: self.infer(call), ignored=[*own, *sent])

    def close(self) -> None:
        """Drop the module; on CUDA give torch's cache back to the driver."""
        self.module = None
        gc.collect()
        if self._device != "cpu":
            with self._torch.cuda.device(self._device):
                self._torch.cuda.empty_cache()

    def _as_call(self, batch: object) -> CallArguments:
        if isinstance(batch, CallArguments):
            return batch
        if isinstance(batch, Mapping):
            named = cast("Mapping[str, Any]", batch)
            return CallArguments((), {name: self._sent(value) for name, value in named.items()})
        values = cast("Sequence[Any]", batch if isinstance(batch, (list, tuple)) else (batch,))
        return CallArguments(tuple(self._sent(value) for value in values), {})

    def _sent(self, value: Any) -> Any:
        is_array = hasattr(value, "__array__")
        return self._torch.as_tensor(value, device=self._device) if is_array else value

    def _own_tensors(self) -> list[Any]:
        return [*self.module.parameters(), *self.module.buffers()]

    def _forget_state(self, call: CallArguments) -> None:
        # A recurrent module (silero-vad) keeps its state between calls; one of another batch size
        # would not fit it, and is no continuation of it anyway.
        sizes = tuple(
            tuple(value.shape) for value in call.positional if isinstance(value, self._torch.Tensor)
        )
        reset: Any = getattr(self.module, "reset_states", None)
        if callable(reset) and sizes != self._batch_sizes:
            reset()
        self._batch_sizes = sizes


def torch_dtype(torch: Any, name: str) -> Any:
    """Return torch's dtype of that name; UsageError where it is none for weights."""
    if name not in DTYPES:
        raise UsageError(f"{name!r} is no dtype for weights{did_you_mean(name, DTYPES)}")
    return getattr(torch, name)


def check_device(torch: Any, device: str) -> None:
    """Raise ModelLoadError where torch cannot use the device."""
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise ModelLoadError(
            f"device {device}: torch {torch.__version__} sees no CUDA device; install a CUDA "
            "build of torch, or profile on the host"
        )
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise ModelLoadError(
            f"device {device}: torch sees {torch.cuda.device_count()} CUDA device(s)"
        )


def touch_pages(torch: Any, module: Any) -> None:
    """Read one byte of every page of the module's tensors.

    Weights that are mapped from a file become resident as they are used: an embedding row by row.
    What counts is a model that has been in use for a while, so all of them are read at once; they
    stay mapped, and shared with other processes.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        storage = tensor.untyped_storage()
        if storage.device.type == "cpu" and storage.nbytes() > 0:
            data = torch.tensor([], dtype=torch.uint8).set_(storage)
            data[:: mmap.PAGESIZE].max()
