"""Pure estimation of what each model costs from aggregate readings: no clock, no files."""
