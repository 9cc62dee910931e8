"""The short name of "the same weights in the same form": ``sha256:…``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18
_SAMPLES = 64


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


def sampled_digest(path: Path) -> str:
    """Return a digest of the file's size and of 64 pieces of it, first and last included.

    Two trainings of one model differ in all of their weights, so that pieces tell them apart; a
    whole digest would read many gigabytes at each load.
    """
    size = path.stat().st_size
    if size <= _SAMPLES * _PIECE_BYTES:
        return file_digest(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for number in range(_SAMPLES):
            stream.seek((size - _PIECE_BYTES) * number // (_SAMPLES - 1))
            digest.update(stream.read(_PIECE_BYTES))
    return digest.hexdigest()
