"""The short name of "the same weights in the same form": ``sha256:…``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def fingerprint_of(**parts: object) -> str:
    """Return the hash of named parts; equal parts give equal hashes in every process."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def file_digest(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content, read in pieces; OSError as it comes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
