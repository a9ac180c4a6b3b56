"""The MMIO device manager's contract: krun-vmm's numbers, names and texts, and what goes beyond."""

from __future__ import annotations

from typing import Any

import pytest

from vmlab.core.bus import Bus
from vmlab.core.cmdline import Cmdline
from vmlab.core.manager import MMIO_LEN, DeviceInfo, DeviceType, MMIODeviceManager
from vmlab.errors import (
    BusError,
    BusOverlap,
    CmdlineError,
    ConfigError,
    CreateMmioTransport,
    DeviceNotFound,
    EventFdError,
    IrqsExhausted,
    ManagerError,
    RegisterIoEvent,
    RegisterIrqFd,
    UpdateFailed,
    VhostUserDevice,
    VmlabError,
)

BASE = 0xD000_0000
NET, BLOCK, RNG = 1, 2, 4


class Dummy:
    """The simplest device: reads as `tag`."""

    def __init__(self, tag: int = 0) -> None:
        self.tag = tag
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return self.tag

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, size, value))


class RecordingWiring:
    """Binds devices on paper, and fails where it is told to."""

    def __init__(self) -> None:
        self.bound: dict[int, tuple[int, int | None]] = {}
        self.refuse: list[object] = []
        self.error: Exception = RegisterIrqFd("GSI 5: refused")

    def attach(self, device: Any, base: int, irq: int | None) -> None:
        if device in self.refuse:
            raise self.error
        assert id(device) not in self.bound, "bound twice"
        self.bound[id(device)] = (base, irq)

    def detach(self, device: Any) -> None:
        del self.bound[id(device)]


def nothing_changed(manager: MMIODeviceManager) -> bool:
    return not manager.get_device_info() and not manager.bus.ranges


# --- kept exactly ---------------------------------------------------------------------------------


def test_the_first_device() -> None:
    manager, device = MMIODeviceManager(), Dummy(0x74)
    assert manager.register_mmio_device(device, RNG, "rng0") == (BASE, 5)
    info = manager.get_device_info()[DeviceType.virtio(RNG), "rng0"]
    assert info == DeviceInfo(BASE, MMIO_LEN, 5)
    assert (info.addr, info.len, info.irq) == (BASE, 0x1000, 5)
    assert manager.get_device(DeviceType.virtio(RNG), "rng0") is device
    assert manager.get_device(DeviceType.virtio(RNG), "rng1") is None
    assert manager.get_device(DeviceType.virtio(NET), "rng0") is None
    assert manager.bus.read(BASE + 8, 4) == 0x74
    manager.bus.write(BASE + 0x50, 4, 1)
    assert device.written == [(0x50, 4, 1)]


def test_eleven_devices_then_no_more_irqs() -> None:
    manager = MMIODeviceManager()
    given = [manager.register_mmio_device(Dummy(), BLOCK, f"disk{n}") for n in range(11)]
    assert given == [(BASE + n * MMIO_LEN, 5 + n) for n in range(11)]
    before = manager.get_device_info()
    with pytest.raises(IrqsExhausted) as caught:
        manager.register_mmio_device(Dummy(), BLOCK, "disk11")
    assert str(caught.value) == "no more IRQs are available"
    assert manager.get_device_info() == before
    assert len(manager.bus.ranges) == 11


def test_lines_up_to_23_when_asked() -> None:
    manager = MMIODeviceManager(irq_interval=(5, 23))
    irqs = [manager.register_mmio_device(Dummy(), NET, str(n))[1] for n in range(19)]
    assert irqs == list(range(5, 24))
    with pytest.raises(IrqsExhausted):
        manager.register_mmio_device(Dummy(), NET, "19")


