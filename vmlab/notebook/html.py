"""Views without a kernel: plain HTML that is the same for the same machine, so that GitHub, nbviewer and
a diff of two notebooks show what was there. No clock, no rate, no process number goes into it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from vmlab.core.units import show_span
from vmlab.notebook.palette import KINDS
from vmlab.vm.views import hexadecimal

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = [
    "console_text",
    "devices_table",
    "irq_table",
    "map_picture",
    "map_table",
    "page",
    "table",
]
__all__ += ["title"]

_RIGHT = "text-align:right;font-variant-numeric:tabular-nums"
_LEFT = "text-align:left"
_SCREEN = (
    "background:#111;color:#ddd;padding:8px;max-height:320px;overflow:auto;line-height:1.25;"
    "font-family:monospace"
)
#: heights in pixels: a hole is folded, RAM is what a map is mostly of
_HEIGHTS = {"ram": 44, "mmio": 20, "interrupt-controller": 20, "hole": 16}
#: characters of a console that are shown
CONSOLE = 8000
#: what terminals take as orders: colours, cursor movements, titles
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")


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


def map_picture(vm: VM) -> str:
    """The address space as a drawing, low addresses at the bottom, holes folded; and the same as a table,
    for what shows no drawings (GitHub) and for who cannot see them."""
    parts, top = [], 0
    for one in reversed(vm.address_map):
        colour, height = KINDS[one.kind], _HEIGHTS[one.kind]
        edge = ' stroke="#999" stroke-dasharray="2 2"' if one.kind == "hole" else ' stroke="#fff"'
        middle = top + height // 2 + 4
        parts.append(
            f'<rect x="1" y="{top}" width="58" height="{height}" fill="{colour}"{edge}/>'
            f'<text x="68" y="{middle}">{escape(one.name or one.kind)}, {show_span(one.size)}</text>'
            f'<text x="398" y="{middle}" text-anchor="end" fill="#777">{hexadecimal(one.start)}</text>'
        )
        top += height
    text = "font-family:monospace;font-size:11px;fill:currentColor;max-width:100%"
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="{top + 2}" style="{text}"'
        f' viewBox="0 0 400 {top + 2}" role="img" aria-label="The guest\'s physical address space">'
        f"{''.join(parts)}</svg>"
    )
    return f"<div>{drawing}</div><details>{_summary('Address map')}{map_table(vm)}</details>"


def _summary(text: str) -> str:
    return f"<summary>{escape(text)}</summary>"


def console_text(text: str) -> str:
    """The end of what a console said, as a terminal would show it but for colours and the cursor."""
    plain = _ESCAPES.sub("", text[-CONSOLE:]).replace("\r", "")
    shown = "".join(one for one in plain if one in "\n\t" or one.isprintable())
    return f'<pre style="{_SCREEN}">{escape(shown) or " "}</pre>'


def page(vm: VM) -> str:
    """What a bare `vm` shows where nothing live can be shown: the dashboard, as it was."""
    left = f'<div style="flex:0 1 400px">{map_picture(vm)}</div>'
    right = f'<div style="flex:1 1 360px">{devices_table(vm)}{irq_table(vm)}</div>'
    parts = f'<div style="display:flex;flex-wrap:wrap;gap:16px">{left}{right}</div>'
    screen = vm.screen.last
    shown = f"<div>{screen.html()}</div>" if screen is not None else ""
    return f"<div>{title(vm)}{shown}{console_text(vm.console.text)}{parts}</div>"
