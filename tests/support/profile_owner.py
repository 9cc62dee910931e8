"""A program that profiles, for tests that kill it: ``python profile_owner.py OUT PIPE [resume]``.

The list is a quick model, then one that says on the named pipe that it is being measured and
hangs. Prints one line of JSON: how the run ended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from modelmgr.measuring.observer import SilentObserver
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.workload.model_spec import ModelSpec


def models(pipe: str, *, when: str) -> list[ModelSpec]:
    """Return the quick model and the one that hangs ``on_load`` or ``on_infer`` (or ``never``)."""
    options = {} if when == "never" else {when: "signal_then_hang", "path": pipe}
    return [
        ModelSpec(tag="quick", loader="synthetic", input={"batch_size": (1,)}, repeats=1),
        ModelSpec(
            tag="slow",
            loader="python",
            target="workers.worker_models:load",
            options=options,
            input={"batch_size": (1,)},
            repeats=1,
        ),
    ]


def main(out: str, pipe: str, when: str) -> None:
    outcome = profile_models(
        models(pipe, when=when),
        ProfileSettings(out=Path(out), device="host", budget_bytes=2 * 1024**3, repeats=1),
        SilentObserver(),
    )
    told = {"interrupted": outcome.interrupted, "models": list(outcome.database.models)}
    print(json.dumps(told), flush=True)  # noqa: T201 - the answer to the test


if __name__ == "__main__":
    main(*sys.argv[1:])
