"""Profile runs of small models with real workers on host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.costs import ModelCost
from modelmgr.records.measured import MeasuredBytes
from modelmgr.units import GIB
from modelmgr.workload.model_spec import ModelSpec


def stated(tag: str, *, batches: tuple[int, ...] = (1, 4), **options: object) -> ModelSpec:
    """Return a model of stated sizes."""
    return ModelSpec(
        tag=tag, loader="synthetic", options=options, input={"batch_size": batches}, repeats=2
    )


def awkward(tag: str, **options: object) -> ModelSpec:
    """Return a model that misbehaves on demand."""
    return python_model(tag, "workers.worker_models:load", **options)


def python_model(tag: str, target: str, **options: object) -> ModelSpec:
    """Return a model of somebody's own code."""
    return ModelSpec(
        tag=tag,
        loader="python",
        target=target,
        options=options,
        input={"batch_size": (1,)},
        repeats=1,
    )


def host(out: Path, **changes: Any) -> ProfileSettings:
    """Return settings for 2 GiB of host memory."""
    return msgspec.structs.replace(
        ProfileSettings(out=out, device="host", budget_bytes=2 * GIB), **changes
    )


def value(figure: MeasuredBytes | None) -> int:
    """Return what was measured."""
    assert figure is not None
    return figure.value


def error_kind(cost: ModelCost) -> str | None:
    """Return the class of the error that a model failed with."""
    return None if cost.error is None else cost.error.kind
