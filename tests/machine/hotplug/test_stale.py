"""Windows that drivers hold: nothing else goes there, and they are used again when that can be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmlab.core.manager import DeviceType, MMIODeviceManager
from vmlab.devices.hotplug import RELEASED, HotPlug, Slot
from vmlab.errors import IrqsExhausted, StateError
from vmlab.machine.hotplug.stale import StaleWindows, prepare_surprise_removal
from vmlab.testing import DeviceHarness
from vmlab.virtio import Rng
from vmlab.virtio.mmio import MmioTransport

RNG = DeviceType.virtio(4)
BASE = 0xD000_0000


class Board:
    """A device manager with two lines."""

    def __init__(self) -> None:
        self.hotplug = HotPlug()
        self.hotplug.acpi = True
        self.socket = DeviceHarness(self.hotplug)
        self.manager = MMIODeviceManager(irq_interval=(5, 6))
        self.left = StaleWindows(self.manager, self.hotplug)
        self.devices: dict[str, MmioTransport] = {}

    def add(self, id: str) -> int:
        device = self.devices[id] = MmioTransport(Rng())
        base, irq = self.left.register(device, RNG, id, 0x1000)
        self.hotplug.fill((base - BASE) // 0x1000, Slot(base, 0x1000, irq, 4, device), True)
        return base

    def pull(self, id: str, slot: int) -> None:
        assert self.hotplug.let_go(slot, driven=True)
        self.left.keep(slot, self.devices[id], RNG, id)
        self.hotplug.empty(slot, announce=True)

    def served(self, slot: int) -> None:
        """As the guest's user space does it: the driver resets the device, and it is said."""
        self.hotplug.unbound(slot)
        self.hotplug.write(HotPlug.regs.SLOT.offset, 4, slot)
        self.hotplug.write(HotPlug.regs.ANSWER.offset, 4, RELEASED)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.socket.close()


def test_a_held_window_is_passed_over(board: Board) -> None:
    board.add("a")
    board.pull("a", 0)
    assert [one.name for one in board.manager.bus.ranges] == ["left0"]
    # the guest's user space is asked to unbind the driver
    assert board.hotplug.read(HotPlug.regs.NOTE.offset, 1) == 3
    assert board.add("a") == BASE + 0x1000


def test_one_that_the_guest_has_put_in_order_is_used_again(board: Board) -> None:
    board.add("a")
    board.pull("a", 0)
    board.served(0)
    assert board.socket.mistakes == []
    assert board.add("b") == BASE
    assert [one.name for one in board.manager.bus.ranges] == ["b"]


def test_one_that_was_only_unbound_is_used_when_no_other_is_free(board: Board) -> None:
    board.add("a")
    board.pull("a", 0)
    board.hotplug.unbound(0)
    assert board.add("b") == BASE + 0x1000
    assert board.add("c") == BASE


def test_when_drivers_hold_them_all_it_is_said(board: Board) -> None:
    board.add("a")
    board.add("b")
    for slot, id in enumerate("ab"):
        board.pull(id, slot)
    with pytest.raises(StateError, match=r"hold 2 windows .* \(LNRO0005:00 in /sys/bus"):
        board.add("c")
    board.left.clear()
    board.hotplug.reset()
    assert board.add("c") == BASE


def test_a_device_whose_retirement_fails_goes_all_the_same() -> None:
    class Stubborn(Rng):
        def retire(self) -> str:
            raise OSError("not now")

    device = MmioTransport(Stubborn())
    socket = DeviceHarness(device)
    prepare_surprise_removal(device)
    socket.close()


def test_too_many_devices_are_still_too_many(board: Board) -> None:
    board.add("a")
    board.add("b")
    with pytest.raises(IrqsExhausted):
        board.add("c")
