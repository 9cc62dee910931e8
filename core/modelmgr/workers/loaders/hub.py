"""Whether the hub can be asked for a model, found out in seconds instead of minutes of retries."""

from __future__ import annotations

import urllib.error
import urllib.request
from http import HTTPStatus

from modelmgr.errors import ModelLoadError
from modelmgr.workers.loaders.frameworks import import_framework

_TIMEOUT_S = 5.0
# Redirects are followed, so these are all that says "there is such a file, but not for you".
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_REMEDY = "give a local folder or package:NAME/path, or `architecture:` for random weights"


def is_cached(model: str) -> bool:
    """Return whether the hub's local cache has this model's config."""
    hub = import_framework("huggingface_hub")
    return isinstance(hub.try_to_load_from_cache(model, "config.json"), str)


def check_reachable(model: str) -> None:
    """Ask the hub once for the model's config; ModelLoadError says why it cannot be had."""
    constants = import_framework("huggingface_hub.constants")
    unreachable = f"{model!r} was not found locally and the hub cannot be reached"
    if constants.HF_HUB_OFFLINE:
        raise ModelLoadError(f"{unreachable} (offline mode is on); {_REMEDY}")
    url = f"{constants.ENDPOINT}/{model}/resolve/main/config.json"
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's own endpoint
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
            pass
    except urllib.error.HTTPError as error:
        if error.code in _REFUSED:
            raise ModelLoadError(
                f"{model!r} is neither a local folder nor a model that the hub would give "
                f"(status {error.code}); check the name, log in, or {_REMEDY}"
            ) from error
        raise ModelLoadError(f"{unreachable} (status {error.code}); {_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{unreachable} ({error}); {_REMEDY}") from error
