"""The hot-plug controller: what a guest reads of its slots, and what it answers."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from vmlab.core.device import Device
from vmlab.devices.hotplug import ANSWERS, NO_LINE, PRESENT, RELEASED, SLOT_COUNT, HotPlug, Slot
from vmlab.regs import Registers
from vmlab.testing import DeviceHarness, Driver
from vmlab.virtio import Rng

REG = HotPlug.regs
BASE = 0x1_D000_0000


class Thing(Device):
    class regs(Registers):
        """None."""


class Board:
    """The controller, its guest and who plugs things in."""

    def __init__(self) -> None:
        self.controller = HotPlug()
        self.socket = DeviceHarness(self.controller)
        self.released: list[int] = []
        self.controller.on_released(self.released.append)

    def read(self, name: str) -> int:
        row = REG.by_name[name]
        return self.controller.read(row.offset, 4)

    def write(self, name: str, value: int) -> None:
        self.controller.write(REG.by_name[name].offset, 4, value)

    def fill(self, index: int, kind: int = 0, irq: int | None = 5, announce: bool = True) -> Device:
        device = Thing()
        self.controller.fill(
            index, Slot(BASE + 0x1000 * index, 0x1000, irq, kind, device), announce
        )
        return device

    def slot(self, index: int) -> dict[str, int]:
        self.write("SLOT", index)
        names = ("STATE", "BASE_LOW", "BASE_HIGH", "SIZE", "IRQ", "KIND")
        return {name: self.read(name) for name in names}


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.socket.close()


EMPTY = {"STATE": 0, "BASE_LOW": 0, "BASE_HIGH": 0, "SIZE": 0, "IRQ": NO_LINE, "KIND": 0}


# --- registers ----------------------------------------------------------------------------------


def test_what_it_is(board: Board) -> None:
    assert board.read("ID").to_bytes(4, "little") == b"VLHP"
    assert board.read("VERSION") == 1
    assert board.read("SLOTS") == SLOT_COUNT == 64


def test_slots_are_empty_at_first(board: Board) -> None:
    for index in (0, 31, 32, 63):
        assert board.slot(index) == EMPTY
    assert board.read("EVENT_LOW") == board.read("EVENT_HIGH") == 0
    assert board.socket.irq_count == 0


@pytest.mark.parametrize("index", [64, 65, 0x100, 0xFFFF_FFFF])
def test_slots_that_do_not_exist_are_empty(board: Board, index: int) -> None:
    board.fill(0)
    assert board.slot(index) == EMPTY
    board.write("ANSWER", 1)
    assert board.socket.mistakes == [f"an answer for slot {index}, which is empty"]


def test_a_device_in_a_slot(board: Board) -> None:
    board.fill(3, kind=4, irq=8)
    assert board.slot(3) == {
        "STATE": 1,
        "BASE_LOW": 0xD000_3000,
        "BASE_HIGH": 1,
        "SIZE": 0x1000,
        "IRQ": 8,
        "KIND": 4,
    }
    assert board.slot(2) == EMPTY


def test_a_device_without_a_line(board: Board) -> None:
    board.fill(0, irq=None)
    assert board.slot(0)["IRQ"] == NO_LINE
    board.fill(0, irq=0)
    assert board.slot(0)["IRQ"] == 0


def test_acpi_reads_a_byte_a_slot(board: Board) -> None:
    """ACPI 6.5 §6.3.7: present, enabled, shown in the UI, working."""
    board.fill(0)
    board.fill(33)
    read = board.controller.read
    assert [read(0x100 + n, 1) for n in (0, 1, 32, 33, 63)] == [PRESENT, 0, 0, PRESENT, 0]
    assert read(0x120, 4) == PRESENT << 8
    assert read(0x100, 8) == PRESENT
    assert read(0x13F, 1) == 0
    board.controller.ask_removal(0)
    assert read(0x100, 1) == PRESENT
    board.controller.empty(0, announce=False)
    assert read(0x100, 1) == 0
    board.controller.write(0x100, 1, 0)
    assert board.socket.mistakes == ["1 bytes written to STA at 0x0, which only tells"]


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 31, 32, 63])
def test_an_event_is_an_edge_and_a_bit_that_reading_clears(board: Board, index: int) -> None:
    board.fill(index)
    assert board.socket.irq_count == 1
    assert board.controller.peek("EVENT_LOW" if index < 32 else "EVENT_HIGH") == 1 << index % 32
    low, high = board.read("EVENT_LOW"), board.read("EVENT_HIGH")
    assert high << 32 | low == 1 << index
    assert (board.read("EVENT_LOW"), board.read("EVENT_HIGH")) == (0, 0)


def test_events_add_up(board: Board) -> None:
    board.fill(1)
    board.fill(40)
    board.controller.ask_removal(1)
    board.controller.empty(2, announce=True)
    assert board.socket.irq_count == 4
    assert (board.read("EVENT_LOW"), board.read("EVENT_HIGH")) == (6, 1 << 8)


def test_what_is_there_before_the_guest_runs_is_no_event(board: Board) -> None:
    board.fill(0, announce=False)
    board.controller.empty(0, announce=False)
    assert (board.read("EVENT_LOW"), board.socket.irq_count) == (0, 0)


@pytest.mark.parametrize("register", ["EVENT_LOW", "EVENT_HIGH"])
def test_a_guest_that_reads_events_listens(board: Board, register: str) -> None:
    assert not board.controller.watched
    board.controller.peek()
    board.read("STATE")
    assert not board.controller.watched
    board.read(register)
    assert board.controller.watched
    board.controller.reset()
    assert not board.controller.watched


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "state"), ANSWERS.items())
def test_the_guest_tells_how_far_it_is(board: Board, value: int, state: str) -> None:
    device = board.fill(7)
    board.write("SLOT", 7)
    board.write("ANSWER", value)
    assert device.counters.state == state
    assert board.slot(7)["STATE"] == value + 1
    assert board.socket.mistakes == []


@pytest.mark.parametrize("value", [0, 5, 0x100, 0xFFFF_FFFF])
def test_answers_that_mean_nothing(board: Board, value: int) -> None:
    device = board.fill(7)
    board.write("SLOT", 7)
    board.write("ANSWER", value)
    assert device.counters.state == "added"
    assert board.socket.mistakes == [f"an answer of {value:#x}"]


def test_a_removal_that_was_asked_for(board: Board) -> None:
    device = board.fill(7)
    board.write("SLOT", 7)
    board.write("ANSWER", 2)
    board.read("EVENT_LOW")
    board.controller.ask_removal(7)
    assert (device.counters.state, board.slot(7)["STATE"]) == ("removing", 5)
    assert board.read("EVENT_LOW") == 1 << 7
    for value in ANSWERS:  # a driver that was still on its way
        board.write("ANSWER", value)
    assert device.counters.state == "removing"
    assert board.released == []
    board.write("ANSWER", RELEASED)
    assert board.released == [7]
    board.controller.empty(7, announce=False)
    assert board.slot(7) == EMPTY
    assert board.socket.mistakes == []


def test_a_release_that_nobody_asked_for(board: Board) -> None:
    board.fill(7)
    board.write("SLOT", 7)
    board.write("ANSWER", RELEASED)
    assert board.released == []
    assert board.socket.mistakes == ["slot 7 was released and nobody had asked"]


def test_asking_for_an_empty_slot_is_nothing(board: Board) -> None:
    board.controller.ask_removal(7)
    assert (board.read("EVENT_LOW"), board.socket.irq_count) == (0, 0)


def test_a_replaced_device_begins_anew(board: Board) -> None:
    board.fill(7)
    board.write("SLOT", 7)
    board.write("ANSWER", 2)
    board.read("EVENT_LOW")
    edges = board.socket.irq_count
    board.fill(7, announce=False)  # as `vm.replace` does: the guest is not disturbed
    assert board.slot(7)["STATE"] == 1
    assert (board.read("EVENT_LOW"), board.socket.irq_count) == (0, edges)


def test_virtio_devices_know_better_than_the_guests_word(board: Board) -> None:
    with Driver(Rng(), initialise=False) as driver:
        slot = Slot(BASE, 0x1000, 5, 4, driver.transport)
        board.controller.fill(0, slot, announce=True)
        board.write("SLOT", 0)
        board.write("ANSWER", 2)
        assert board.slot(0)["STATE"] == 1
        board.write("ANSWER", 1)
        assert board.slot(0)["STATE"] == 2
        driver.initialise()
        assert board.slot(0)["STATE"] == 3
        for value in ANSWERS:
            board.write("ANSWER", value)
        assert board.slot(0)["STATE"] == 3
        driver.status = 0
        board.write("ANSWER", 3)  # no driver for it
        assert board.slot(0)["STATE"] == 4


# --- the rest -----------------------------------------------------------------------------------


def test_a_reset_forgets_events_and_keeps_devices(board: Board) -> None:
    board.fill(7)
    board.fill(40)
    board.write("SLOT", 7)
    board.controller.reset()
    assert (board.read("SLOT"), board.read("EVENT_LOW"), board.read("EVENT_HIGH")) == (0, 0, 0)
    assert board.slot(7)["STATE"] == board.slot(40)["STATE"] == 1


def test_peek_changes_nothing(board: Board) -> None:
    board.fill(7)
    board.write("SLOT", 7)
    first = board.controller.peek()
    assert first == board.controller.peek()
    assert (first["EVENT_LOW"], first["STATE"], first["BASE_HIGH"]) == (1 << 7, 1, 1)
    assert "ANSWER" not in first
    assert "STA" not in first


@pytest.mark.parametrize("seed", range(5))
def test_no_program_of_accesses_raises(board: Board, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(5000):
        kind = chance.random()
        index = chance.randrange(SLOT_COUNT)
        if kind < 0.05:
            board.fill(index, chance.randrange(3), chance.choice([None, 5]), chance.random() < 0.5)
        elif kind < 0.1:
            board.controller.empty(index, announce=chance.random() < 0.5)
        elif kind < 0.15:
            board.controller.ask_removal(index)
        elif kind < 0.2:
            board.write("SLOT", index)
        elif kind < 0.6:
            value = chance.getrandbits(chance.choice([1, 3, 32]))
            board.controller.write(chance.randrange(0x180), chance.choice([1, 2, 4, 8]), value)
        else:
            board.controller.read(chance.randrange(0x180), chance.choice([1, 2, 4, 8]))
    board.controller.peek()
