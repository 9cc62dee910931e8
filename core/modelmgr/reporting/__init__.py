"""Reports for people and other programs: pure functions from records to text, which never print."""

from modelmgr.reporting.csv_export import export_csv
from modelmgr.reporting.markdown_export import export_markdown

__all__ = ["export_csv", "export_markdown"]
