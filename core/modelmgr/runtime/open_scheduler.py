"""The scheduler as the manager makes it: one that can be listened to, compiled or not."""

from __future__ import annotations

from modelmgr.scheduling.scheduler import Scheduler


class OpenScheduler(Scheduler):
    """A scheduler whose methods a tap can lie upon.

    Where ``scheduling`` is compiled to native code, its own instances take no new attributes.
    """
