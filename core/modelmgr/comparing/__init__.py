"""Hold a cost database or a result against an earlier one, and say what got worse. Pure."""
