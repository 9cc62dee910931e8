"""What the tests of ``modelmgr profile`` measure, and where."""

from __future__ import annotations

ONE_MODEL = """\
schema_version: 1
defaults: {repeats: 1}
models:
  - tag: small
    loader: synthetic
    options: {resident: 24 MiB, activation: 4 MiB, load: 10 ms, service: 2 ms}
    input: {batch_size: [1, 2]}
"""
ON_HOST = ("--device", "host", "--budget", "500 MiB")
