"""Print the JSON Schema of a file format, for editors and other programs.

  modelmgr schema models > models.schema.json
  modelmgr schema costs

A model list whose first line is

  # yaml-language-server: $schema=models.schema.json

is then completed and checked while it is written. Without KIND the kinds are listed.
"""

from __future__ import annotations

import typer

app = typer.Typer(rich_markup_mode=None)
