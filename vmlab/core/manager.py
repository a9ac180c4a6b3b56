"""The MMIO device manager: windows and interrupt lines, given out and taken back.

The contract is krun-vmm's `MMIODeviceManager`: windows of 0x1000 bytes from `mmio_base` up, one
interrupt line each, look-ups by (device type, id). Beyond it: removal, reuse, rollback, and errors
where that one is silent (a duplicate id, an end past the address space).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ClassVar, Protocol

from msgspec import Struct

from vmlab.core.bus import Bus, BusDevice
from vmlab.core.cmdline import Cmdline
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
)

__all__ = ["ARCHES", "MMIO_LEN", "DeviceInfo", "DeviceType", "MMIODeviceManager", "Wiring"]

#: bytes of one window: the virtio-mmio registers and their configuration space
MMIO_LEN = 0x1000


class _Arch(Struct, frozen=True):
    mmio_base: int
    irq_interval: tuple[int, int]
    #: the highest line that the interrupt controller has
    last_irq: int
    #: windows left free below the first device
    skip: int


ARCHES = {
    "x86_64": _Arch(0xD000_0000, (5, 15), last_irq=23, skip=0),
    "arm64": _Arch(0xD000_0000, (32, 159), last_irq=1019, skip=1),
}


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
    give out, both included; on x86_64 up to 23, the IOAPIC's last. None: the architecture's usual.
    mmio_end: windows end below this address, where something else begins.
    """

    def __init__(
        self,
        mmio_base: int | None = None,
        irq_interval: tuple[int, int] | None = None,
        arch: str = "x86_64",
        bus: Bus | None = None,
        wiring: Wiring | None = None,
        mmio_end: int | None = None,
    ) -> None:
        if arch not in ARCHES:
            raise ConfigError(
                f"unknown architecture {arch!r}; vmlab knows {', '.join(sorted(ARCHES))}"
            )
        usual = ARCHES[arch]
        first, last = usual.irq_interval if irq_interval is None else irq_interval
        if not 0 <= first <= last <= usual.last_irq:
            raise ConfigError(
                f"interrupt lines {first}..={last} do not fit 0..={usual.last_irq} of {arch}"
            )
        start = usual.mmio_base if mmio_base is None else mmio_base
        if start < 0 or start % MMIO_LEN:
            raise ConfigError(
                f"the MMIO base {start:#x} is not aligned to a window of {MMIO_LEN:#x} bytes"
            )
        self.arch = arch
        self.mmio_base = start + usual.skip * MMIO_LEN
        self.irq_interval = (first, last)
        self.bus = Bus() if bus is None else bus
        self.wiring = wiring
        self.mmio_end = self.bus.limit if mmio_end is None else mmio_end
        #: give a window the line of its own number where that one is free: a guest may keep to the line that
        #: a window once had
        self.paired = False
        self._info: dict[tuple[DeviceType, str], DeviceInfo] = {}
        self._devices: dict[tuple[DeviceType, str], BusDevice] = {}

    # --- registration ---------------------------------------------------------------------------

    def register_mmio_device(self, device: BusDevice, type_id: int, id: str) -> tuple[int, int]:
        """Give a virtio device (`type_id` as virtio 1.2 §5 numbers them) a window and a line.

        Returns (base, irq). On any error nothing has changed."""
        base, irq = self._register(device, DeviceType.virtio(type_id), id)
        assert irq is not None
        return base, irq

    def register_device(
        self,
        device: BusDevice,
        kind: DeviceType,
        id: str,
        size: int = MMIO_LEN,
        irq: bool = True,
    ) -> tuple[int, int | None]:
        """The same for any kind, for windows of several pages, and for devices without a line."""
        return self._register(device, kind, id, size, irq)

    def register_mmio_serial(
        self, serial: BusDevice, cmdline: Cmdline | None = None
    ) -> tuple[int, int]:
        """The arm64 console (PL011); `cmdline` gets its earlycon."""

        def announce(base: int) -> None:
            if cmdline is not None:
                _insert(cmdline, "earlycon", f"pl011,mmio32,0x{base:08x}")

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
        base, irq = self._register(gpio, DeviceType.GPIO, "gpio")
        assert irq is not None
        return base, irq

    def register_mmio_gic(self, gic: BusDevice | None, base: int = 0, size: int = 0) -> None:
        """A GIC in user space at its own address; None when the engine has one inside."""
        self._register_controller(gic, "gic", base, size)

    def register_mmio_ioapic(
        self, ioapic: BusDevice | None, base: int = 0xFEC0_0000, size: int = MMIO_LEN
    ) -> None:
        """An IOAPIC in user space at its own address; None when the engine has one inside."""
        self._register_controller(ioapic, "ioapic", base, size)

    def _register_controller(
        self, device: BusDevice | None, name: str, base: int, size: int
    ) -> None:
        if device is not None:
            base = base or getattr(device, "base", 0)
            size = size or getattr(device, "size", 0)
            self._insert(base, size, device, name)

    def _register(
        self,
        device: BusDevice,
        kind: DeviceType,
        id: str,
        size: int = MMIO_LEN,
        wants_irq: bool = True,
        after: Callable[[int], None] | None = None,
    ) -> tuple[int, int | None]:
        if (kind, id) in self._info:
            raise CreateMmioTransport(f"{id!r}: a device of type {kind} has that id already")
        if size <= 0 or size % MMIO_LEN:
            raise CreateMmioTransport(
                f"{id!r}: {size:#x} bytes are not whole windows of {MMIO_LEN:#x}"
            )
        base = self._free_window(size)
        irq = self._free_irq(base) if wants_irq else None
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
        return base, irq

    def _insert(self, base: int, size: int, device: BusDevice, name: str) -> None:
        try:
            self.bus.insert(base, size, device, name=name)
        except BusOverlap as error:
            raise BusOverlap(error.detail, through="failed to perform bus operation: ") from error

    def _free_irq(self, base: int) -> int:
        taken = {info.irq for info in self._info.values()}
        first, last = self.irq_interval
        own = first + (base - self.mmio_base) // MMIO_LEN
        if self.paired and own <= last and own not in taken:
            return own
        for irq in range(first, last + 1):
            if irq not in taken:
                return irq
        raise IrqsExhausted

    @property
    def next_window(self) -> int:
        """The address that a device of one window would get."""
        return self._free_window(MMIO_LEN)

    def _free_window(self, size: int) -> int:
        """The lowest free address, among the windows that this manager gave out itself."""
        base = self.mmio_base
        for info in sorted(self._info.values(), key=lambda one: one.addr):
            if base + size <= info.addr:
                break
            base = max(base, info.addr + info.len)
        if base + size > self.bus.limit:
            raise BusError(f"the window [{base:#x}, {base + size:#x}) ends past the address space")
        if base + size > self.mmio_end:
            raise BusError(
                f"the window [{base:#x}, {base + size:#x}) does not end below {self.mmio_end:#x}"
            )
        return base

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

    def replace(self, kind: DeviceType, id: str, device: BusDevice) -> BusDevice:
        """Put `device` where the one called `id` is; returns the old one. On any error the old
        one is in place and bound as before."""
        info = self._lookup(kind, id)
        old = self._devices[kind, id]
        if self.wiring is not None:
            self.wiring.detach(old)
            try:
                self.wiring.attach(device, info.addr, info.irq)
            except BaseException as error:  # the device's own code
                self._put_back(kind, id, info, old)
                raise UpdateFailed(f"{id!r}: {text_of(error)}") from error
        self.bus.exchange(old, device)
        self._devices[kind, id] = device
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
