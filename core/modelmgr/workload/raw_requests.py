"""A request as plain numbers, because making an object of each would cost more than deciding on it.

``requests`` documents what they mean and turns them into ``scenario.Request``.
"""

from __future__ import annotations

RawRequest = tuple[int, int, int, int, int]
"""``(at_ns, tag, service_ns, shape, user)``; tag, shape and user are indices."""

DRAWN_LATER = -1
"""For ``service_ns``: only the model itself, or its driver, knows how long it takes."""
NO_SHAPE = -1
"""For ``shape``: no particular one."""
NOBODY = -1
"""For ``user``: no closed-loop user waits for this request."""
