"""Turns records into the formats of other tools; never measures, never decides."""
