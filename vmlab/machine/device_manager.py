"""Where devices are plugged in: ids, windows, lines, doorbells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from vmlab.arch.api import Arch
from vmlab.core.bus import Bus
from vmlab.core.clock import Clock
from vmlab.core.cmdline import Cmdline
from vmlab.core.counters import CounterPage, DeviceState
from vmlab.core.device import Device, wants_line
from vmlab.core.irq import IrqLine
from vmlab.core.manager import MMIO_LEN, DeviceType, MMIODeviceManager
from vmlab.core.memory import GuestMemory
from vmlab.core.patience import Patient, taken
from vmlab.core.safely import report, short, shown
from vmlab.devices.hotplug import SLOT_COUNT, HotPlug, Slot
from vmlab.engine.api import Doorbell, Engine
from vmlab.errors import ConfigError, DeviceNotFound, UpdateFailed
from vmlab.machine.board import Fixed
from vmlab.machine.busy import Watch
from vmlab.machine.hotplug.force import Force
from vmlab.machine.hotplug.placeholders import Placeholders
from vmlab.machine.hotplug.removal import Removals
from vmlab.machine.hotplug.stale import StaleWindows, driver_bound, prepare_surprise_removal
from vmlab.machine.introspection import Introspection
from vmlab.machine.plugged import Plugged, find
from vmlab.machine.wires import Wires, drives_level
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.legacy import LegacyTransport
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.window import MmioWindow

__all__ = ["DeviceManager"]


class Watcher(Protocol):
    """Who is told what happens to devices, by their ids."""

    def changed(self, kind: str, id: str, text: str = "") -> None:
        """It has come or gone, or the guest is further with it."""
        ...

    def kicked(self, id: str, queue: int, count: int) -> None: ...
    def received(self, id: str, port: int, data: bytes) -> None: ...
    def mistaken(self, id: str, text: str) -> None: ...


class DeviceManager:
    """Gives devices their capabilities and takes them back (`core.manager.Wiring`)."""

    def __init__(
        self,
        arch: Arch,
        engine: Engine,
        memory: GuestMemory,
        page: CounterPage,
        clock: Clock,
        mmio: Bus,
    ) -> None:
        self._engine = engine
        self._dialect = arch.dialect
        self._reserved = arch.reserved
        self._memory = memory
        self._page = page
        self._clock = clock
        self.manager = MMIODeviceManager(
            bus=mmio,
            wiring=self,
            arch=arch,
            mmio_end=arch.windows.end,
            shared_irqs=arch.windows.shared,
            slots=SLOT_COUNT,
        )
        self.wires = Wires(engine, page, self.manager.lines)
        #: what a guest without ACPI sees in windows that hold nothing; set by the machine
        self.reserve = Placeholders(self.manager)
        #: told of (id, port, bytes) that a device puts out; set by whoever wants it
        self.on_output: Callable[[str, int, bytes], None] = lambda *_: None
        #: told of (id, what a guest did that the device's data sheet forbids)
        self.on_mistake: Callable[[str, str], None] = lambda *_: None
        #: the log that is told of what happens to devices
        self.watcher: Watcher | None = None
        self.devices: dict[str, Plugged] = {}
        #: whose reset was the last to fail
        self.refused = ""
        self.hotplug = HotPlug()
        self._left = StaleWindows(self.manager, self.hotplug)
        #: who keeps a device's code from returning is known here
        self.watch = Watch(self._name_of)
        self.introspection = Introspection(self.devices, self.watch)
        self.introspection.on_input = self._received
        self.watch.owners += [self, self.introspection, mmio, clock]
        self.force = Force(self.watch)
        #: held by whoever plugs, unplugs or resets devices
        self.quiet = Patient(self.watch.words, "devices cannot come or go now")
        self._removals = Removals(self.hotplug, self.quiet)
        self._bells: dict[int, list[Doorbell]] = {}
        #: windows whose notifications trap, since somebody waits for them
        self._trapping: set[int] = set()

    # --- capabilities ---------------------------------------------------------------------------

    def attach(self, device: object, base: int, irq: int | None) -> None:
        """On any error the device has nothing and nothing is left of it."""
        assert isinstance(device, Device)
        with contextlib.ExitStack() as undo:
            block = self._page.allocate([row.name for row in device.regs.table])
            undo.callback(block.free)
            device.irq = self.wires.line(irq)
            device.clock, device.memory = self._clock, self._memory
            device._wire(block)
            block.on_state = lambda state: self._moved(device, state)
            if isinstance(device, MmioWindow):
                # where the guest is: of engines that know
                device.program_counter = self._engine.program_counter
            undo.pop_all()
            undo.callback(self._strip, device)
            device.attached()
            undo.callback(device.detached)
            bells: list[Doorbell] = []
            undo.callback(_close_all, bells)
            if base not in self._trapping:
                self._hang(device, base, bells)
            self._bells[id(device)] = bells
            undo.pop_all()

    def _hang(self, device: Device, base: int, bells: list[Doorbell]) -> None:
        for offset, size, match, ring in device.doorbells():
            bells.append(self._engine.doorbell(base + offset, size, match, ring))

    def trap_doorbells(self, bases: set[int]) -> None:
        """Notifications of the devices in these windows are accesses as any other, and only theirs."""
        before, self._trapping = self._trapping, bases
        for plugged in list(self.devices.values()):
            device, base = plugged.device, plugged.base
            if (base in bases) is (base in before):
                continue
            bells = self._bells.setdefault(id(device), [])
            if base in bases:
                _close_all(bells)
                bells.clear()
            else:
                self._hang(device, base, bells)

    def detach(self, device: object) -> None:
        assert isinstance(device, Device)
        _close_all(self._bells.pop(id(device), []))
        try:
            device.detached()
        except BaseException as error:  # noqa: BLE001 - the device goes whatever its code does
            if not taken(error):
                report(error)
        finally:
            self._strip(device)

    @staticmethod
    def _strip(device: Device) -> None:
        device.irq.set(False)
        device.irq.close()
        block = device.counters
        device.irq, device.clock, device.memory = IrqLine(), Clock(), None
        device._rewire()
        block.free()

    # --- plugging -------------------------------------------------------------------------------

    def fix_all(self, fixed: list[Fixed], ports: Bus, cmdline: Cmdline | None) -> None:
        """The devices that a board has. cmdline: see `fix_in_window`."""
        for one in fixed:
            if one.kind is not None:
                self.fix_in_window(one.id, one.device, one.kind, cmdline)
            else:
                bus = ports if one.space == "port" else self.manager.bus
                self.fix(one.id, one.device, bus, one.places, one.irq, one.shows)

    def fix(
        self,
        id: str,
        device: Device,
        bus: Bus,
        places: list[tuple[int, int, int]],
        irq: int | None = None,
        shows: tuple[int, int] | None = None,
    ) -> None:
        """Part of the machine: at (address, size, offset in the device) each, for good. shows: (address,
        size) of RAM that it puts on a screen."""
        self._listen(device, id)
        self.attach(device, places[0][0], irq)
        for base, size, offset in places:
            bus.insert(base, size, device, offset, id)
        start, end = places[0][0], places[-1][0] + places[-1][1]
        self.devices[id] = Plugged(device, bus.name, start, end - start, irq, None, shows)

    def fix_in_window(
        self, id: str, device: Device, kind: DeviceType, cmdline: Cmdline | None
    ) -> None:
        """The same in a window of the manager's, with a line. cmdline: a Linux', told of its console."""
        self._listen(device, id)
        manager = self.manager
        if kind == DeviceType.SERIAL:
            base, irq = manager.register_mmio_serial(device, cmdline)
        else:
            register = {
                DeviceType.RTC: manager.register_mmio_rtc,
                DeviceType.GPIO: manager.register_mmio_gpio,
            }
            base, irq = register[kind](device)
        known = next(name for each, name in manager.get_device_info() if each == kind)
        if known != id:
            manager.rename(kind, known, id)
        self.devices[id] = Plugged(device, "mmio", base, MMIO_LEN, irq, None)

    def add(
        self,
        device: Device | VirtioDevice,
        id: str | None,
        announce: bool,
        at: int | None = None,
        irq: int | None = None,
    ) -> str:
        """Plug in; returns the id. `announce`: a guest is running and is told. at, irq: the window and the
        line that it is to have."""
        kind, bus_device = self._carried(device)
        with self.quiet:
            name = id or self._free_id(short(type(device).__name__.lower(), 60))
            if name in self.devices:
                raise ConfigError(f"there is a device {name!r} already; give another id")
            size = -(-bus_device.size // MMIO_LEN) * MMIO_LEN
            self._check_place(kind, at, size, irq)
            self._listen(bus_device, name)
            wanted = wants_line(bus_device) if irq is None else irq
            with self.reserve.suspended():
                base, irq = self._left.register(bus_device, kind, name, size, at, wanted)
            self.devices[name] = Plugged(bus_device, "mmio", base, size, irq, kind)
            self._tell("added", name, bus_device.type)
            slot = self._slot(base)
            if slot is not None:
                self._hear(bus_device, slot)
                self.hotplug.fill(slot, Slot(base, size, irq, kind.number, bus_device), announce)
            return name

    def compatible(self) -> dict[str, str]:
        """id -> what it is in a device tree, of the devices that are no part of the machine and say so."""
        said = {
            id: getattr(one.device, "compatible", "")
            for id, one in self.devices.items()
            if one.kind == DeviceType.USER
        }
        return {id: text for id, text in said.items() if text and isinstance(text, str)}

    def _check_place(self, kind: DeviceType, at: int | None, size: int, irq: int | None) -> None:
        """ConfigError for what no device that is plugged in can have; the manager says the rest."""
        if irq is not None:
            self.wires.check(
                irq, {one.irq: id for id, one in self.devices.items() if one.fixed and one.irq}
            )
        if at is None:
            return
        for ram in self._memory.regions:
            if at < ram.end and ram.base < at + size:
                raise ConfigError(f"{at:#x} is RAM, which ends at {ram.end:#x}")
        for part in self._reserved:
            if at <= part.end and part.start < at + size:
                raise ConfigError(
                    f"{at:#x}-{at + size - 1:#x} overlaps the {part.name}, which is at"
                    f" {part.start:#x}-{part.end:#x}"
                )
        if self._linux and kind.number and not 0 <= at - self.manager.mmio_base < self._slots_size:
            raise ConfigError(
                f"{at:#x}: Linux finds virtio devices in its {self.manager.slots} slots alone, from"
                f" {self.manager.mmio_base:#x} up"
            )

    def _hear(self, device: Device, slot: int) -> None:
        if isinstance(device, MmioWindow):
            device.on_let_go = lambda: self.hotplug.unbound(slot)

    def keep_windows(self, count: int, kept: bool) -> None:
        """The first `count` are there whether they hold a device or not; see `Placeholders`."""
        self.reserve = Placeholders(
            self.manager, count, lambda device: self._carried(device)[1], kept
        )

    def _carried(self, device: object) -> tuple[DeviceType, Device]:
        """The device as a bus takes it: a virtio device gets its transport."""
        if isinstance(device, VirtioDevice):
            legacy = self._dialect.legacy if device.legacy is None else device.legacy
            transport = LegacyTransport if legacy else MmioTransport
            return DeviceType.virtio(device.device_id), transport(device, self._dialect)
        if isinstance(device, Device):
            return DeviceType.USER, device
        raise ConfigError(f"{shown(device)} is not a vmlab Device")

    def _listen(self, device: Device, id: str) -> None:
        device.on_output = lambda data, port: self.on_output(id, port, data)
        device.on_mistake = lambda _, text: self._mistaken(id, device, text)
        if isinstance(device, MmioWindow):
            device.on_kick = lambda queue, count: self._kicked(id, queue, count)

    # --- what a log is told -----------------------------------------------------------------------

    def _tell(self, kind: str, id: str, text: str = "") -> None:
        if self.watcher is not None and id:
            self.watcher.changed(kind, id, text)

    def _moved(self, device: Device, state: str) -> None:
        """The guest is further with a device."""
        if self.watcher is not None and state != DeviceState.ADDED:
            self._tell(state, self._name_of(device))

    def _kicked(self, id: str, queue: int, count: int) -> None:
        if self.watcher is not None:
            self.watcher.kicked(id, queue, count)

    def _received(self, id: str, port: int, data: bytes) -> None:
        if self.watcher is not None:
            self.watcher.received(id, port, data)

    def _mistaken(self, id: str, device: Device, text: str) -> None:
        if self.watcher is not None:
            clause = device.journal.clause if isinstance(device, MmioWindow) else ""
            self.watcher.mistaken(id, f"{text} ({clause})" if clause and "§" not in text else text)
        self.on_mistake(id, text)

    def _slot(self, base: int) -> int | None:
        index = (base - self.manager.mmio_base) // MMIO_LEN
        return index if 0 <= index < SLOT_COUNT else None

    @property
    def _slots_size(self) -> int:
        return (self.manager.slots or 0) * MMIO_LEN

    def remove(self, id: str, force: bool, running: bool) -> None:
        """Unplug. Unless forced, a guest that has seen the device is asked first and waited for."""
        if not force:
            self.force.must_rest(id, self._added(id).device)
            self._remove(id, force, running)
            return
        with self.force.used:
            # it may have been on its way in or out, and stuck there
            gone = (DeviceNotFound,) if self.force.expel(id) else ()
            with contextlib.suppress(*gone):
                self._remove(id, force, running)

    def _remove(self, id: str, force: bool, running: bool) -> None:
        plugged = self._added(id)
        assert plugged.kind is not None
        slot = self._slot(plugged.base)
        asked = not force and running and slot is not None
        consented = asked and slot is not None and self._removals.request(id, plugged.device, slot)
        bound = force and self._linux and driver_bound(plugged.device)
        if bound and running:
            prepare_surprise_removal(plugged.device)
        with self.quiet:
            if self.devices.get(id) is not plugged:
                raise DeviceNotFound(repr(id))
            left = slot is not None and self.hotplug.let_go(slot, bound)
            if left and slot is not None and isinstance(plugged.device, MmioWindow):
                self._left.keep(slot, plugged.device, plugged.kind, id)
            else:
                with self.reserve.suspended():
                    self.manager.unregister(plugged.kind, id)
            del self.devices[id]
            self._page.outdate()
            self._tell("removed", id, "by force" if force else "")
            if slot is not None:
                self.hotplug.empty(slot, announce=bound or (running and not consented))

    @property
    def _linux(self) -> bool:
        """Whether the guest's drivers keep a window until they are unbound."""
        return self.hotplug.acpi or self.reserve.kept

    def replace(
        self,
        id: str,
        device: Device | VirtioDevice,
        announce: bool,
        running: bool = False,
        force: bool = False,
    ) -> None:
        """`device` takes the place of the one called `id`: same window, same line. `announce`: a guest is
        there, and must set the new one up; a Linux that is `running` must let the old one go first, unless
        it is taken by force, in the middle of its own code if need be."""
        kind, bus_device = self._carried(device)
        self._check_fits(id, kind, bus_device)
        if force:
            with self.force.used:
                self.force.expel(id)
                self._exchange(id, kind, bus_device, announce)
            return
        self.force.must_rest(id, self._added(id).device)
        old = self._added(id)
        slot = self._slot(old.base)
        if running and slot is not None and self._linux and driver_bound(old.device):
            self._removals.request(id, old.device, slot)
        self._exchange(id, kind, bus_device, announce)

    def _exchange(self, id: str, kind: DeviceType, bus_device: Device, announce: bool) -> None:
        with self.quiet:
            self._check_fits(id, kind, bus_device)
            plugged = self._added(id)
            self._listen(bus_device, id)
            wanted = wants_line(bus_device)
            try:
                self.manager.replace(kind, id, bus_device, wanted, drives_level(bus_device))
            except UpdateFailed:
                if self.manager.get_device(kind, id) is None:
                    self._forget(id, plugged)
                raise
            line = self.manager.get_device_info()[kind, id].irq
            plugged = self.devices[id] = plugged._replace(device=bus_device, irq=line)
            self._tell("replaced", id, bus_device.type)
            slot = self._slot(plugged.base)
            if slot is not None:
                self._hear(bus_device, slot)
                new = Slot(plugged.base, plugged.size, plugged.irq, kind.number, bus_device)
                self.hotplug.fill(slot, new, announce)

    def _name_of(self, device: object) -> str:
        for id, plugged in list(self.devices.items()):
            if device is plugged.device or device is plugged.made:
                return id
        return ""

    def _forget(self, id: str, plugged: Plugged) -> None:
        """Neither the new device nor the old one could be attached."""
        del self.devices[id]
        self._page.outdate()
        slot = self._slot(plugged.base)
        if slot is not None:
            self.hotplug.empty(slot, announce=True)

    def _check_fits(self, id: str, kind: DeviceType, device: Device) -> None:
        plugged = self._added(id)
        if kind != plugged.kind:
            raise ConfigError(f"{id!r} is a {plugged.device.type}, the new device a {device.type}")
        if device.size > plugged.size:
            raise ConfigError(
                f"the new device needs {device.size:#x} bytes, the window of {id!r} has"
                f" {plugged.size:#x}"
            )

    def _added(self, id: str) -> Plugged:
        plugged = find(self.devices, id)
        if plugged.fixed:
            raise ConfigError(f"{id!r} is part of the machine and stays where it is")
        return plugged

    def _free_id(self, kind: str) -> str:
        number = 0
        while f"{kind}{number}" in self.devices:
            number += 1
        return f"{kind}{number}"

    # --- all of them ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Every device at power-on; what is plugged in stays. What one raised, the first of them, is raised
        when all had their turn."""
        self.refused = ""
        first: BaseException | None = None
        with self.quiet:
            self._left.clear()
            self.manager.forget_lines()
        for id, plugged in list(self.devices.items()):
            try:
                plugged.device.reset()
            except BaseException as error:  # noqa: BLE001 - the others are to be reset as well
                plugged.device.irq.set(False)
                if first is None and not taken(error):  # by force, out of this very call
                    self.refused, first = id, error
            plugged.device.counters.state = DeviceState.ADDED
        if first is not None:
            raise first

    def close(self) -> None:
        """End what devices run on the host: threads, files, sockets."""
        for plugged in list(self.devices.values()):
            if not plugged.fixed:
                self._close(plugged)
            plugged.device.irq.close()

    @staticmethod
    def _close(plugged: Plugged) -> None:
        try:
            plugged.device.detached()
        except BaseException as error:  # noqa: BLE001 - the others are to be closed as well
            report(error)


def _close_all(bells: list[Doorbell]) -> None:
    for bell in bells:
        bell.close()