def test_one_line_is_enough_for_one_device() -> None:
    manager = MMIODeviceManager(mmio_base=0xC000_0000, irq_interval=(9, 9))
    assert manager.register_mmio_device(Dummy(), NET, "a") == (0xC000_0000, 9)
    with pytest.raises(IrqsExhausted):
        manager.register_mmio_device(Dummy(), NET, "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"arch": "sparc"},
            "unknown architecture 'sparc'; vmlab knows arm64, riscv32, riscv64, x86_64",
        ),
        ({"irq_interval": (0, 1024), "arch": "riscv64"}, "do not fit 0..=1023 of riscv64"),
        ({"irq_interval": (5, 24)}, "do not fit 0..=23 of x86_64"),
        ({"irq_interval": (6, 5)}, "do not fit"),
        ({"irq_interval": (-1, 5)}, "do not fit"),
        ({"irq_interval": (32, 1020), "arch": "arm64"}, "do not fit 0..=1019 of arm64"),
        ({"mmio_base": 0xD000_0800}, "not aligned"),
        ({"mmio_base": -0x1000}, "not aligned"),
    ],
)
def test_managers_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MMIODeviceManager(**options)


def test_arm64_starts_a_window_higher_and_at_line_32() -> None:
    manager = MMIODeviceManager(arch="arm64")
    given = [manager.register_mmio_device(Dummy(), NET, str(n)) for n in range(128)]
    assert given[0] == (0x0A00_1000, 32)
    assert given[-1] == (0x0A00_0000 + 128 * MMIO_LEN, 159)
    with pytest.raises(IrqsExhausted):
        manager.register_mmio_device(Dummy(), NET, "128")


def test_arm64_fixed_devices() -> None:
    manager, cmdline = MMIODeviceManager(arch="arm64"), Cmdline()
    assert manager.register_mmio_serial(Dummy(), cmdline) == (0x0A00_1000, 32)
    assert manager.register_mmio_rtc(Dummy()) == (0x0A00_2000, 33)
    assert manager.register_mmio_gpio(Dummy()) == (0x0A00_3000, 34)
    assert str(cmdline) == "earlycon=pl011,mmio32,0x0a001000"
    assert manager.get_device(DeviceType.GPIO, "Gpio") is not None
    assert {str(kind) for kind, _ in manager.get_device_info()} == {"Serial", "RTC", "Gpio"}
    with pytest.raises(CreateMmioTransport):
        manager.register_mmio_rtc(Dummy())


def test_riscv64_has_1024_lines_and_a_16550() -> None:
    manager, cmdline = MMIODeviceManager(arch="riscv64"), Cmdline()
    assert manager.register_mmio_serial(Dummy(), cmdline) == (0x0A00_0000, 0)
    assert str(cmdline) == "earlycon=uart,mmio,0x0a000000"
    assert manager.irq_interval == (0, 1023)
    last = MMIODeviceManager(arch="riscv64", irq_interval=(1022, 1023))
    given = [last.register_mmio_device(Dummy(), NET, str(n)) for n in range(2)]
    assert given[-1] == (0x0A00_1000, 1023)
    with pytest.raises(IrqsExhausted):
        last.register_mmio_device(Dummy(), NET, "2")


def test_interrupt_controllers_have_their_own_address_and_no_line() -> None:
    manager = MMIODeviceManager()
    manager.register_mmio_ioapic(Dummy(7))
    assert manager.bus.read(0xFEC0_0000, 4) == 7
    manager.register_mmio_gic(Dummy(8), 0x800_0000, 0x2_0000)
    assert manager.bus.read(0x801_FFFC, 4) == 8
    assert manager.get_device_info() == {}
    assert manager.register_mmio_device(Dummy(), NET, "n") == (BASE, 5)


def test_a_controller_inside_the_engine_is_not_on_the_bus() -> None:
    manager = MMIODeviceManager()
    manager.register_mmio_ioapic(None)
    manager.register_mmio_gic(None)
    manager.register_mmio_gic(Dummy(), 0x800_0000)
    assert nothing_changed(manager)


def test_a_controller_may_know_its_place() -> None:
    class Gic(Dummy):
        base, size = 0x3FFF_D000, 0x2000

    manager = MMIODeviceManager(arch="arm64")
    manager.register_mmio_gic(Gic(4))
    assert manager.bus.read(0x3FFF_E000, 4) == 4


