"""The wheel: what is in it, and that it works where no framework is installed.

The wheel is built here, offline and without isolation, and installed into an environment that holds
what modelmgr declares to depend on and nothing else: an import that is not declared fails.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modelmgr import __version__
from modelmgr.records.codec import load_costs
from modelmgr.units import MIB
from support.command_line import clean_environment

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = {"modelmgr", "modelmgr_cli"}
_FRAMEWORKS = ("torch", "transformers", "onnxruntime", "safetensors")


@dataclass(frozen=True, slots=True)
class Bare:
    """An environment with the wheel and its declared dependencies: no extra, no pip."""

    bin: Path
    folder: Path

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one of its programs to its end."""
        return subprocess.run(  # noqa: S603  # our own program
            [self.bin / command[0], *command[1:]],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            cwd=self.folder,
            env=clean_environment(),
            timeout=timeout_s,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        check=True,
        cwd=_ROOT,
        capture_output=True,
        timeout=120,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The wheel installed beside links to what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel],
        check=True,
        capture_output=True,
        timeout=120,
    )
    packages = folder / "venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    for distribution in _closure("modelmgr"):
        _link(distribution, packages)
    return Bare(bin=python.parent, folder=folder)


def _closure(name: str) -> list[importlib.metadata.Distribution]:
    """Return what a distribution depends on without extras, however indirectly."""
    found: dict[str, importlib.metadata.Distribution] = {}
    left = [name]
    while left:
        for line in importlib.metadata.distribution(left.pop()).requires or ():
            requirement = Requirement(line)
            key = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and key not in found:
                found[key] = importlib.metadata.distribution(key)
                left.append(key)
    return list(found.values())


def _link(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    """Link a distribution's modules and packages into another site-packages."""
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in {"..", "/"}}
    for top in tops - {"__pycache__"}:
        (packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}

    assert tops == {*_PACKAGES, f"modelmgr-{__version__}.dist-info"}


def test_the_wheel_holds_every_module_of_both_source_roots(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}

    roots = (_ROOT / "core", _ROOT / "cli")
    assert packed == {str(f.relative_to(root)) for root in roots for f in root.rglob("*.py")}


def test_both_packages_say_that_they_are_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {f"{package}/py.typed" for package in _PACKAGES} <= set(names)


def test_the_wheel_brings_its_licence_and_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"modelmgr-{__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        licence = archive.read(f"{info}/licenses/LICENSE")

    assert licence == (_ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == __version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    extras = {"all", "metrics", "onnx", "plots", "ray", "torch"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras


def test_no_framework_is_needed_unless_it_is_asked_for() -> None:
    names = {canonicalize_name(d.metadata["Name"]) for d in _closure("modelmgr")}

    assert not names.intersection(_FRAMEWORKS)


def test_the_constraints_pin_every_package_that_pyproject_names() -> None:
    pinned = {
        canonicalize_name(line.partition("==")[0])
        for line in (_ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    lines = [
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
        *(line for group in project["dependency-groups"].values() for line in group),
    ]

    named = {canonicalize_name(Requirement(line).name) for line in lines}
    assert named - pinned == {"modelmgr"}


def test_the_program_says_what_it_can_do_without_a_framework(bare: Bare) -> None:
    finished = bare.run("modelmgr", "--help")

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("Usage: modelmgr")
    assert bare.run("modelmgr", "--version").stdout == f"modelmgr {__version__}\n"


def test_every_module_imports_without_a_framework(bare: Bare) -> None:
    """But for those that are an extra's: they say which package they need."""
    script = """
import importlib, json, pkgutil, sys, modelmgr, modelmgr_cli
lacking = {}
for package in (modelmgr, modelmgr_cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            lacking[module.name] = error.name
print(json.dumps([modelmgr.__file__, sorted(sys.modules), lacking]))
"""
    finished = bare.run("python", "-c", script)

    assert finished.returncode == 0, finished.stderr
    home, modules, lacking = json.loads(finished.stdout)
    assert Path(home).is_relative_to(bare.folder)
    assert not set(modules).intersection(_FRAMEWORKS)
    assert lacking == {
        "modelmgr.reporting.metrics": "prometheus_client",
        "modelmgr.integrations.pytest_gate": "pytest",
        "modelmgr.integrations.pytest_plugin": "pytest",
    }


def test_a_missing_framework_is_named_at_once_and_models_without_one_are_measured(
    bare: Bare,
) -> None:
    (bare.folder / "models.yaml").write_text("""\
schema_version: 1
defaults: {repeats: 1}
models:
  - {tag: bert, loader: transformers, architecture: bert}
  - tag: small
    loader: synthetic
    options: {resident: 24 MiB}
""")
    on_host = ("modelmgr", "profile", "models.yaml", "--device", "host")
    refused = bare.run(*on_host)
    left = {path.name for path in bare.folder.iterdir()}
    measured = bare.run(*on_host, "--only", "small")

    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "'bert'" in refused.stderr
    assert "pip install 'modelmgr[torch]'" in refused.stderr
    assert left == {"models.yaml", "venv"}
    assert measured.returncode == 0, measured.stderr
    small = load_costs(bare.folder / "costs.json").models["small"]
    assert small.ledger is not None
    assert small.ledger.weights_bytes == 24 * MIB
