"""One module for each command: parse, one library call, hand the result to ``render``."""
