"""Measures what a model costs: isolation profile, shape sweep, the ledger that adds up."""
