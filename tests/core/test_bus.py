"""The bus: who answers where, while devices come and go."""

from __future__ import annotations

import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab.core import bus as bus_module
from vmlab.core.bus import Bus, BusRange, Fault
from vmlab.core.counters import UNMAPPED_READS, UNMAPPED_WRITES, CounterPage
from vmlab.errors import BusError, BusOverlap


class Echo:
    """Reads as `tag`, remembers what was asked."""

    def __init__(self, tag: int = 0) -> None:
        self.tag = tag
        self.seen: list[tuple[int, int, int | None]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size, None))
        return self.tag

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))


class Broken:
    """Raises until it is repaired."""

    broken = True

    def read(self, offset: int, size: int) -> int:
        if self.broken:
            raise ValueError("broken")
        return 5

    def write(self, offset: int, size: int, value: int) -> None:
        self.read(offset, size)


# --- the map --------------------------------------------------------------------------------------

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=12)


@settings(deadline=None)
@given(RANGES)
def test_overlaps_as_byte_by_byte(ranges: list[tuple[int, int]]) -> None:
    bus, owner = Bus(bits=6), {}  # type: ignore[var-annotated]
    for tag, (start, size) in enumerate(ranges):
        wanted = range(start, start + size)
        if any(at in owner for at in wanted):
            with pytest.raises(BusOverlap):
                bus.insert(start, size, Echo(tag))
        else:
            bus.insert(start, size, Echo(tag))
            owner |= dict.fromkeys(wanted, tag)
    for at in range(64):
        assert bus.read(at, 1) == owner.get(at, 0xFF)
        found = bus.find(at)
        assert (found is not None) == (at in owner)
    starts = [one.start for one in bus.ranges]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("start", "size"), [(-1, 2), (-8, 4), (0xFFFF, 2), (0x1_0000, 1), (0, 0x1_0001)]
)
def test_a_range_must_lie_in_the_space(start: int, size: int) -> None:
    with pytest.raises(BusError, match="does not fit the port space"):
        Bus("port", bits=16).insert(start, size, Echo())


def test_the_last_byte_of_the_space_can_be_taken() -> None:
    bus = Bus()
    bus.insert((1 << 64) - 0x1000, 0x1000, Echo(3))
    assert bus.read((1 << 64) - 1, 1) == 3
    assert bus.read((1 << 64) - 1, 4) == 0xFFFF_FFFF, "not past the end"


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_range_holds_nothing(size: int) -> None:
    with pytest.raises(BusOverlap, match=r"^New device overlaps with an old device\."):
        Bus().insert(0x1000, size, Echo())


def test_an_overlap_names_both_ranges() -> None:
    bus = Bus()
    bus.insert(0xD000_0000, 0x1000, Echo(), name="first")
    with pytest.raises(BusOverlap) as caught:
        bus.insert(0xD000_0800, 0x1000, Echo())
    assert str(caught.value) == (
        "New device overlaps with an old device."
        " 0xd0000800-0xd00017ff meets first at 0xd0000000-0xd0000fff"
    )


def test_removal() -> None:
    bus = Bus()
    bus.insert(0, 8, Echo(1))
    bus.insert(8, 8, Echo(2))
    bus.remove(0)
    assert (bus.read(0, 1), bus.read(8, 1)) == (0xFF, 2)
    bus.insert(0, 8, Echo(3))
    assert bus.read(0, 1) == 3
    with pytest.raises(BusError, match="no device starts at 0x4"):
        bus.remove(4)


def test_offsets_are_the_devices_own() -> None:
    bus, echo = Bus("port", 16), Echo(9)
    bus.insert(0x60, 1, echo)
    bus.insert(0x64, 1, echo, offset=4)
    bus.read(0x60, 1)
    bus.write(0x64, 1, 0xFE)
    assert echo.seen == [(0, 1, None), (4, 1, 0xFE)]


