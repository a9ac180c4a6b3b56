"""The machine in a terminal, live: address map, devices, interrupt lines, serial output."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vmlab.core.counters import DeviceCounts, RegisterCounts
from vmlab.core.units import show_size, show_span
from vmlab.machine.config import ENDED
from vmlab.vm import VM
from vmlab.vm.rates import Sample, Sampler, show_rate, sparkline
from vmlab.vm.terminal import Printer
from vmlab.vm.views import DeviceView, hexadecimal

__all__ = ["report", "screen", "watch"]

#: looks a second: numbers that change faster cannot be read
RATE = 8
#: rows that the live view takes at most, and columns that it wants for two columns
HEIGHT, WIDE = 40, 100
#: what a panel takes of its width, and rows that the interrupt lines may take
BORDER, LINES = 4, 3
_LAMPS = {
    "running": "green",
    "paused": "yellow",
    "stopped": "dim",
    "crashed": "red",
    "created": "dim",
}
_KINDS = {"ram": "blue", "mmio": "magenta", "interrupt-controller": "cyan", "hole": "dim"}
#: rates from which a range of the map glows
_HEAT = ((1000.0, "bold red"), (50.0, "bold yellow"), (0.5, "bold green"))


def watch(
    vm: VM, timeout: float | None = None, until: Callable[[], bool] | None = None, keys: str = ""
) -> bool:
    """Show a started machine until it ends, or `until()`; False when `timeout` seconds were over first.
    keys: what the keyboard does, for the title of the serial output.

    Where nothing can be drawn, plain text: the serial output as it comes, the counts at the end."""
    end = time.monotonic() + timeout if timeout is not None else float("inf")

    def over() -> bool:
        ended = vm.state in ENDED or vm.state.fault is not None
        return ended or bool(until and until())

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        return _plain(vm, end, over)
    sampler = Sampler(vm.inspection)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            ended = over()
            live.update(screen(vm, sampler.sample(), sampler, console, keys), refresh=True)
            if ended:
                return True
            if time.monotonic() >= end:
                return False
            vm.wait(1 / RATE, until=over)


def _plain(vm: VM, end: float, over: Callable[[], bool]) -> bool:
    print(f"{_title(vm).plain}\n", flush=True)
    printer = Printer(vm.stop_waiting)
    stop = vm.console.listen(lambda data: printer.show(data.replace(b"\r", b"")), replay=True)
    try:
        while not over():
            if time.monotonic() >= end:
                return False
            vm.wait(0.1, until=lambda: over() or printer.error is not None)
            if printer.error is not None:
                raise printer.error
        return True
    finally:
        stop()
        if printer.error is None:
            print()
            report(vm)


def report(vm: VM, console: Console | None = None) -> None:
    """The same facts once, as plain tables."""
    sample = Sampler(vm.inspection).sample()
    out = console or Console()
    lines = _lines(vm, out.width, most=len(vm.irqs))
    out.print(
        Group(
            _title(vm), "", _map(vm, sample), "", _devices(vm, sample, width=out.width), "", lines
        )
    )


# --- the parts ------------------------------------------------------------------------------------------


def screen(
    vm: VM, sample: Sample, sampler: Sampler, console: Console, keys: str = ""
) -> RenderableType:
    height = min(console.height - 1, HEIGHT)
    map_ = _map(vm, sample)
    map_width = console.measure(map_).maximum + BORDER
    beside = console.width - map_width - BORDER
    wide = console.width >= WIDE and beside >= _needed(vm, sample)
    lines = _lines(vm, console.width)
    serial_rows = max(6, height // 4)
    rows = height - serial_rows - 3 - len(lines.split())
    layout = Layout(size=height)
    layout.split_column(
        Layout(_panel(_title(vm, sample, console.width - BORDER)), size=3),
        Layout(name="middle"),
        Layout(lines, size=len(lines.split())),
        Layout(
            _panel(_serial(vm, serial_rows - 2, console.width - BORDER), f"serial{keys}"),
            size=serial_rows,
        ),
    )
    width = beside if wide else console.width - BORDER
    table = _panel(_devices(vm, sample, sampler, rows - 3, width), "devices")
    if wide:
        layout["middle"].split_row(
            Layout(_panel(map_, "address map"), size=map_width), Layout(table)
        )
    else:
        layout["middle"].update(table)
    return _Sized(layout, height)


def _panel(inside: RenderableType, title: str = "") -> Panel:
    return Panel(inside, title=title or None, title_align="left", box=box.ROUNDED)


class _Sized:
    """A layout takes the whole screen unless its height is said with the options."""

    def __init__(self, layout: Layout, height: int) -> None:
        self._layout = layout
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._layout, options.update(height=self._height))


def _title(vm: VM, sample: Sample | None = None, width: int | None = None) -> Text:
    """What matters least goes first when there are not so many columns."""
    state = vm.state
    parts: list[tuple[str, str, int]] = [
        (str(state), "bold", 0),
        (f"{vm.name} on {vm.engine}", "", 3),
        (f"({vm.engine_reason})", "", 5),
        (f"{show_size(vm.config.memory)}, {vm.config.cpus} cpu{'s' * (vm.config.cpus > 1)}", "", 4),
    ]
    if sample is not None:
        parts += [
            (f"up {vm.uptime:.1f} s", "", 2),
            (f"{show_rate(sample.exits)} exits/s", "", 1),
            (f"{show_rate(sample.total)} traps/s", "", 0),
        ]
    if state.reason:
        bad = state == "crashed" or state.fault is not None
        parts.append((state.reason.splitlines()[0], "red" if bad else "dim", 0))
    while width is not None and 2 + sum(len(text) + 2 for text, _, _ in parts) > width:
        least = max(parts, key=lambda part: part[2])
        if not least[2]:
            break
        parts.remove(least)
    line = Text.assemble(("● ", _LAMPS[state]), no_wrap=True, overflow="ellipsis")
    for text, style, _ in parts:
        line.append(text, style).append("  ")
    return line


def _map(vm: VM, sample: Sample) -> Table:
    """High addresses above, low ones at the bottom, as memory is drawn; holes are folded."""
    table = Table(box=None, show_header=False, padding=(0, 1), expand=False)
    table.add_column("", width=2)
    table.add_column("address", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for one in reversed(vm.address_map):
        if one.kind == "hole":
            table.add_row("", Text("⋮", "dim"), Text(f"hole, {show_span(one.size)}", "dim"))
            continue
        style = _KINDS[one.kind]
        heat = next(
            (
                hot
                for least, hot in _HEAT
                if one.kind == "mmio" and sample.rates.get(one.name, 0) >= least
            ),
            style,
        )
        table.add_row(
            Text("██", heat),
            Text(hexadecimal(one.start), style),
            Text(f"{one.name} {show_span(one.size)}", heat if heat != style else ""),
        )
    return table


class _Column(NamedTuple):
    """A column of the device table. goes: when there is no room for all, the highest goes first; 0: it
    stays. `of` says what stands in it for a device."""

    name: str
    goes: int
    number: bool
    of: Callable[[DeviceView, DeviceCounts], str]


_COLUMNS = (
    _Column("device", 0, False, lambda device, _: device.id),
    _Column("type", 5, False, lambda device, _: device.type),
    _Column(
        "window",
        3,
        False,
        lambda device, _: f"{'port ' * (device.space == 'port')}{hexadecimal(device.base)}",
    ),
    _Column("irq", 1, True, lambda device, _: "" if device.irq is None else str(device.irq)),
    _Column("reads", 0, True, lambda _, counts: f"{counts.reads:,}"),
    _Column("writes", 0, True, lambda _, counts: f"{counts.writes:,}"),
    _Column("bytes", 4, True, lambda _, counts: f"{counts.bytes:,}"),
)
_RATE = _Column("/s", 2, True, lambda *_: "")
_SPARK = _Column("", 6, False, lambda *_: "")
#: what a table wants before the map may stand beside it
_WANTED = [column for column in _COLUMNS if column.goes <= 4]


class _Row(NamedTuple):
    cells: dict[str, str]
    style: str = ""


def _rows(vm: VM, sample: Sample, sampler: Sampler | None, most: int | None = None) -> list[_Row]:
    """The devices that fit, and the registers that were used as far as there is room."""
    known = vm.devices
    present = shown = [id for id in sample.traps if id in known]
    reads, writes = sample.traps.unmapped
    left = None if most is None else most - bool(reads or writes)
    if left is not None and len(present) > left:
        # what somebody plugged in stays, and then what is used most
        order = sorted(present, key=lambda id: (known[id].fixed, -sample.traps[id].traps))
        keep = set(order[: max(left - 1, 0)])
        shown = [id for id in present if id in keep]
    hidden = len(present) - len(shown)
    if left is not None:
        left -= len(shown) + bool(hidden)
    rows = []
    for id in shown:
        device, counts = known[id], sample.traps[id]
        cells = {column.name: column.of(device, counts) for column in _COLUMNS}
        if sampler is not None:  # a rate needs two looks: a report has taken one
            cells["/s"] = show_rate(sample.rates[id])
            cells[""] = sparkline(list(sampler.history[id])).rjust(sampler.keep)
        rows.append(_Row(cells, "bold" if sample.rates[id] else ""))
        for name, register in counts.registers.items():
            if (left is None or left > 0) and (register.reads or register.writes):
                left = None if left is None else left - 1
                rows.append(_Row({"device": f"  {name}", **_counted(register)}, "dim"))
    if hidden:
        rows.append(_Row({"device": f"+ {hidden} more"}, "dim"))
    if reads or writes:
        unmapped = {"device": "(unmapped)", "reads": f"{reads:,}", "writes": f"{writes:,}"}
        rows.append(_Row(unmapped, "red"))
    return rows


def _counted(register: RegisterCounts) -> dict[str, str]:
    return {name: f"{getattr(register, name):,}" for name in ("reads", "writes", "bytes")}


def _width(rows: list[_Row], name: str) -> int:
    """Columns of the terminal that the table's column wants, the gap behind it included."""
    return max([len(name), *(len(row.cells.get(name, "")) for row in rows)]) + 2


