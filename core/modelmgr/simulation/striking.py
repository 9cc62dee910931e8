"""What each kind of fault does to the virtual world.

``worker-killed`` kills the process of a loaded or loading copy. ``holder-lost`` ends the client of
a copy in use. ``load-failed``, ``load-hangs`` and ``out-of-memory`` hit a load under way, else the
next one (``out-of-memory`` before that a copy that runs); a ``load-failed`` with a duration hits
every load under way and all that begin in that time. ``late-free`` lets the next unload's memory
come back later. The readings' faults, ``foreign-memory`` and ``device-lost`` last for their
duration.
"""

from __future__ import annotations

from modelmgr.simulation.copies import VirtualCopy
from modelmgr.simulation.device import VirtualDevice
from modelmgr.simulation.faults import concerns, lasting_ns, message_of
from modelmgr.simulation.world import FAULT, FAULT_ENDS, NEVER, World
from modelmgr.workload.scenario import Fault


def schedule_faults(world: World) -> None:
    """Put every fault's first time on the heap."""
    for number in range(len(world.armed.faults)):
        at_ns = world.armed.first_ns(number)
        if at_ns is not None:
            world.push(at_ns, FAULT, None, number)


def strike(world: World, number: int, now_ns: int) -> None:
    """Let a fault happen now, and see to its next time."""
    next_ns = world.armed.next_ns(number, now_ns)
    if next_ns is not None:
        world.push(next_ns, FAULT, None, number)
    fault = world.armed.faults[number]
    match fault.kind:
        case "worker-killed":
            _kill(world, number, fault, now_ns)
        case "holder-lost":
            held = [copy for copy in _copies(world, fault) if copy.lease]
            copy = world.armed.pick(number, held)
            if copy is not None:
                world.holder_dies(copy, now_ns)
        case "load-failed" | "load-hangs" | "out-of-memory":
            _spoil_a_load(world, number, fault, now_ns)
        case "late-free":
            world.armed.lie_in_wait(fault, now_ns)
        case "reading-failed" | "reading-wrong" | "foreign-memory" | "device-lost":
            for device in world.devices:
                if concerns(fault, None, device.name):
                    _disturb(world, device, fault, now_ns)
                    break


def undo(world: World, device: VirtualDevice, fault: Fault, size_bytes: int, now_ns: int) -> None:
    """End what ``strike`` did to a device."""
    match fault.kind:
        case "reading-wrong":
            device.wrong_bytes -= size_bytes
        case "foreign-memory":
            device.give_back(size_bytes, now_ns)
        case _:
            if now_ns >= device.failing_until_ns:
                device.failing = None
                device.lost = False
    world.disturbed()


def _kill(world: World, number: int, fault: Fault, now_ns: int) -> None:
    copy = world.armed.pick(number, _copies(world, fault))
    if copy is not None:
        world.worker_dies(copy, now_ns)


def _spoil_a_load(world: World, number: int, fault: Fault, now_ns: int) -> None:
    copies = _copies(world, fault)
    if fault.kind == "load-failed" and fault.duration_ns is not None:
        for copy in [copy for copy in copies if not copy.loaded]:
            world.end_load_at(copy, now_ns, message_of(fault))
        world.armed.lie_in_wait(fault, now_ns)
        return
    loading = world.armed.pick(number, [copy for copy in copies if not copy.loaded])
    if loading is not None:
        if fault.kind == "load-hangs":
            world.delay_load(loading, lasting_ns(fault))
            return
        if fault.kind == "out-of-memory":
            loading.device.oom_events += 1
        world.end_load_at(loading, now_ns, message_of(fault))
        return
    if fault.kind == "out-of-memory":
        running = world.armed.pick(number, [copy for copy in copies if copy.lease])
        if running is not None:
            running.device.oom_events += 1
            world.runs_out(running, now_ns)
            return
    world.armed.lie_in_wait(fault, now_ns)


def _disturb(world: World, device: VirtualDevice, fault: Fault, now_ns: int) -> None:
    size_bytes = fault.size_bytes or 0
    ends_ns = now_ns + lasting_ns(fault)
    match fault.kind:
        case "reading-wrong":
            device.wrong_bytes += size_bytes
        case "foreign-memory":
            size_bytes = min(size_bytes, device.total_bytes - device.used_bytes)
            device.take(size_bytes, now_ns)
            if fault.duration_ns is None:
                ends_ns = NEVER
        case _:
            if fault.kind == "device-lost" and fault.duration_ns is None:
                ends_ns = NEVER
            device.failing = f"a fault of the run: {fault.kind}"
            device.failing_until_ns = max(device.failing_until_ns, ends_ns)
            device.lost = device.lost or fault.kind == "device-lost"
    world.disturbed()
    if ends_ns < NEVER:
        world.push(ends_ns, FAULT_ENDS, (device, fault), size_bytes)
    if fault.kind == "device-lost":
        for copy in [copy for copy in world.copies.values() if copy.device is device]:
            if copy.number in world.copies and not copy.leaving and not copy.dead:
                world.worker_dies(copy, now_ns)


def _copies(world: World, fault: Fault) -> list[VirtualCopy]:
    """Return the living copies that a fault is meant for, in the order of their numbers."""
    return [
        copy
        for copy in world.copies.values()
        if concerns(fault, copy.model.tag, copy.device.name) and not copy.leaving and not copy.dead
    ]
