"""The MMIO device manager: windows and interrupt lines, given out and taken back.

The contract is krun-vmm's `MMIODeviceManager`: windows of 0x1000 bytes from `mmio_base` up, one
interrupt line each, look-ups by (device type, id). Beyond it: removal, reuse, rollback, and errors
where that one is silent (a duplicate id, an end past the address space).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from msgspec import Struct

from vmlab.arch import DEFAULT, HOMES, get
from vmlab.arch.api import Arch
from vmlab.core.bus import Bus, BusDevice
from vmlab.core.cmdline import Cmdline
from vmlab.core.lines import Lines
from vmlab.core.safely import text_of
from vmlab.errors import (
    BusError,
    BusOverlap,
    CmdlineError,
    ConfigError,
    CreateMmioTransport,
    DeviceNotFound,
    IrqsExhausted,
    UpdateFailed,
    WindowsExhausted,
)

__all__ = ["MMIO_LEN", "DeviceInfo", "DeviceType", "MMIODeviceManager", "Wiring"]

#: bytes of one window: the virtio-mmio registers and their configuration space
MMIO_LEN = 0x1000


class DeviceType(Struct, frozen=True, order=True):
    """What kind of device: `DeviceType.virtio(4)`, or one of the fixed kinds."""

    name: str
    number: int = 0

    SERIAL: ClassVar[DeviceType]
    RTC: ClassVar[DeviceType]
    GPIO: ClassVar[DeviceType]
    USER: ClassVar[DeviceType]

    @classmethod
    def virtio(cls, type_id: int) -> DeviceType:
        return cls("Virtio", type_id)

    def __str__(self) -> str:
        return f"{self.name}({self.number})" if self.name == "Virtio" else self.name


DeviceType.SERIAL = DeviceType("Serial")
DeviceType.RTC = DeviceType("RTC")
DeviceType.GPIO = DeviceType("Gpio")
#: a device of the user's own, with no number in any standard
DeviceType.USER = DeviceType("User")


class DeviceInfo(Struct, frozen=True):
    """Where a device is: `addr`, `len` in bytes, and its line (None: it has none)."""

    addr: int
    len: int
    irq: int | None


class Wiring(Protocol):
    """What binds a device to a machine: its line, its notifications. Raises RegisterIrqFd,
    RegisterIoEvent, EventFdError or CreateMmioTransport, having undone its own part."""

    def attach(self, device: BusDevice, base: int, irq: int | None) -> None: ...
    def detach(self, device: BusDevice) -> None: ...


class MMIODeviceManager:
    """Registers devices on `bus` (its own, unless one is given).

    mmio_base: guest-physical address of the first window. irq_interval: the first and last line to
    give out, both included, up to the interrupt controller's last. None: the architecture's usual.
    arch: its name, or one of one's own (`vmlab.arch.api.Arch`).
    mmio_end: windows end below this address, where something else begins. shared_irqs: first and last of the
    lines that any number of devices may hold, when those are taken. slots: the windows from the first up in
    which a guest looks for virtio devices; a larger device goes above them.
    """

    def __init__(
        self,
        mmio_base: int | None = None,
        irq_interval: tuple[int, int] | None = None,
        arch: str | Arch = DEFAULT,
        bus: Bus | None = None,
        wiring: Wiring | None = None,
        mmio_end: int | None = None,
        shared_irqs: tuple[int, int] | None = None,
        slots: int | None = None,
    ) -> None:
        if isinstance(arch, str) and arch not in HOMES:
            raise ConfigError(
                f"unknown architecture {arch!r}; vmlab knows {', '.join(sorted(HOMES))}"
            )
        found = get(arch)
        usual = found.windows
        first, last = usual.irq_interval if irq_interval is None else irq_interval
        if not 0 <= first <= last <= usual.last_irq:
            raise ConfigError(
                f"interrupt lines {first}..={last} do not fit 0..={usual.last_irq} of {found.name}"
            )
        start = usual.base if mmio_base is None else mmio_base
        if start < 0 or start % MMIO_LEN:
            raise ConfigError(
                f"the MMIO base {start:#x} is not aligned to a window of {MMIO_LEN:#x} bytes"
            )
        self.arch = found.name
        self.mmio_base = start + usual.skip * MMIO_LEN
        self.irq_interval = (first, last)
        self.lines = Lines(first, last, shared_irqs, usual.asked)
        self._address_bits = found.address_bits if usual.asked else 64
        self.slots = slots
        self.bus = Bus() if bus is None else bus
        self.wiring = wiring
        self.mmio_end = self.bus.limit if mmio_end is None else mmio_end
        #: give a window the line of its own number where that one is free, and the one that it once had: a
        #: guest may keep to it
        self.paired = False
        self._kept: dict[int, int] = {}
        self._info: dict[tuple[DeviceType, str], DeviceInfo] = {}
        self._devices: dict[tuple[DeviceType, str], BusDevice] = {}

    # --- registration ---------------------------------------------------------------------------

    def register_mmio_device(self, device: BusDevice, type_id: int, id: str) -> tuple[int, int]:
        """Give a virtio device (`type_id` as virtio 1.2 §5 numbers them) a window and a line.

        Returns (base, irq). On any error nothing has changed."""
        base, irq = self._register(device, DeviceType.virtio(type_id), id, level=True)
        assert irq is not None
        return base, irq

    def register_device(
        self,
        device: BusDevice,
        kind: DeviceType,
        id: str,
        size: int = MMIO_LEN,
        irq: bool | int = True,
        at: int | None = None,
        level: bool = False,
    ) -> tuple[int, int | None]:
        """The same for any kind, for windows of several pages, and for devices without a line (irq=False).

        at, irq: the address and the line that it is to have. level: it drives a level, so that it can share
        a line; without it a device has a line to itself."""
        return self._register(device, kind, id, size, irq, at=at, level=level)

    def register_mmio_serial(
        self, serial: BusDevice, cmdline: Cmdline | None = None
    ) -> tuple[int, int]:
        """The console, a PL011 (on riscv64 a 16550); `cmdline` gets its earlycon."""
        kind = "uart,mmio" if self.arch == "riscv64" else "pl011,mmio32"

        def announce(base: int) -> None:
            if cmdline is not None:
                _insert(cmdline, "earlycon", f"{kind},0x{base:08x}")

        base, irq = self._register(
            serial, DeviceType.SERIAL, str(DeviceType.SERIAL), after=announce
        )
        assert irq is not None
        return base, irq

    def register_mmio_rtc(self, rtc: BusDevice) -> tuple[int, int]:
        """The arm64 real-time clock (PL031)."""
        base, irq = self._register(rtc, DeviceType.RTC, "rtc")
        assert irq is not None
        return base, irq

    def register_mmio_gpio(self, gpio: BusDevice) -> tuple[int, int]:
        """The arm64 GPIO block (PL061), which carries the power button."""
        base, irq = self._register(gpio, DeviceType.GPIO, str(DeviceType.GPIO))
        assert irq is not None
        return base, irq

    def register_mmio_gic(self, gic: BusDevice | None, base: int = 0, size: int = 0) -> None:
        """A GIC in user space at its own address. None, or one without a size: the engine has it inside."""
        self._register_controller(gic, "gic", base, size)

    def register_mmio_ioapic(
        self, ioapic: BusDevice | None, base: int = 0xFEC0_0000, size: int = MMIO_LEN
    ) -> None:
        """An IOAPIC in user space at its own address. None, or without a size: the engine has it inside."""
        self._register_controller(ioapic, "ioapic", base, size)

    def _register_controller(
        self, device: BusDevice | None, name: str, base: int, size: int
    ) -> None:
        if device is not None:
            base = base or getattr(device, "base", 0)
            size = size or getattr(device, "size", 0)
            if size:
                self._insert(base, size, device, name)

    def _register(
        self,
        device: BusDevice,
        kind: DeviceType,
        id: str,
        size: int = MMIO_LEN,
        wanted: bool | int = True,
        after: Callable[[int], None] | None = None,
        at: int | None = None,
        level: bool = False,
    ) -> tuple[int, int | None]:
        if (kind, id) in self._info:
            raise CreateMmioTransport(f"{id!r}: a device of type {kind} has that id already")
        if size <= 0 or size % MMIO_LEN:
            raise CreateMmioTransport(
                f"{id!r}: {size:#x} bytes are not whole windows of {MMIO_LEN:#x}"
            )
        base, irq = self._place(kind, size, wanted, at, level)
        with contextlib.ExitStack() as undo:
            # bound before it is on the bus: no access may reach a device without its line
            if self.wiring is not None:
                self.wiring.attach(device, base, irq)
                undo.callback(self.wiring.detach, device)
            self._insert(base, size, device, id)
            undo.callback(self.bus.remove, base)
            if after is not None:
                after(base)
            undo.pop_all()
        self._info[kind, id] = DeviceInfo(base, size, irq)
        self._devices[kind, id] = device
        if self.paired and irq is not None and kind.name == "Virtio":
            self._kept[base] = irq
        return base, irq

    def _insert(self, base: int, size: int, device: BusDevice, name: str) -> None:
        try:
            self.bus.insert(base, size, device, name=name)
        except BusOverlap as error:
            raise BusOverlap(error.detail, through="failed to perform bus operation: ") from error

    # --- windows and lines ----------------------------------------------------------------------

    def _place(
        self, kind: DeviceType, size: int, wanted: bool | int, at: int | None, level: bool
    ) -> tuple[int, int | None]:
        """A window and a line for a device; see `register_device`."""
        virtio = kind.name == "Virtio"
        line = None if isinstance(wanted, bool) else wanted
        if line is not None:
            self.lines.check(line, self._holders(), level)
        for base in self._free_windows(size) if at is None else iter((self._fixed(at, size),)):
            if virtio and self.slots is not None and base + size > self._slots_end and at is None:
                break
            kept = self._kept.get(base) if virtio else None
            if wanted is False:
                return base, None
            if line is None:
                irq = self._free_irq(base, kept, level, virtio)
                if irq is not None:
                    return base, irq
            elif kept is None or line == kept:
                return base, line
            if at is not None:
                raise ConfigError(
                    f"the guest knows the window at {base:#x} by line {kept}; it can have no other before the"
                    " machine is reset"
                )
        raise WindowsExhausted(
            f"{self.slots} slots hold virtio devices, up to {self._slots_end:#x}"
        )

    def _holders(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for (_, id), info in self._info.items():
            if info.irq is not None:
                found.setdefault(info.irq, []).append(id)
        return found

    def _free_irq(self, base: int, kept: int | None, level: bool, virtio: bool) -> int | None:
        """None: the window has a line already, which another device has got."""
        holders = self._holders()
        if kept is not None:
            return kept if self.lines.open(kept, holders, level) else None
        spared = frozenset(line for at, line in self._kept.items() if at != base)
        window = (base - self.mmio_base) // MMIO_LEN
        own = self.lines.usual(window, virtio) if self.paired and window >= 0 else None
        spoken_for = own in spared and own not in self.lines.shared
        if own is not None and not spoken_for and self.lines.open(own, holders, level):
            return own
        free = self.lines.free(holders, level, virtio, spared)
        if free is None:
            raise IrqsExhausted
        return free

    def forget_lines(self) -> None:
        """The guest is gone that knew windows by their lines."""
        self._kept = {
            info.addr: self._kept[info.addr]
            for info in self._info.values()
            if info.addr in self._kept
        }

    @property
    def next_window(self) -> int | None:
        """The address that a device of one window would get; None: there is no room for one."""
        try:
            return next(self._free_windows(MMIO_LEN))
        except BusError:
            return None

    @property
    def _slots_end(self) -> int:
        return self.mmio_base + (self.slots or 0) * MMIO_LEN

    def _free_windows(self, size: int) -> Iterator[int]:
        """Where a device fits, from the lowest address up, among the windows that this manager gave out."""
        base = self.mmio_base
        if self.slots is not None and base + size > self._slots_end:
            base = self._slots_end
        for info in sorted(self._info.values(), key=lambda one: one.addr):
            while base + size <= info.addr:
                yield base
                base += MMIO_LEN
            base = max(base, info.addr + info.len)
        while True:
            self._check_end(base, size)
            yield base
            base += MMIO_LEN

    def _check_end(self, base: int, size: int) -> None:
        if base + size > self.bus.limit:
            raise BusError(f"the window [{base:#x}, {base + size:#x}) ends past the address space")
        if base + size > self.mmio_end:
            raise BusError(
                f"the window [{base:#x}, {base + size:#x}) does not end below {self.mmio_end:#x}"
            )

    def _fixed(self, at: int, size: int) -> int:
        """`at`, where a device can be."""
        if at < 0 or at % MMIO_LEN:
            raise ConfigError(f"{at:#x} is not aligned to a window of {MMIO_LEN:#x} bytes")
        if not self.lines.asked:
            self._check_end(at, size)
        elif (at + size) >> self._address_bits:
            raise BusError(
                f"[{at:#x}, {at + size:#x}) ends past the address space of {self._address_bits} bits"
            )
        return at

    # --- removal and replacement ----------------------------------------------------------------

    def unregister(self, kind: DeviceType, id: str) -> BusDevice:
        """Take the device out; its window and line are free again."""
        info = self._lookup(kind, id)
        device = self._devices[kind, id]
        # off the bus first: no access may reach a device that has lost its line
        self.bus.remove(info.addr)
        del self._info[kind, id], self._devices[kind, id]
        if self.wiring is not None:
            self.wiring.detach(device)
        return device

    def replace(
        self, kind: DeviceType, id: str, device: BusDevice, irq: bool = False, level: bool = False
    ) -> BusDevice:
        """Put `device` where the one called `id` is; returns the old one. On any error the old
        one is in place and bound as before. irq: it is to have a line, if that one had none."""
        before = info = self._lookup(kind, id)
        if irq and info.irq is None:
            info = DeviceInfo(info.addr, info.len, self._free_irq(info.addr, None, level, False))
        old = self._devices[kind, id]
        if self.wiring is not None:
            self.wiring.detach(old)
            try:
                self.wiring.attach(device, info.addr, info.irq)
            except BaseException as error:  # the device's own code
                self._put_back(kind, id, before, old)
                raise UpdateFailed(f"{id!r}: {text_of(error)}") from error
        self.bus.exchange(old, device)
        self._info[kind, id], self._devices[kind, id] = info, device
        return old

    def _put_back(self, kind: DeviceType, id: str, info: DeviceInfo, old: BusDevice) -> None:
        """Wire the old device again; one that does not want that is gone."""
        assert self.wiring is not None
        try:
            self.wiring.attach(old, info.addr, info.irq)
        except BaseException as error:
            self.bus.remove(info.addr)
            del self._info[kind, id], self._devices[kind, id]
            raise UpdateFailed(
                f"{id!r} is gone: neither the new device nor the old one could be attached"
            ) from error

    def rename(self, kind: DeviceType, id: str, new: str) -> None:
        """The device keeps its place under another id."""
        info = self._lookup(kind, id)
        if (kind, new) in self._info:
            raise UpdateFailed(f"{id!r}: a device of type {kind} has the id {new!r} already")
        device = self._devices.pop((kind, id))
        del self._info[kind, id]
        self._info[kind, new], self._devices[kind, new] = info, device
        self.bus.exchange(device, device, new)

    # --- look-ups -------------------------------------------------------------------------------

    def get_device_info(self) -> dict[tuple[DeviceType, str], DeviceInfo]:
        """Every registered device: what the FDT and the ACPI tables are written from."""
        return dict(self._info)

    def get_device(self, kind: DeviceType, id: str) -> BusDevice | None:
        return self._devices.get((kind, id))

    def _lookup(self, kind: DeviceType, id: str) -> DeviceInfo:
        try:
            return self._info[kind, id]
        except KeyError:
            raise DeviceNotFound(f"{kind} {id!r}") from None

    def add_device_to_cmdline(self, cmdline: Cmdline, base: int, irq: int) -> None:
        """`virtio_mmio.device=4K@0xd0000000:5`, as Linux' virtio_mmio driver reads it."""
        _insert(cmdline, "virtio_mmio.device", f"{MMIO_LEN // 1024}K@0x{base:08x}:{irq}")


def _insert(cmdline: Cmdline, key: str, value: str) -> None:
    try:
        cmdline.insert(key, value)
    except CmdlineError as error:
        raise CmdlineError(f"unable to add device to kernel command line: {error}") from error