def test_exchange_keeps_every_range_of_the_device() -> None:
    bus, old, new = Bus("port", 16), Echo(1), Echo(2)
    bus.insert(0x60, 1, old, name="keyboard")
    bus.insert(0x64, 1, old, offset=4, name="keyboard")
    bus.insert(0x70, 2, Echo(7))
    bus.exchange(old, new)
    assert (bus.read(0x60, 1), bus.read(0x64, 1), bus.read(0x70, 1)) == (2, 2, 7)
    assert new.seen[1][0] == 4
    assert bus.ranges[1] == BusRange(0x64, 1, new, 4, "keyboard")


def test_an_access_across_a_border_hits_nothing() -> None:
    bus = Bus()
    bus.insert(0, 8, Echo(1))
    bus.insert(8, 8, Echo(2))
    assert bus.read(6, 4) == 0xFFFF_FFFF
    bus.write(15, 2, 0)
    assert bus.unmapped == {6: [1, 0], 15: [0, 1]}


# --- holes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_holes_read_all_ones(size: int) -> None:
    assert Bus().read(0x5000, size) == (1 << 8 * size) - 1


def test_holes_are_counted_by_address_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "UNMAPPED_LIMIT", 4)
    page = CounterPage()
    bus = Bus(page=page)
    for address in range(10):
        bus.read(address, 1)
        bus.write(address, 1, 0)
    bus.read(2, 1)
    assert bus.unmapped == {0: [1, 1], 1: [1, 1], 2: [2, 1], 3: [1, 1], None: [6, 6]}
    assert (page.words[UNMAPPED_READS], page.words[UNMAPPED_WRITES]) == (11, 10)


def test_no_miss_is_lost_between_threads() -> None:
    bus = Bus()

    def sweep() -> None:
        for _ in range(5_000):
            bus.read(0x1000, 4)

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert bus.unmapped == {0x1000: [20_000, 0]}


def test_the_map_changes_under_running_threads() -> None:
    """An access sees the map before a change or after it, never between."""
    bus, stop, wrong = Bus(), threading.Event(), []
    bus.insert(0, 0x10, Echo(1))

    def access() -> None:
        while not stop.is_set():
            if bus.read(0x4, 1) != 1:
                wrong.append("the device that stayed did not answer")
            if (value := bus.read(0x24, 1)) not in (2, 0xFF):
                wrong.append(f"{value:#x} from the one that comes and goes")

    threads = [threading.Thread(target=access) for _ in range(3)]
    for one in threads:
        one.start()
    for _ in range(500):
        bus.insert(0x20, 0x10, Echo(2))
        bus.remove(0x20)
    stop.set()
    for one in threads:
        one.join()
    assert not wrong


