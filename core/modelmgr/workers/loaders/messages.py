"""An exception in words, whatever its author did to its ``__str__``."""

from __future__ import annotations


def text_of(error: BaseException) -> str:
    """Return the message; where it cannot be made, say so and name what was raised instead."""
    try:
        return str(error)
    except BaseException as second:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return f"(its message cannot be shown: {type(second).__name__})"


def told(error: BaseException) -> str:
    """Return ``ValueError: the message``, or the name alone where there is no message."""
    name, text = type(error).__name__, text_of(error)
    return f"{name}: {text}" if text else name
