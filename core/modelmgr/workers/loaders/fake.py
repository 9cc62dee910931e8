"""Guessing a torch module's cost without its memory: shapes and sizes, no content.

Parameters are exact: the module is built on the ``meta`` device. Activations are the tracked peak
of a forward pass on fake tensors, which know their size, run no kernel and hold no memory.
"""
# ruff: noqa: ANN401 - torch is imported when it is needed, its objects have no types here

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelmgr.errors import UsageError, WorkerError
from modelmgr.workers.loaders.arguments import CallArguments
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.messages import text_of
from modelmgr.workers.loaders.tracking import distinct_storage_bytes, peak_tensor_bytes
from modelmgr.workers.reports import EstimateReport

FAKE_METHOD = "fake-tensor"


def estimate_module(
    build: Callable[[], Any],
    make_fake_batch: Callable[[Any, Mapping[str, int]], CallArguments],
    shapes: Sequence[Mapping[str, int]],
) -> EstimateReport:
    """Guess weights and each shape's activation peak.

    Args:
        build: makes the module in evaluation mode; called with ``meta`` as default device.
        make_fake_batch: makes a batch for the module; called inside a fake mode.
        shapes: one dimension mapping a figure.

    Errors of ``build`` that are the caller's (UsageError, WorkerError) pass; others become the
    report's reason.
    """
    started_ns = time.monotonic_ns()
    torch = import_framework("torch")
    unknown: tuple[int | None, ...] = (None,) * len(shapes)
    try:
        with torch.device("meta"):
            module = build()
    except (UsageError, WorkerError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return EstimateReport(
            weights_bytes=None,
            activation_bytes=unknown,
            method="none",
            reason=f"it cannot be built without its memory: {_one_line(error)}",
            elapsed_ns=time.monotonic_ns() - started_ns,
        )
    # Before to_empty, which gives tied weights a storage each.
    weights_bytes = distinct_storage_bytes([*module.parameters(), *module.buffers()])
    figures: list[int | None] = []
    reason: str | None = None
    # Non-fake inputs are let in for to_empty, which reads the meta tensors.
    mode = import_framework("torch._subclasses.fake_tensor").FakeTensorMode(
        allow_non_fake_inputs=True
    )
    with mode, torch.inference_mode():
        module.to_empty(device="cpu")
        for dims in shapes:
            try:
                figures.append(_fake_peak(torch, module, make_fake_batch(module, dims)))
            except Exception as error:  # noqa: BLE001 - any model code runs here; told in `reason`
                figures.append(None)
                reason = reason or f"{dict(dims)}: {_one_line(error)}"
    return EstimateReport(
        weights_bytes=weights_bytes,
        activation_bytes=tuple(figures),
        method=FAKE_METHOD,
        reason=reason,
        elapsed_ns=time.monotonic_ns() - started_ns,
    )


def _fake_peak(torch: Any, module: Any, call: CallArguments) -> int:
    values = (*call.positional, *call.named.values())
    sent = [value for value in values if isinstance(value, torch.Tensor)]
    return peak_tensor_bytes(
        lambda: module(*call.positional, **call.named),
        ignored=[*module.parameters(), *module.buffers(), *sent],
    )


def _one_line(error: BaseException) -> str:
    first = (text_of(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"
