"""Views without a kernel: plain HTML that is the same for the same machine, so that GitHub, nbviewer and
a diff of two notebooks show what was there. No clock, no rate, no process number goes into it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from vmlab.core.units import show_span
from vmlab.views import hexadecimal

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["devices_table", "irq_table", "map_table", "page", "table", "title"]

_RIGHT = "text-align:right;font-variant-numeric:tabular-nums"
_LEFT = "text-align:left"


def table(caption: str, head: list[str], rows: Iterable[list[object]]) -> str:
    """A table whose columns of numbers stand right-aligned; every cell is escaped."""
    body = []
    for row in rows:
        cells = "".join(
            f'<td style="{_RIGHT if isinstance(cell, int) else _LEFT}">'
            f"{f'{cell:,}' if isinstance(cell, int) else escape(str(cell))}</td>"
            for cell in row
        )
        body.append(f"<tr>{cells}</tr>")
    names = "".join(f'<th style="{_LEFT}">{escape(name)}</th>' for name in head)
    return (
        f'<table><caption style="{_LEFT}">{escape(caption)}</caption>'
        f"<thead><tr>{names}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def title(vm: VM) -> str:
    state = vm.state
    reason = f": {state.reason}" if state.reason else ""
    return f"<p><b>{escape(vm.name)}</b> is {escape(str(state))}{escape(reason)}</p>"


def map_table(vm: VM) -> str:
    """High addresses above, as the live map draws them."""
    rows: list[list[object]] = [
        [hexadecimal(one.start), hexadecimal(one.end), show_span(one.size), one.name or one.kind]
        for one in reversed(vm.address_map)
    ]
    return table("Address map", ["from", "to", "size", "what"], rows)


def devices_table(vm: VM) -> str:
    devices = vm.devices
    rows: list[list[object]] = []
    for id, counts in vm.traps.items():
        one = devices.get(id)
        if one is not None:
            irq = "" if one.irq is None else one.irq
            place = f"{'port ' if one.space == 'port' else ''}{hexadecimal(one.base)}"
            rows.append(
                [id, one.type, place, irq, one.state, counts.reads, counts.writes, counts.kicks]
            )
    head = ["device", "type", "window", "irq", "state", "reads", "writes", "kicks"]
    return table("Devices", head, rows)


def irq_table(vm: VM) -> str:
    rows: list[list[object]] = [[row.line, row.device, row.raised] for row in vm.irqs]
    return table("Interrupt lines", ["line", "device", "raised"], rows)


def page(vm: VM) -> str:
    """What a bare `vm` shows where nothing live can be shown."""
    return f"<div>{title(vm)}{map_table(vm)}{devices_table(vm)}{irq_table(vm)}</div>"