def _needed(vm: VM, sample: Sample) -> int:
    rows = _rows(vm, sample, None)
    return sum(_width(rows, column.name) for column in _WANTED) + len("1.1M") + 2


def _devices(
    vm: VM,
    sample: Sample,
    sampler: Sampler | None = None,
    rows: int | None = None,
    width: int = WIDE,
) -> Table:
    """rows: how many the table may have; width: columns of the terminal. No digit is ever cut: where
    there is no room, columns go, then names are folded."""
    lines = _rows(vm, sample, sampler, rows)
    columns = list(_COLUMNS)
    if sampler is not None:
        columns += [_RATE, _SPARK]
    while sum(_width(lines, column.name) for column in columns) > width:
        last = max(columns, key=lambda column: column.goes)
        if not last.goes:
            break
        columns.remove(last)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in columns:
        if column.name == "device":
            table.add_column(column.name, overflow="fold")
        else:
            table.add_column(
                column.name,
                justify="right" if column.number else "left",
                no_wrap=True,
                min_width=_width(lines, column.name) - 2,
                style="green" if column is _SPARK else "",
            )
    for line in lines:
        table.add_row(*(Text(line.cells.get(column.name, ""), line.style) for column in columns))
    return table


def _lines(vm: VM, width: int, most: int = LINES) -> Text:
    """The interrupt lines, in at most so many rows: quiet ones are left out first."""
    rows = list(vm.irqs)
    for which in (rows, [row for row in rows if row.raised or row.level]):
        text = Text(" irq lines", "dim", overflow="fold")
        at, used, hidden = len(text), 1, len(rows) - len(which)
        entries = [
            (
                f" {'●' if row.level else '○'} {row.line} {row.device}: {row.raised:,} raised",
                "bold yellow" if row.level else "" if row.raised else "dim",
            )
            for row in which
        ]
        if hidden:
            entries.append((f" + {hidden} quiet", "dim"))
        for entry, style in entries:
            if at + len(entry) > width and at:
                text.append("\n")
                at, used = 0, used + 1
            text.append(entry, style)
            at += len(entry)
        if used <= most:
            break
    return text


def _serial(vm: VM, rows: int, width: int) -> Text:
    lines = vm.console.data[-16384:].decode("utf-8", "replace").replace("\r", "").split("\n")
    width = max(width, 1)
    folded = [
        line[at : at + width]
        for line in map(_printable, lines[-rows:])
        for at in range(0, max(len(line), 1), width)
    ]
    return Text("\n".join(folded[-rows:]) or " ")


def _printable(line: str) -> str:
    """The guest must not draw on the terminal: no escape reaches it."""
    return "".join(character if character.isprintable() else "·" for character in line)
