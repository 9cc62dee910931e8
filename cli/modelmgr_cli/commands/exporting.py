"""A cost database in the formats that ``--export`` and ``costs export`` know."""

from __future__ import annotations

from modelmgr.records.costs import CostDatabase
from modelmgr.reporting import export_csv, export_markdown
from modelmgr_cli.commands.options import ExportFormat


def exported(database: CostDatabase, form: ExportFormat) -> str:
    """Return the database in a format."""
    return export_csv(database) if form == "csv" else export_markdown(database)
