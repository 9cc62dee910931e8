"""Frozen results and their JSON codec: cost database, decision trace, machine fingerprint."""
