"""Rich tables, progress and JSON; never measures, never decides."""
