"""Running a one-layer miniature of a transformers model, so that its code is there before it is.

The pages of the code that an architecture runs through belong to the process; without this they
would be counted as its weights (5 % of a 90 MB model). A courtesy: where a miniature cannot be
made, the model is only measured with these pages.
"""
# ruff: noqa: ANN401 - torch and transformers are imported when needed, their objects untyped here

from __future__ import annotations

import copy
import gc
import tempfile
from typing import Any

from modelmgr.workers.loaders.inputs import plan_inputs
from modelmgr.workers.loaders.tracking import distinct_storage_bytes

_LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
_VOCABULARY = 1024
# A miniature that is larger than this costs more time than its pages are worth.
_LIMIT_BYTES = 256 * 1024**2


def _shrink(config: Any) -> Any:
    small = copy.deepcopy(config)
    for part in (small, getattr(small, "text_config", None), getattr(small, "vision_config", None)):
        if part is None:
            continue
        for name in _LAYERS:
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, 1)
        if isinstance(getattr(part, "vocab_size", None), int):
            part.vocab_size = min(part.vocab_size, _VOCABULARY)
            for name in part.to_dict():
                token: Any = getattr(part, name, None)
                if name.endswith("_token_id") and isinstance(token, int) and token >= _VOCABULARY:
                    setattr(part, name, _VOCABULARY - 1)
    return small


def rehearse(torch: Any, model_class: Any, config: Any, *, from_file: bool) -> bool:
    """Build and run the miniature once; return whether that went well.

    Args:
        torch: the framework.
        model_class: the model's own class.
        config: the model's own config; not changed.
        from_file: load the miniature from a (temporary) file, as the model will be.
    """
    try:
        small = _shrink(config)
        with torch.device("meta"):
            outline = model_class._from_config(small)  # noqa: SLF001 - what AutoModel calls
        if distinct_storage_bytes(outline.parameters()) > _LIMIT_BYTES:
            return False
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            module = model_class._from_config(small).eval()  # noqa: SLF001 - as above
            if from_file:
                with tempfile.TemporaryDirectory() as folder:
                    module.save_pretrained(folder)
                    module = model_class.from_pretrained(folder, local_files_only=True).eval()
            plan = plan_inputs(module)
            batch = plan.draw(torch, {}, seed=0, dtype=torch.float32, device="cpu")
            module(**batch)
    except Exception:  # noqa: BLE001 - any model code runs here, and nothing depends on it
        return False
    del module, batch
    gc.collect()
    return True
