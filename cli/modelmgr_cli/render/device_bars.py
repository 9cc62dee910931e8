"""A device's memory as a bar and its figures: what is committed, to what, and what was read.

The parts of the bar differ in their glyphs, and the figures below carry the same ones, so that it
can be read without colours. Knows snapshots; asks nobody.
"""

from __future__ import annotations

from rich.text import Text

from modelmgr.runtime.snapshot import DeviceSnapshot
from modelmgr.units import format_bytes
from modelmgr_cli.render import cells
from modelmgr_cli.render.ages import brief
from modelmgr_cli.render.packing import one_line, packed

_WIDEST_BAR = 72
_NARROWEST_BAR = 16
_NAME = 12
_READ = "│"
_FREE = "┄"

# What a device's memory is committed to: name, glyph, style.
_PARTS = (
    ("foreign", "▒", "magenta"),
    ("models", "━", "green"),
    ("reserved", "╍", "yellow"),
    ("freeing", "·", "cyan"),
)


def device_lines(device: DeviceSnapshot, width: int) -> list[Text]:
    """Return a device's bar, its figures, and what is wrong with its readings, line by line."""
    lines = [_headline(device, width), *packed(_figures(device), width, indent=_NAME + 1)]
    if device.reading_failed is not None:
        words = f"! reading failed: {device.reading_failed}".split()
        told = [Text(one_line(word), style="red") for word in words]
        lines += packed(told, width, indent=_NAME + 1, gap=1)
    return lines


def _headline(device: DeviceSnapshot, width: int) -> Text:
    share = device.committed_bytes / device.limit_bytes if device.limit_bytes else 0.0
    figures = (
        f"  {format_bytes(device.committed_bytes)} of {format_bytes(device.limit_bytes)}, "
        f"{cells.percent(share)} %"
    )
    line = Text()
    line.append(f"{one_line(device.name):<{_NAME}} ", style="bold")
    room = width - len(line.plain) - len(figures)
    if room >= _NARROWEST_BAR:
        line.append_text(_bar(device, min(room, _WIDEST_BAR)))
    line.append(figures, style="red bold" if share > 1 else "")
    return line


def _bar(device: DeviceSnapshot, width: int) -> Text:
    """Return the bar; its length is the limit, or what is committed beyond it."""
    scale = max(device.limit_bytes, device.committed_bytes, 1)
    bar: list[tuple[str, str]] = []
    upto_bytes = 0
    for size_bytes, (_, glyph, style) in zip(_sizes(device), _PARTS, strict=True):
        upto_bytes += size_bytes
        end = round(width * min(upto_bytes, scale) / scale)
        if size_bytes > 0 and end == len(bar) < width:
            end += 1  # what is there is seen, however little it is
        bar += [(glyph, style)] * (end - len(bar))
    bar += [(_FREE, "bright_black")] * (width - len(bar))
    if device.used_bytes is not None:
        at = min(width - 1, round(width * device.used_bytes / scale))
        bar[at] = (_READ, "bold")
    return Text.assemble(*bar)


def _figures(device: DeviceSnapshot) -> list[Text]:
    figures = [
        Text.assemble((glyph, style), f" {name} {format_bytes(size_bytes)}")
        for size_bytes, (name, glyph, style) in zip(_sizes(device), _PARTS, strict=True)
        if size_bytes > 0 or name == "models"
    ]
    if device.used_bytes is None or device.reading_age_ns is None:
        figures.append(Text("never read: nothing is loaded before", style="red"))
    else:
        age = (f"{brief(device.reading_age_ns)} ago", "red" if device.reading_failed else "dim")
        used = f" used {format_bytes(device.used_bytes)} "
        figures.append(Text.assemble((_READ, "bold"), used, age))
    if device.isolating is not None:
        figures.append(Text(f"measuring {one_line(device.isolating)}", style="yellow"))
    return figures


def _sizes(device: DeviceSnapshot) -> tuple[int, int, int, int]:
    """Return what is committed, by part, in the order of ``_PARTS``; they add up to it."""
    others = device.foreign_bytes + device.reserved_bytes + device.freeing_bytes
    return (
        device.foreign_bytes,
        max(0, device.committed_bytes - others),
        device.reserved_bytes,
        device.freeing_bytes,
    )
