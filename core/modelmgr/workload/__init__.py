"""What people write in YAML: model lists and, later, scenarios; nothing here runs anything."""
