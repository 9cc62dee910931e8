"""What the compiler is told of a class, and whether there was one.

``mypyc_attr`` is a mark that mypyc looks for; at run time it does nothing, so that nobody needs the
package that it is from. This module is never compiled itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

__all__ = ["is_compiled", "mypyc_attr"]

T = TypeVar("T")

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_: bool) -> Callable[[type[T]], type[T]]:
        """Change nothing."""
        return lambda cls: cls


def is_compiled() -> bool:
    """Say whether this installation's scheduler was compiled (``MODELMGR_COMPILE=1``)."""
    from modelmgr.scheduling import states  # noqa: PLC0415 - what is compiled imports this module

    return not states.__file__.endswith(".py")
