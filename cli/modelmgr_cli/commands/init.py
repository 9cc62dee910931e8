"""Write a starter model list: a few models that work here, and every key explained.

Models whose framework is installed are switched on; the others stand there as comments. The file is
valid as it is, so that the next command is:

  modelmgr init                    writes models.yaml here
  modelmgr profile models.yaml

  modelmgr init lists/mine.yaml    writes there; the folder must exist
  modelmgr init --force            replaces a file that is there
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from modelmgr.errors import UsageError
from modelmgr.records.atomic_files import write_atomically
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_HEAD = """\
# yaml-language-server: $schema=models.schema.json
# Models to measure: modelmgr profile {name}
# The line above makes editors complete and check this file; its schema comes from
#   modelmgr schema models > models.schema.json
schema_version: 1

# What every model below has unless it says otherwise.
defaults:
  dtype: float32
  repeats: 3                 # fresh processes to measure in: what the intervals come from

models:
  # A stated size and a stated time; needs no framework. Good for trying things out.
  - tag: synthetic-small     # unique; every other command names the model by it
    loader: synthetic        # transformers | torch | onnx | python | synthetic
    options:
      resident: 64 MiB
      activation: 4 MiB      # for each item of a batch
      load: 100 ms
      service: 5 ms          # for each batch
    input:
      batch_size: [1, 4]     # every combination of the sizes below "input" is measured
"""
_TRANSFORMERS = """
  # An architecture with random weights: its cost is that of the real one, without a download.
  - tag: bert-base
    loader: transformers
    architecture: bert
    config: {num_hidden_layers: 12}    # overrides of the architecture's own defaults
    input:
      batch_size: [1, 4]
      sequence_length: [32, 128]
"""
_ALWAYS_COMMENTED = """
  # Real weights: a local folder, a package's folder (package:NAME/path) or a hub id.
  # - tag: minilm
  #   loader: transformers
  #   model: sentence-transformers/all-MiniLM-L6-v2
  #   input: {batch_size: [1, 8], sequence_length: [64]}

  # Anything that Python can load: the target returns an object with infer(batch).
  # - tag: mine
  #   loader: python
  #   target: my_package.models:load
  #   options: {size: 3}                 # keyword arguments of the target
"""


def starter_list(name: str, *, transformers: bool) -> str:
    """Return a starter list's text; without transformers its models are comments."""
    block = _TRANSFORMERS
    if not transformers:
        lines = block.strip("\n").splitlines()
        commented = (f"  # {line[2:]}" for line in lines[1:])
        install = "  # Needs its framework: pip install 'modelmgr[torch]'"
        block = "\n".join(("", lines[0], install, *commented, ""))
    return _HEAD.format(name=name) + block + _ALWAYS_COMMENTED


@app.command(help=__doc__, cls=DocCommand)
def init(
    context: typer.Context,
    *,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path(
        "models.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the starter list."""
    terminal = terminal_of(context)
    available = find_spec("torch") is not None and find_spec("transformers") is not None
    text = starter_list(str(path), transformers=available)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file\nname the file to write: modelmgr init PATH")
    if os.path.lexists(path) and not force:
        raise UsageError(
            f"{path} is there already\nchoose another path, or replace it with --force"
        )
    write_atomically(path, text.encode())
    terminal.out(f"wrote {path}")
    terminal.tell(f"next: modelmgr profile {path}")
