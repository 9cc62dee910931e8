"""One process for each loaded copy: the parent's side, the child's side, the protocol between."""
