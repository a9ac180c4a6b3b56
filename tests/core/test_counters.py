"""The counter page: its documented words, its blocks, and a reader in another process."""

from __future__ import annotations

import itertools
import mmap
import random
import struct

import pytest

from vmlab.core import counters
from vmlab.core.counters import Block, CounterPage, RegisterCounts
from vmlab.core.device import Device
from vmlab.errors import ConfigError
from vmlab.regs import Registers, ro, rw


class Pair(Device):
    class regs(Registers):
        A = rw(0, "a")
        B = ro(4, "b")


def word(buffer: bytearray | mmap.mmap, index: int) -> int:
    value: int = struct.unpack_from("<Q", buffer, 8 * index)[0]
    return value


def test_the_header() -> None:
    buffer = bytearray(counters.PAGE_SIZE)
    page = CounterPage(buffer)
    page.format()
    assert buffer[:8] == b"VMLABCNT"
    assert word(buffer, 1) == 2
    assert word(buffer, 2) == counters.PAGE_SIZE // 8
    assert word(buffer, 3) == page.generation == 0


def test_the_documented_words() -> None:
    """What the module's docstring says, read as another program would."""
    buffer = bytearray(counters.PAGE_SIZE)
    page = CounterPage(buffer)
    device = Pair()
    block = page.allocate(["A", "B"])
    device._wire(block)
    device.write(0, 4, 1)
    device.read(4, 4)
    device.read(4, 2)
    device.read(0, 8)
    device.read(0x40, 1)
    device.counters.kick(3)
    device.mistake("told")
    at = block.start
    assert at == 17160, "the first block"
    rows = [tuple(word(buffer, at + 3 * row + step) for step in range(3)) for row in range(5)]
    assert rows == [
        (1, 0, 1),  # accesses that hit no register
        (1, 0, 0),  # pieces: the read of eight bytes took two registers
        (3, 1, 0),  # kicks, mistakes
        (1, 1, 8),  # A: reads, writes, bytes
        (3, 0, 10),  # B
    ]
    counts = block.counts()
    assert (counts.reads, counts.writes, counts.traps, counts.bytes) == (4, 1, 5, 19)
    assert (counts.kicks, counts.mistakes) == (3, 1)
    assert counts.registers == {"A": RegisterCounts(1, 1, 8), "B": RegisterCounts(3, 0, 10)}


def test_exits_are_counted_by_cpu_and_kind() -> None:
    buffer = bytearray(counters.PAGE_SIZE)
    page, view = CounterPage(buffer), CounterPage(buffer)
    page.exits_of(0)[6] += 2
    page.exits_of(1)[63] += 1
    page.exits_of(255)[5] += 1
    assert word(buffer, 776 + 6) == 2
    assert word(buffer, 776 + 64 + 63) == 1
    assert word(buffer, 17160 - 64 + 5) == 1
    assert [view.exits(cpus) for cpus in (1, 2, 256)] == [2, 3, 4]
    for cpu in (-1, 256):
        with pytest.raises(ConfigError, match="0 to 255"):
            page.exits_of(cpu)


def test_a_reader_attaches_and_looks_for_free() -> None:
    shared = mmap.mmap(-1, counters.PAGE_SIZE)
    page, view = CounterPage(memoryview(shared)), CounterPage(memoryview(shared))
    page.format()
    device = Pair()
    block = page.allocate(["A", "B"])
    device._wire(block)
    seen = view.attach(block.start, ["A", "B"])
    device.read(0, 4)
    assert seen.counts().registers["A"].reads == 1
    assert view.generation == 1
    seen.free()
    assert view.generation == 1, "a reader's block is not the reader's to give back"


@pytest.mark.parametrize("start", [0, 17159, counters.PAGE_SIZE // 8 - 3, 1 << 40, -1])
def test_a_block_outside_the_page(start: int) -> None:
    with pytest.raises(ConfigError, match="outside the page"):
        CounterPage().attach(start, ["A"])


def test_a_fresh_block_is_zero_and_changes_the_generation() -> None:
    page = CounterPage()
    block = page.allocate(["A"])
    for at in range(len(block.words)):
        block.words[at] = 77
    block.free()
    assert page.generation == 2
    again = page.allocate(["A"])
    assert again.start == block.start
    assert not any(again.words)
    assert page.generation == 3


def test_freeing_twice_is_freeing_once() -> None:
    page = CounterPage()
    one, two = page.allocate(["A"]), page.allocate(["A"])
    one.free()
    one.free()
    assert page.allocate(["A"]).start == one.start
    assert page.allocate(["A"]).start not in (one.start, two.start)


def test_a_thousand_rounds_leave_nothing() -> None:
    page, held, chance = CounterPage(), [], random.Random(1)
    fresh = list(page._free)
    for _ in range(1000):
        held.append(page.allocate([f"R{n}" for n in range(chance.randrange(40))]))
        if len(held) > 20:
            held.pop(chance.randrange(len(held))).free()
    spans = sorted((block.start, block.start + len(block.words)) for block in held)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for block in held:
        block.free()
    assert page._free == fresh


def test_a_full_page() -> None:
    page = CounterPage()
    with pytest.raises(ConfigError, match="no room in the counter page"):
        page.allocate(["R"] * 50_000)
    blocks = [page.allocate(["R"] * 1000) for _ in range(37)]
    with pytest.raises(ConfigError):
        page.allocate(["R"] * 1000)
    blocks[0].free()
    assert page.allocate(["R"] * 1000).start == blocks[0].start


def test_a_block_of_its_own() -> None:
    block = Block.private(["A"])
    block.kick()
    block.mistake()
    assert (block.counts().kicks, block.counts().mistakes, block.counts().traps) == (1, 1, 0)
    block.free()


def test_lines() -> None:
    page = CounterPage()
    page.words[8 + 5] = 3
    page.words[264 + 5] = 2
    page.words[520 + 5] = 1
    assert page.line(5) == (3, 2, True)
    for number in (-1, 256):
        with pytest.raises(ConfigError, match="no interrupt line"):
            page.line(number)


def test_close_lets_go_of_the_memory() -> None:
    shared = mmap.mmap(-1, counters.PAGE_SIZE)
    page = CounterPage(memoryview(shared))
    page.format()
    page.close()
    shared.close()
    assert page.generation == 0
