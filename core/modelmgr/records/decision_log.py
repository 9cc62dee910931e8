"""The decision log: what a scheduler ordered, one JSON line a decision, and the hash of all of it.

``decisions_sha256`` is the SHA-256 of the log's bytes: every line in order, each with its newline.
So ``sha256sum FILE`` of a written log gives it, and it is there as well when no file is written.
A line holds whole numbers, texts and truth values only, keys in one order: the same decisions give
the same bytes on every machine. What the policy could choose from, and the values it gave, are the
evictions trace's.

    {"at_ns":5,"action_id":1,"action":"start_load","ticket":1,"tag":"bert","copy":1,
     "device":"gpu0","reserved_bytes":1073741824,"isolated":false}
    {"at_ns":9,"action_id":2,"action":"grant","ticket":1,"tag":"bert","copy":1,"device":"gpu0",
     "lease":1,"hit":false}
    {"at_ns":9,"action_id":3,"action":"start_unload","tag":"gpt2","copy":1,"device":"gpu0",
     "reason":"make-room","requested_by":"bert","freed_bytes":1073741824,"chosen":[1]}
    {"at_ns":9,"action_id":4,"action":"reject","ticket":2,"tag":"bert","refusal":"timed-out",
     "message":"after 300 s"}

(Each on one line.) Owns the bytes; where they go is the caller's: ``write`` gets whole lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Final

_LINES_AT_ONCE: Final = 512
_COPIES_KEPT: Final = 4096
_HIT: Final = ',"hit":true}\n'
_NO_HIT: Final = ',"hit":false}\n'


class DecisionLog:
    """Writes and hashes decisions as they come.

    Args:
        device_names: by the scheduler's number of the device.
        write: takes bytes that end in a newline; None where only the hash is wanted.

    Attributes:
        count: how many decisions were written, those still collected left out.
    """

    __slots__ = ("_devices", "_granted", "_hash", "_lines", "_tags", "_write", "count")

    def __init__(
        self, device_names: Sequence[str], write: Callable[[bytes], object] | None = None
    ) -> None:
        self.count = 0
        self._devices = tuple(json.dumps(name) for name in device_names)
        self._tags: dict[str, str] = {}
        self._granted: dict[int, str] = {}
        self._lines: list[str] = []
        self._hash = hashlib.sha256()
        self._write = write

    def grant(  # noqa: PLR0917 - an action's fields, in their order
        self,
        at_ns: int,
        action_id: int,
        ticket: int,
        tag: str,
        copy: int,
        device: int,
        lease: int,
        hit: bool,
    ) -> None:
        """Note that a ticket got a copy."""
        granted = self._granted.get(copy)
        if granted is None:
            granted = self._name_copy(tag, copy, device)
        lines = self._lines
        lines.append(
            f'{{"at_ns":{at_ns},"action_id":{action_id},"action":"grant","ticket":{ticket}'
            f"{granted}{lease}{_HIT if hit else _NO_HIT}"
        )
        if len(lines) >= _LINES_AT_ONCE:
            self.flush()

    def _name_copy(self, tag: str, copy: int, device: int) -> str:
        """Return what is the same in all grants of a copy, and keep it."""
        if len(self._granted) >= _COPIES_KEPT:
            self._granted.clear()
        name = f',"tag":{self._text(tag)},"copy":{copy},"device":{self._devices[device]},"lease":'
        self._granted[copy] = name
        return name

    def start_load(  # noqa: PLR0917 - an action's fields, in their order
        self,
        at_ns: int,
        action_id: int,
        ticket: int,
        tag: str,
        copy: int,
        device: int,
        reserved_bytes: int,
        isolated: bool,
    ) -> None:
        """Note that a load was ordered."""
        self._add(
            f'{{"at_ns":{at_ns},"action_id":{action_id},"action":"start_load","ticket":{ticket},'
            f'"tag":{self._text(tag)},"copy":{copy},"device":{self._devices[device]},'
            f'"reserved_bytes":{reserved_bytes},"isolated":{"true" if isolated else "false"}}}\n'
        )

    def start_unload(  # noqa: PLR0917 - an action's fields, in their order
        self,
        at_ns: int,
        action_id: int,
        tag: str,
        copy: int,
        device: int,
        reason: str,
        requested_by: str | None,
        freed_bytes: int,
        chosen: Sequence[int],
    ) -> None:
        """Note that an unload was ordered."""
        by = "null" if requested_by is None else self._text(requested_by)
        self._add(
            f'{{"at_ns":{at_ns},"action_id":{action_id},"action":"start_unload",'
            f'"tag":{self._text(tag)},"copy":{copy},"device":{self._devices[device]},'
            f'"reason":{json.dumps(reason)},"requested_by":{by},"freed_bytes":{freed_bytes},'
            f'"chosen":[{",".join(map(str, chosen))}]}}\n'
        )

    def reject(  # noqa: PLR0917 - an action's fields, in their order
        self, at_ns: int, action_id: int, ticket: int, tag: str, refusal: str, message: str
    ) -> None:
        """Note that a ticket ended without a copy."""
        self._add(
            f'{{"at_ns":{at_ns},"action_id":{action_id},"action":"reject","ticket":{ticket},'
            f'"tag":{self._text(tag)},"refusal":{json.dumps(refusal)},'
            f'"message":{json.dumps(message)}}}\n'
        )

    def flush(self) -> None:
        """Hash and write what was collected."""
        lines = self._lines
        if not lines:
            return
        self.count += len(lines)
        content = "".join(lines).encode()
        lines.clear()
        self._hash.update(content)
        if self._write is not None:
            self._write(content)

    def sha256(self) -> str:
        """Return ``sha256:`` and the hash of everything noted so far, in hexadecimal digits."""
        self.flush()
        return f"sha256:{self._hash.hexdigest()}"

    def _add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= _LINES_AT_ONCE:
            self.flush()

    def _text(self, tag: str) -> str:
        text = self._tags.get(tag)
        if text is None:
            text = self._tags[tag] = json.dumps(tag)
        return text
