"""The machine in a terminal, live: address map, devices, interrupt lines, serial output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vmlab.core.counters import DeviceCounts, RegisterCounts
from vmlab.core.units import show_size, show_span
from vmlab.sampling import Sample, Sampler, show_rate, sparkline
from vmlab.terminal import Printer
from vmlab.views import DeviceView, hexadecimal
from vmlab.vm import VM

__all__ = ["report", "screen", "watch"]

#: looks a second: numbers that change faster cannot be read
RATE = 8
#: rows that the live view takes at most, and columns that it wants for two columns
HEIGHT, WIDE = 40, 110
#: below so many columns the device table drops what the report has anyway
NARROW = 80
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
    vm: VM, timeout: float | None = None, until: Callable[[], bool] | None = None, keep: bool = True
) -> bool:
    """Show a started machine until it ends, or `until()`; False when `timeout` seconds were over first.

    Without a terminal, plain text: the serial output as it comes, the counts at the end."""
    console = Console()
    if not console.is_terminal:
        return _plain(vm, timeout, until, console)
    sampler = Sampler(vm)
    end = time.monotonic() + timeout if timeout is not None else None

    def over() -> bool:
        return (
            vm.state in ("stopped", "crashed")
            or vm.state.fault is not None
            or bool(until and until())
        )

    with Live(console=console, auto_refresh=False, transient=not keep) as live:
        while True:
            ended = over()
            live.update(screen(vm, sampler.sample(), sampler, console), refresh=True)
            if ended:
                return True
            if end is not None and time.monotonic() >= end:
                return False
            vm.wait(1 / RATE, until=lambda: vm.state.fault is not None)


def _plain(
    vm: VM, timeout: float | None, until: Callable[[], bool] | None, console: Console
) -> bool:
    print(f"{_title(vm).plain}\n", flush=True)
    printer = Printer(vm.stop_waiting)
    stop = vm.console.listen(lambda data: printer.show(data.replace(b"\r", b"")), replay=True)
    end = time.monotonic() + timeout if timeout is not None else None
    try:
        while vm.state not in ("stopped", "crashed") and vm.state.fault is None:
            if until is not None and until():
                break
            if end is not None and time.monotonic() >= end:
                return False
            vm.wait(0.1, until=lambda: vm.state.fault is not None or printer.error is not None)
            if printer.error is not None:
                raise printer.error
        return True
    finally:
        stop()
        if printer.error is None:
            print()
            report(vm, console)


def report(vm: VM, console: Console | None = None) -> None:
    """The same facts once, as plain tables."""
    sampler = Sampler(vm)
    sample = sampler.sample()
    out = console or Console()
    out.print(
        Group(_title(vm), "", _map(vm, sample), "", _devices(vm, sample, None), "", _lines(vm))
    )


# --- the parts ------------------------------------------------------------------------------------------


def screen(vm: VM, sample: Sample, sampler: Sampler, console: Console) -> RenderableType:
    height = min(console.height - 1, HEIGHT)
    wide = console.width >= WIDE
    serial_rows = max(6, height // 4)
    rows = height - serial_rows - 4
    layout = Layout(size=height)
    layout.split_column(
        Layout(Panel(_title(vm, sample), box=box.ROUNDED), size=3),
        Layout(name="middle"),
        Layout(_lines(vm), size=1),
        Layout(_serial(vm, serial_rows - 2, console.width - 4), size=serial_rows),
    )
    table = Panel(
        _devices(vm, sample, sampler, rows - 3, console.width),
        title="devices",
        title_align="left",
        box=box.ROUNDED,
    )
    if wide:
        layout["middle"].split_row(
            Layout(
                Panel(_map(vm, sample), title="address map", title_align="left", box=box.ROUNDED),
                size=44,
            ),
            Layout(table),
        )
    else:
        layout["middle"].update(table)
    return _Sized(layout, height)


class _Sized:
    """A layout takes the whole screen unless its height is said with the options."""

    def __init__(self, layout: Layout, height: int) -> None:
        self._layout = layout
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._layout, options.update(height=self._height))


def _title(vm: VM, sample: Sample | None = None) -> Text:
    state = vm.state
    line = Text.assemble(("● ", _LAMPS[state]), (str(state), "bold"), "  ")
    line.append(f"{vm.name} on {vm.engine} ({vm.engine_reason})  ")
    line.append(
        f"{show_size(vm.config.memory)}, {vm.config.cpus} cpu{'s' * (vm.config.cpus > 1)}  "
    )
    if sample is not None:
        rates = f"{show_rate(sample.exits)} exits/s  {show_rate(sample.total)} traps/s"
        line.append(f"up {vm.uptime:.1f} s  {rates}")
    if state.reason:
        first = state.reason.splitlines()[0]
        line.append(f"  {first}", "red" if state == "crashed" or state.fault else "dim")
    line.no_wrap = True
    line.overflow = "ellipsis"
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
        heat = next((hot for least, hot in _HEAT if sample.rates.get(one.name, 0) >= least), style)
        table.add_row(
            Text("██", heat),
            Text(hexadecimal(one.start), style),
            Text(f"{one.name} {show_span(one.size)}", heat if heat != style else ""),
        )
    return table


def _devices(
    vm: VM,
    sample: Sample,
    sampler: Sampler | None,
    rows: int | None = None,
    width: int = WIDE,
) -> Table:
    """rows: how many the table may have; width: columns of the terminal."""
    narrow = width < NARROW
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("device",) if narrow else ("device", "type", "window"):
        table.add_column(name, no_wrap=True)
    # a rate needs two looks: a report has taken one
    for name in ("irq", "reads", "writes", "bytes") + (("/s",) if sampler is not None else ()):
        table.add_column(name, justify="right", no_wrap=True)
    if sampler is not None and not narrow:
        table.add_column("", no_wrap=True)
    devices = vm.devices
    left = len(devices) * 100 if rows is None else rows - len(devices)
    for id, counts in sample.traps.items():
        device = devices.get(id)
        if device is None:
            continue
        rate = sample.rates[id]
        history = sampler.history[id] if sampler is not None else None
        table.add_row(*_device_row(device, counts, rate, history, narrow))
        for name, register in counts.registers.items():
            if left > 0 and (register.reads or register.writes):
                left -= 1
                table.add_row(*_register_row(name, register, narrow))
    reads, writes = sample.traps.unmapped
    if reads or writes:
        blank = [""] if narrow else ["", "", ""]
        table.add_row(Text("(unmapped)", "red"), *blank, f"{reads:,}", f"{writes:,}")
    return table


def _device_row(
    device: DeviceView,
    counts: DeviceCounts,
    rate: float,
    history: Iterable[float] | None,
    narrow: bool,
) -> list[Text]:
    cells = [Text(device.id, "bold" if rate else "")]
    if not narrow:
        prefix = "port " if device.space == "port" else ""
        cells += [Text(device.type), Text(f"{prefix}{hexadecimal(device.base)}")]
    cells.append(Text("" if device.irq is None else str(device.irq)))
    cells += [Text(f"{number:,}") for number in (counts.reads, counts.writes, counts.bytes)]
    if history is not None:
        cells.append(Text(show_rate(rate)))
    if history is not None and not narrow:
        cells.append(Text(sparkline(list(history)), "green"))
    return cells


def _register_row(name: str, counts: RegisterCounts, narrow: bool) -> list[Text]:
    numbers = (counts.reads, counts.writes, counts.bytes)
    blank = [Text()] * (1 if narrow else 3)
    return [Text(f"  {name}", "dim"), *blank, *(Text(f"{number:,}", "dim") for number in numbers)]


def _lines(vm: VM) -> Text:
    text = Text(" irq lines ", "dim")
    for row in vm.irqs:
        text.append(
            " ●" if row.level else " ○", "bold yellow" if row.level or row.raised else "dim"
        )
        text.append(f" {row.line} {row.device}: {row.raised:,} raised", "" if row.raised else "dim")
    return text


def _serial(vm: VM, rows: int, width: int) -> Panel:
    lines = vm.console.data[-16384:].decode("utf-8", "replace").replace("\r", "").split("\n")
    shown = "\n".join(_printable(line)[:width] for line in lines[-rows:])
    return Panel(Text(shown or " "), title="serial", title_align="left", box=box.ROUNDED)


def _printable(line: str) -> str:
    """The guest must not draw on the terminal: no escape reaches it."""
    return "".join(character if character.isprintable() else "·" for character in line)
