"""Device accesses: sizes, alignment, page ends, ports, doorbells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.soft import guests as g
from tests.engine.soft.lab import DEVICE, RESULTS, Lab, bench
from vmlab.errors import EngineError

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with bench() as lab:
        yield lab


def by_address(address: int, size: int) -> int:
    """Each byte of the device is the low byte of its address."""
    return int.from_bytes(bytes(address + n & 0xFF for n in range(size)), "little")


def test_mmio_has_the_size_of_the_instruction(lab: Lab) -> None:
    lab.mmio.reader = by_address
    lab.run(g.MMIO)
    d, v = DEVICE, 0x8877665544332211
    reads = [(d + 1, 1), (d + 2, 2), (d + 4, 4), (d + 8, 8), (d + 0x13, 8), (d + 0x21, 4)]
    # across a page end: 3 bytes there, as 2 + 1, and 5 here, as 4 + 1
    reads += [(d + 0xFFD, 2), (d + 0xFFF, 1), (d + 0x1000, 4), (d + 0x1004, 1)]
    writes = [(d + 1, 1), (d + 2, 2), (d + 4, 4), (d + 8, 8), (d + 0x13, 8), (d + 0x21, 4)]
    expected = [("r", a, s, by_address(a, s)) for a, s in reads]
    expected += [("w", a, s, v & (1 << 8 * s) - 1) for a, s in writes]
    expected += [("w", d + 0xFFC, 4, v & 0xFFFFFFFF), ("w", d + 0x1000, 4, v >> 32)]
    value = by_address(d + 0x40, 4)
    expected += [("r", d + 0x40, 4, value), ("w", d + 0x40, 4, value + 1)]
    expected += [("r", d + 0x44, 2, by_address(d + 0x44, 2)), ("w", d + 0x44, 2, 0x2211)]
    assert lab.mmio.log[: len(expected)] == expected
    first, second, third, fourth = lab.results(4)
    assert first == by_address(d + 8, 8)
    assert second == by_address(d + 0x13, 8)
    assert third == by_address(d + 0x21, 4)
    assert fourth == by_address(d + 0xFFD, 8)


def test_ports_have_the_size_of_the_instruction(lab: Lab) -> None:
    lab.ports.reader = lambda port, size: 0x8899AABB & (1 << 8 * size) - 1
    lab.memory.write(RESULTS + 0x100, bytes(range(11)))
    lab.run(g.PORTS)
    log = lab.ports.log
    assert [entry[1:3] for entry in log[:3]] == [(0x500, 1), (0x500, 2), (0x500, 4)]
    assert lab.u64(RESULTS) == 0x8899AABB
    assert log[3:6] == [
        ("w", 0x500, 1, 0x11),
        ("w", 0x500, 2, 0x2211),
        ("w", 0x500, 4, 0x44332211),
    ]
    assert [entry[:3] for entry in log[6:8]] == [("r", 0x80, 1), ("w", 0x80, 1)]
    assert log[8:11] == [("w", 0x500, 1, n) for n in range(3)]
    assert log[11:13] == [("w", 0x500, 4, 0x06050403), ("w", 0x500, 4, 0x0A090807)]
    assert log[13:16] == [("r", 0x500, 2, 0xAABB)] * 3
    assert lab.memory.read(RESULTS + 0x200, 6) == bytes.fromhex("bbaa" * 3)
    assert lab.engine.exits["io"] == 16 + 1


def test_holes_above_memory_reach_the_bus(lab: Lab) -> None:
    # no paging: physical addresses up to 4 GiB
    lab.run(bytes.fromhex("a1f8ffffff a10000c000 e6f4 ebfe"), "protected")
    assert [entry[1] for entry in lab.mmio.log] == [0xFFFF_FFF8, 0x00C0_0000]
    assert lab.engine.exits["mmio"] == 2


def test_doorbell_takes_matching_writes(lab: Lab) -> None:
    rung: list[int] = []
    bell = lab.engine.doorbell(DEVICE + 0x50, 4, 7, rung.append)
    with pytest.raises(EngineError):
        lab.engine.doorbell(DEVICE + 0x50, 4, 7, rung.append)
    lab.run(g.DOORBELL)
    lab.wait_for(lambda: sum(rung) == 1000)
    assert lab.mmio.log == [("w", DEVICE + 0x50, 4, 8), ("w", DEVICE + 0x50, 2, 7)]
    assert lab.engine.exits["mmio"] == 2
    bell.close()
    lab.exited.clear()
    lab.mmio.log.clear()
    lab.load(g.DOORBELL)
    lab.engine.resume()
    lab.finish()
    assert len(lab.mmio.log) == 1002
    assert sum(rung) == 1000


def test_doorbell_without_a_value(lab: Lab) -> None:
    rung: list[int] = []
    lab.engine.doorbell(DEVICE + 0x50, 4, None, rung.append)
    lab.run(g.DOORBELL)
    lab.wait_for(lambda: sum(rung) == 1001)
    assert lab.mmio.log == [("w", DEVICE + 0x50, 2, 7)]


def test_a_bus_that_raises_stops_the_cpu(lab: Lab) -> None:
    def broken(address: int, size: int) -> int:
        raise RuntimeError("no such luck")

    lab.mmio.reader = broken
    lab.run(g.MMIO)
    ((_, stop),) = lab.stops
    assert stop.kind == "engine-error"
    assert "no such luck" in stop.text


def test_handlers_are_looked_up_per_access(lab: Lab) -> None:
    calls: list[int] = []

    def read(address: int, size: int) -> int:
        calls.append(address)
        return 0

    lab.load(g.MMIO_LOOP)
    lab.engine.start()
    lab.wait_for(lambda: len(lab.mmio.log) > 10)
    lab.mmio.read = read  # type: ignore[method-assign]
    lab.wait_for(lambda: len(calls) > 10)
