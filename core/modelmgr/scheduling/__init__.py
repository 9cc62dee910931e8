"""The scheduler as a sans-IO state machine. No clock, no threads, no files, no randomness."""