def test_the_kernel_command_line() -> None:
    manager, cmdline = MMIODeviceManager(), Cmdline(4096, "console=ttyS0")
    base, irq = manager.register_mmio_device(Dummy(), RNG, "rng")
    manager.add_device_to_cmdline(cmdline, base, irq)
    assert str(cmdline) == "console=ttyS0 virtio_mmio.device=4K@0xd0000000:5"


def test_a_command_line_without_room() -> None:
    with pytest.raises(CmdlineError) as caught:
        MMIODeviceManager().add_device_to_cmdline(Cmdline(10), BASE, 5)
    assert str(caught.value) == (
        "unable to add device to kernel command line: "
        "Command line inserting string would make command line too long"
    )


def test_device_types() -> None:
    assert DeviceType.virtio(4) == DeviceType.virtio(4)
    assert DeviceType.virtio(4) != DeviceType.virtio(1)
    assert str(DeviceType.virtio(4)) == "Virtio(4)"
    kinds = {DeviceType.SERIAL, DeviceType.RTC, DeviceType.GPIO, DeviceType.USER}
    assert len(kinds) == 4


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CreateMmioTransport("e"), "failed to create mmio transport for the device e"),
        (BusError("e"), "failed to perform bus operation: e"),
        (BusOverlap(), "New device overlaps with an old device."),
        (EventFdError("e"), "failed to create or clone event descriptor: e"),
        (IrqsExhausted(), "no more IRQs are available"),
        (RegisterIoEvent("e"), "failed to register IO event: e"),
        (VhostUserDevice("e"), "failed to create vhost-user device: e"),
        (RegisterIrqFd("e"), "failed to register irqfd: e"),
        (DeviceNotFound(), "the device couldn't be found"),
        (UpdateFailed(), "failed to update the mmio device"),
        (DeviceNotFound("Virtio(4) 'x'"), "the device couldn't be found: Virtio(4) 'x'"),
    ],
)
def test_error_texts(error: Exception, text: str) -> None:
    assert str(error) == text
    assert isinstance(error, ManagerError)
    assert isinstance(error, VmlabError)


# --- errors that change nothing -------------------------------------------------------------------


def test_a_duplicate_id_is_an_error_and_leaves_the_first_alone() -> None:
    manager, first = MMIODeviceManager(), Dummy(1)
    manager.register_mmio_device(first, BLOCK, "disk")
    with pytest.raises(
        CreateMmioTransport, match=r"^failed to create mmio transport.*'disk'.*already"
    ):
        manager.register_mmio_device(Dummy(2), BLOCK, "disk")
    assert manager.get_device(DeviceType.virtio(BLOCK), "disk") is first
    assert len(manager.bus.ranges) == 1
    assert manager.register_mmio_device(Dummy(), NET, "disk") == (BASE + MMIO_LEN, 6), "other type"


def test_a_window_past_the_address_space() -> None:
    manager = MMIODeviceManager(mmio_base=(1 << 64) - MMIO_LEN)
    assert manager.register_mmio_device(Dummy(), NET, "last")[0] == (1 << 64) - MMIO_LEN
    with pytest.raises(
        BusError, match=r"^failed to perform bus operation: .*past the address space"
    ):
        manager.register_mmio_device(Dummy(), NET, "one too many")
    assert len(manager.bus.ranges) == len(manager.get_device_info()) == 1
    big = MMIODeviceManager(mmio_base=(1 << 64) - MMIO_LEN)
    with pytest.raises(BusError):
        big.register_device(Dummy(), DeviceType.USER, "wide", size=2 * MMIO_LEN)
    assert nothing_changed(big)