def test_two_threads_may_change_the_map() -> None:
    bus = Bus()

    def change(base: int) -> None:
        for step in range(200):
            bus.insert(base + step, 1, Echo(step))

    threads = [threading.Thread(target=change, args=(base,)) for base in (0, 0x1000, 0x2000)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(bus.ranges) == 600


# --- devices that fail ----------------------------------------------------------------------------


def test_without_a_handler_the_caller_gets_the_error() -> None:
    bus = Bus()
    bus.insert(0x1000, 8, Broken(), name="dice")
    with pytest.raises(
        BusError, match=r"failed to perform bus operation: dice at 0x1004: .*broken"
    ):
        bus.read(0x1004, 4)
    with pytest.raises(BusError) as caught:
        bus.write(0x1004, 4, 1)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failed_access_is_tried_again() -> None:
    bus, device, faults = Bus(), Broken(), []
    bus.insert(0x1000, 8, device)

    def repair(fault: Fault) -> bool:
        faults.append((fault.address, fault.size, fault.value, str(fault.error)))
        if len(faults) == 3:
            device.broken = False
        return True

    bus.on_fault = repair
    assert bus.read(0x1004, 4) == 5
    assert faults == [(0x1004, 4, None, "broken")] * 3


def test_the_device_may_be_replaced_meanwhile() -> None:
    bus, old, new = Bus(), Broken(), Echo(7)
    bus.insert(0x1000, 8, old, offset=0x10)

    def replace(fault: Fault) -> bool:
        bus.exchange(old, new)
        return True

    bus.on_fault = replace
    bus.write(0x1004, 4, 0x55)
    assert new.seen == [(0x14, 4, 0x55)]


def test_the_device_may_be_gone_meanwhile() -> None:
    bus = Bus()
    bus.insert(0x1000, 8, Broken())

    def remove(fault: Fault) -> bool:
        bus.remove(0x1000)
        return True

    bus.on_fault = remove
    assert bus.read(0x1004, 2) == 0xFFFF
    assert bus.unmapped == {0x1004: [1, 0]}


def test_giving_up() -> None:
    bus = Bus()
    bus.insert(0x1000, 8, Broken())
    bus.on_fault = lambda fault: False
    assert bus.read(0x1004, 2) == 0xFFFF
    bus.write(0x1004, 2, 1)
    assert bus.unmapped == {}


# --- observers ------------------------------------------------------------------------------------


def test_observing_costs_nothing_when_off() -> None:
    bus = Bus()
    plain = bus.read
    bus.observe(lambda *access: None)
    assert bus.read != plain
    bus.observe(None)
    assert bus.read == plain
    assert bus.read == bus._read


def test_an_observer_sees_each_access() -> None:
    bus, seen = Bus(), []
    one = bus.insert(0x1000, 8, Echo(3))
    bus.observe(lambda *access: seen.append(access))
    bus.read(0x1002, 2)
    bus.write(0x1004, 4, 0x55)
    bus.read(0x9000, 1)
    bus.observe(None)
    bus.read(0x1000, 1)
    assert seen == [
        (one, 0x1002, 2, 3, False),
        (one, 0x1004, 4, 0x55, True),
        (None, 0x9000, 1, 0xFF, False),
    ]


def test_an_observer_that_raises_is_taken_off(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus("port")
    bus.insert(0, 8, Echo(3))

    def faulty(*access: object) -> None:
        raise RuntimeError("the observer's own")

    bus.observe(faulty)
    with caplog.at_level(logging.ERROR):
        assert bus.read(0, 1) == 3
        assert bus.read(0, 1) == 3
    assert len(caplog.records) == 1
    assert "port bus" in caplog.text


def test_a_deaf_bus_stays_deaf() -> None:
    bus, echo = Bus(), Echo(3)
    bus.insert(0, 8, echo)
    bus.observe(lambda *access: None)
    bus.mute()
    bus.observe(None)
    bus.observe(lambda *access: pytest.fail("observed"))
    assert bus.read(0, 2) == 0xFFFF
    bus.write(0, 2, 1)
    bus.read(0x1000, 1)
    assert echo.seen == []
    assert bus.unmapped == {}


def test_a_bus_hears_again() -> None:
    bus, echo = Bus(), Echo(3)
    bus.insert(0, 8, echo)
    bus.mute()
    bus.unmute()
    assert bus.read(0, 2) == 3
    seen: list[object] = []
    bus.observe(lambda *access: seen.append(access))
    bus.read(0, 2)
    assert len(seen) == 1


@pytest.mark.parametrize("write", [False, True])
def test_a_failure_after_a_repair_does_not_come_from_the_old_one(write: bool) -> None:
    class Failing:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def read(self, offset: int, size: int) -> int:
            raise self.error

        def write(self, offset: int, size: int, value: int) -> None:
            raise self.error

    errors = [ValueError("new"), LookupError("newest")]
    bus, device, seen = Bus(), Failing(KeyError("old")), []

    def repair(fault: Fault) -> bool:
        seen.append((fault.error, fault.error.__context__))
        if not errors:
            return False
        device.error = errors.pop(0)
        return True

    bus.insert(0, 4, device)
    bus.on_fault = repair
    if write:
        bus.write(0, 4, 1)
    else:
        assert bus.read(0, 4) == 0xFFFF_FFFF
    assert [(type(error), context) for error, context in seen] == [
        (KeyError, None),
        (ValueError, None),
        (LookupError, None),
    ]
