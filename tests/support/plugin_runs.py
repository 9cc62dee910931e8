"""Test-suites of other people, which use our pytest plugin, run in a process of their own."""

from __future__ import annotations

import textwrap

import pytest

PLUGIN = "modelmgr.integrations.pytest_plugin"
SMALL = {
    "tag": "small",
    "loader": "synthetic",
    "options": {"resident": "40 MiB", "activation": "8 MiB"},
    "input": {"batch_size": 2},
    "repeats": 1,
}
"""A model of 40 MiB that takes 16 MiB more while it runs, as a model list has it."""


class Suite:
    """A suite in a folder of its own; only the plugins that a run names are loaded.

    Attributes:
        path: the folder.
        scratch: where its processes have their temporary files.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = pytester.path
        self.scratch = pytester.mkdir("scratch")
        self._pytester = pytester
        monkeypatch.setenv("TMPDIR", str(self.scratch))
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # models are measured on the host

    def write(self, name: str, text: str) -> None:
        """Write a file of the suite."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def run(self, *arguments: str, plugins: tuple[str, ...] = (PLUGIN,)) -> pytest.RunResult:
        """Run it to its end."""
        loaded = (word for plugin in plugins for word in ("-p", plugin))
        return self._pytester.runpytest_subprocess(*loaded, *arguments)