@pytest.mark.parametrize("size", [0, -MMIO_LEN, 0x800, MMIO_LEN + 1])
def test_a_window_is_whole_pages(size: int) -> None:
    manager = MMIODeviceManager()
    with pytest.raises(CreateMmioTransport, match="not whole windows"):
        manager.register_device(Dummy(), DeviceType.USER, "x", size=size)
    assert nothing_changed(manager)


def test_an_overlap_on_the_bus() -> None:
    bus = Bus()
    bus.insert(BASE + 0x10, 4, Dummy(), name="squatter")
    manager = MMIODeviceManager(bus=bus)
    with pytest.raises(BusOverlap) as caught:
        manager.register_mmio_device(Dummy(), NET, "n")
    assert str(caught.value).startswith(
        "failed to perform bus operation: New device overlaps with an old device."
    )
    assert "squatter" in str(caught.value)
    assert "0xd0000000-0xd0000fff" in str(caught.value)
    assert manager.get_device_info() == {}
    bus.remove(BASE + 0x10)
    assert manager.register_mmio_device(Dummy(), NET, "n") == (BASE, 5)


@pytest.mark.parametrize(
    "error",
    [
        RegisterIrqFd("x"),
        RegisterIoEvent("x"),
        EventFdError("x"),
        CreateMmioTransport("x"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_rollback_when_the_wiring_refuses(error: Exception) -> None:
    wiring, device = RecordingWiring(), Dummy()
    manager = MMIODeviceManager(wiring=wiring)
    wiring.refuse, wiring.error = [device], error
    with pytest.raises(type(error)):
        manager.register_mmio_device(device, NET, "n")
    assert nothing_changed(manager)
    assert not wiring.bound
    wiring.refuse = []
    assert manager.register_mmio_device(device, NET, "n") == (BASE, 5)
    assert wiring.bound == {id(device): (BASE, 5)}


def test_rollback_when_the_command_line_is_full() -> None:
    wiring = RecordingWiring()
    manager = MMIODeviceManager(arch="arm64", wiring=wiring)
    with pytest.raises(CmdlineError, match=r"^unable to add device to kernel command line: "):
        manager.register_mmio_serial(Dummy(), Cmdline(4))
    assert nothing_changed(manager)
    assert not wiring.bound
    assert manager.register_mmio_serial(Dummy(), Cmdline(100)) == (0x0A00_1000, 32)


# --- removal, reuse, replacement ------------------------------------------------------------------


def test_a_window_and_a_line_are_reused() -> None:
    manager, wiring = MMIODeviceManager(), RecordingWiring()
    manager.wiring = wiring
    devices = [Dummy(n) for n in range(4)]
    for n, device in enumerate(devices):
        manager.register_mmio_device(device, NET, f"n{n}")
    assert manager.unregister(DeviceType.virtio(NET), "n1") is devices[1]
    assert manager.bus.read(BASE + 0x1000, 1) == 0xFF
    assert id(devices[1]) not in wiring.bound
    assert manager.register_mmio_device(Dummy(9), NET, "new") == (BASE + 0x1000, 6)
    assert manager.register_mmio_device(Dummy(9), NET, "n1") == (BASE + 0x4000, 9)


def test_a_hundred_rounds_of_eleven_devices() -> None:
    manager = MMIODeviceManager()
    for _ in range(100):
        for n in range(11):
            assert manager.register_mmio_device(Dummy(), NET, str(n)) == (BASE + n * 0x1000, 5 + n)
        for n in range(11):
            manager.unregister(DeviceType.virtio(NET), str(n))
    assert nothing_changed(manager)


def test_wide_windows_fit_where_there_is_room() -> None:
    manager = MMIODeviceManager()
    for name in "abc":
        manager.register_mmio_device(Dummy(), NET, name)
    manager.unregister(DeviceType.virtio(NET), "b")
    wide = manager.register_device(Dummy(), DeviceType.USER, "wide", size=2 * MMIO_LEN)
    assert wide == (BASE + 3 * MMIO_LEN, 6), "too wide for the gap, but its line is free"
    slim = manager.register_device(Dummy(), DeviceType.USER, "slim", irq=False)
    assert slim == (BASE + MMIO_LEN, None)


def test_devices_without_a_line_need_none() -> None:
    manager = MMIODeviceManager(irq_interval=(5, 5))
    manager.register_mmio_device(Dummy(), NET, "n")
    assert manager.register_device(Dummy(), DeviceType.USER, "u", irq=False) == (
        BASE + 0x1000,
        None,
    )


def test_removing_what_is_not_there() -> None:
    manager = MMIODeviceManager()
    with pytest.raises(DeviceNotFound, match=r"^the device couldn't be found: Virtio\(4\) 'x'"):
        manager.unregister(DeviceType.virtio(4), "x")
    manager.register_mmio_device(Dummy(), 4, "x")
    manager.unregister(DeviceType.virtio(4), "x")
    with pytest.raises(DeviceNotFound):
        manager.unregister(DeviceType.virtio(4), "x")


def test_a_device_that_cannot_say_goodbye_is_gone_all_the_same() -> None:
    class Clinging(RecordingWiring):
        def detach(self, device: Any) -> None:
            super().detach(device)
            raise RuntimeError("not so fast")

    manager = MMIODeviceManager(wiring=Clinging())
    manager.register_mmio_device(Dummy(), NET, "n")
    with pytest.raises(RuntimeError):
        manager.unregister(DeviceType.virtio(NET), "n")
    assert nothing_changed(manager)
    assert manager.register_mmio_device(Dummy(), NET, "n") == (BASE, 5)


def test_replacement_keeps_the_place() -> None:
    wiring = RecordingWiring()
    manager = MMIODeviceManager(wiring=wiring)
    old, new = Dummy(1), Dummy(2)
    manager.register_mmio_device(old, NET, "n")
    info = manager.get_device_info()
    assert manager.replace(DeviceType.virtio(NET), "n", new) is old
    assert manager.get_device_info() == info
    assert manager.get_device(DeviceType.virtio(NET), "n") is new
    assert manager.bus.read(BASE, 1) == 2
    assert wiring.bound == {id(new): (BASE, 5)}


def test_a_replacement_that_fails_leaves_the_old_one_bound() -> None:
    wiring = RecordingWiring()
    manager = MMIODeviceManager(wiring=wiring)
    old, new = Dummy(1), Dummy(2)
    manager.register_mmio_device(old, NET, "n")
    wiring.refuse = [new]
    with pytest.raises(UpdateFailed, match=r"^failed to update the mmio device: 'n': .*refused"):
        manager.replace(DeviceType.virtio(NET), "n", new)
    assert manager.get_device(DeviceType.virtio(NET), "n") is old
    assert manager.bus.read(BASE, 1) == 1
    assert wiring.bound == {id(old): (BASE, 5)}
    with pytest.raises(DeviceNotFound):
        manager.replace(DeviceType.virtio(NET), "other", new)


def test_the_map_that_is_handed_out_is_a_copy() -> None:
    manager = MMIODeviceManager()
    manager.get_device_info()[DeviceType.USER, "x"] = DeviceInfo(0, 0, None)
    assert manager.get_device_info() == {}


def test_a_device_takes_another_id_and_stays_where_it_is() -> None:
    wiring = RecordingWiring()
    manager = MMIODeviceManager(wiring=wiring)
    device, kind = Dummy(1), DeviceType.virtio(NET)
    manager.register_mmio_device(device, NET, "n")
    manager.rename(kind, "n", "m")
    assert manager.get_device(kind, "n") is None
    assert manager.get_device(kind, "m") is device
    assert [one.name for one in manager.bus.ranges] == ["m"]
    assert wiring.bound == {id(device): (BASE, 5)}
    manager.register_mmio_device(Dummy(2), NET, "n")
    with pytest.raises(UpdateFailed, match="has the id 'm' already"):
        manager.rename(kind, "n", "m")
    assert manager.unregister(kind, "m") is device
