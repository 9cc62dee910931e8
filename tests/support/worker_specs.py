"""Specs of the models in ``workers.worker_models`` and of synthetic ones."""

from __future__ import annotations

from modelmgr.workers.launcher import StartMethod
from modelmgr.workload.model_spec import ModelSpec

START_METHODS: tuple[StartMethod, ...] = ("forkserver", "spawn")


def python_model(**options: object) -> ModelSpec:
    """A model that does ``on_load``, ``on_infer`` and ``on_close``, and echoes batches."""
    return ModelSpec(
        tag="awkward", loader="python", target="workers.worker_models:load", options=options
    )


def telling_model() -> ModelSpec:
    """A model that tells what its process sees."""
    return ModelSpec(tag="telling", loader="python", target="workers.worker_models:where")


def synthetic_model(**options: object) -> ModelSpec:
    """A model of stated size and time."""
    return ModelSpec(tag="stated", loader="synthetic", options=options)
