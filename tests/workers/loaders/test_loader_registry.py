"""The registry knows every loader and imports no framework to say so."""

from __future__ import annotations

import pytest

from modelmgr.errors import UsageError
from modelmgr.workers.loaders.registry import LOADER_NAMES, get_loader
from support.interpreters import run_python


@pytest.mark.parametrize("name", LOADER_NAMES)
def test_every_loader_answers_to_its_name(name: str) -> None:
    assert get_loader(name).name == name


def test_an_unknown_loader_is_told_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"'torhc'.*did you mean 'torch'"):
        get_loader("torhc")


def test_getting_all_loaders_imports_no_framework() -> None:
    code = (
        "import sys\n"
        "from modelmgr.workers.loaders.registry import LOADER_NAMES, get_loader\n"
        "for name in LOADER_NAMES: get_loader(name)\n"
        "print([m for m in ('numpy', 'torch', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    assert run_python("-c", code) == "[]\n"
