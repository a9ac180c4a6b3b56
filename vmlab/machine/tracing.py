"""What of a machine a log is told: accesses, lines, console bytes, kicks, devices that come and go, mistakes.

All of it is connected when a log begins and taken off when it ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

from vmlab.arch.api import Arch
from vmlab.core.bus import Bus
from vmlab.core.counters import DeviceState
from vmlab.core.trace import KINDS, TraceFilter, TraceLog, expanded, known_kinds
from vmlab.engine.api import Engine
from vmlab.errors import ConfigError, UnknownName
from vmlab.hints import unknown
from vmlab.machine.board import Serial
from vmlab.machine.config import Fault
from vmlab.machine.device_manager import DeviceManager
from vmlab.machine.plugged import find
from vmlab.virtio.window import MmioWindow

__all__ = ["Tracing", "checked"]


def checked(wanted: TraceFilter, devices: DeviceManager, cpus: int) -> TraceFilter:
    """The filter, its groups of kinds resolved; DeviceNotFound, UnknownName or ConfigError for what there is
    not."""
    chosen = devices.devices
    if wanted.devices is not None:
        chosen = {id: find(devices.devices, id) for id in sorted(wanted.devices)}
    kinds = None if wanted.kinds is None else expanded(wanted.kinds)
    for kind in sorted(kinds or ()):
        if kind not in KINDS:
            raise UnknownName(unknown("kind of event", kind, known_kinds()))
    known = {name for one in chosen.values() for name in one.device.regs.by_name}
    for register in sorted(wanted.registers or ()):
        if register not in known:
            whose = " and ".join(map(repr, chosen)) if wanted.devices is not None else "no device"
            has = f"{whose} {'have' if len(chosen) > 1 else 'has'} " if wanted.devices else ""
            raise UnknownName(has + unknown("register", register, sorted(known)))
    for cpu in sorted(wanted.cpus or ()):
        if not 0 <= cpu < cpus:
            raise ConfigError(f"no CPU {cpu}; the machine has {cpus}")
    return TraceFilter(wanted.devices, kinds, wanted.registers, wanted.cpus)


class _Machine(Protocol):
    """What is needed of the machine."""

    arch: Arch
    engine: Engine
    mmio: Bus
    ports: Bus
    device_manager: DeviceManager


class Tracing:
    """`log` for as long as it runs."""

    def __init__(self, machine: _Machine, serial: Serial, log: TraceLog) -> None:
        self.log = log
        self._machine, self._devices, self._serial = machine, machine.device_manager, serial
        self._serial_id = machine.arch.serial
        self._engine = machine.engine
        #: line -> who drove it up
        self._drivers: dict[int, str] = {}
        self._undo: list[Callable[[], None]] = []

    # -- on and off ------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.watch_buses()
        log, devices = self.log, self._devices
        has = log.wanted.has_kind
        if has("raise", "lower", "deliver"):
            devices.wires.watch(self._edge)
            self._undo.append(lambda: devices.wires.watch(None))
        if has("ack", "eoi"):
            self._engine.watch_interrupts(self._served)
            self._undo.append(lambda: self._engine.watch_interrupts(None))
        if has("output"):
            self._watch_output()
        devices.watcher = self
        self._undo.append(functools.partial(setattr, devices, "watcher", None))

    def _watch_output(self) -> None:
        serial, devices = self._serial, self._devices
        sink, on_output = serial.sink, devices.on_output

        def sent(data: bytes) -> None:
            self.log.add_bytes("output", self._serial_id, 0, data, self._engine.cpu_here())
            if sink is not None:
                sink(data)

        def put_out(id: str, port: int, data: bytes) -> None:
            self.log.add_bytes("output", id, port, data, self._engine.cpu_here())
            on_output(id, port, data)

        serial.sink, devices.on_output = sent, put_out
        self._undo.append(functools.partial(setattr, serial, "sink", sink))
        self._undo.append(functools.partial(setattr, devices, "on_output", on_output))

    def watch_buses(self) -> None:
        """They forget who observes them when the machine is powered on."""
        machine = self._machine
        for bus in (machine.ports, machine.mmio):
            self.log.watch(bus, functools.partial(self._engine.access_here, bus is machine.ports))

    def end(self) -> None:
        self.log.stop()
        while self._undo:
            self._undo.pop()()

    # -- what is told ----------------------------------------------------------------------------------

    def _edge(self, line: int, what: str, pulse: bool) -> None:
        """`core.irq.IrqLine.watch`."""
        if what == "raise":
            self._drivers[line] = self._holders(line)
        device = self._drivers.get(line) or self._holders(line)
        text = "pulse" if pulse else ""
        self.log.add(what, device, self._engine.cpu_here(), line=line, text=text)

    def _holders(self, line: int) -> str:
        held = {
            id: one.device for id, one in list(self._devices.devices.items()) if one.irq == line
        }
        if len(held) > 1:
            held = {id: device for id, device in held.items() if device.irq.level} or held
        return ", ".join(held)

    def _served(self, what: str, number: int, line: int | None) -> None:
        """`Engine.watch_interrupts`."""
        device = "" if line is None else self._drivers.get(line) or self._holders(line)
        self.log.add(what, device, self._engine.cpu_here(), value=number, line=line)

    def received(self, id: str, port: int, data: bytes) -> None:
        """A console was sent bytes; id "": the serial port."""
        self.log.add_bytes("input", id or self._serial_id, port, data, None)

    def kicked(self, id: str, queue: int, count: int) -> None:
        text = f"{count} times" if count > 1 else ""
        self.log.add("kick", id, None, "QueueNotify", 4, queue, text=text)

    def changed(self, kind: str, id: str, text: str = "") -> None:
        """A device has come or gone, or the guest's driver is further with it."""
        if kind == DeviceState.ADDED and id in self._devices.devices:
            if not isinstance(self._devices.devices[id].device, MmioWindow):
                self.log.unseen.add(id)
        elif kind in ("seen", "driver_ok", "removed"):
            self.log.unseen.discard(id)
        self.log.add(kind, id, self._engine.cpu_here(), text=text)

    def failed(self, fault: Fault) -> None:
        """A device's code raised in an access."""
        self.log.add("fault", fault.device, self._engine.cpu_here(), text=fault.text)

    def mistaken(self, id: str, text: str) -> None:
        self.log.add("mistake", id, self._engine.cpu_here(), text=text)
