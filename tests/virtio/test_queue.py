"""Split virtqueues, the device's side: virtio 1.2 §2.7, and drivers that break its rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.core.memory import GuestMemory
from vmlab.testing.rings import INDIRECT, NEXT, WRITE, Arena, Ring
from vmlab.virtio import queue as queue_module
from vmlab.virtio.queue import MAX_QUEUE_SIZE, BrokenRing, Chain, Virtqueue, barrier, split

SIZE = 1 << 20


class Pair:
    """A ring and the queue that the device makes of it."""

    def __init__(self, size: int = 8, event_idx: bool = False, indirect: bool = True) -> None:
        self.memory = GuestMemory.allocate(SIZE if size <= 256 else SIZE * 2)
        self.arena = Arena(0x1000, self.memory.size)
        self.ring = Ring(self.memory, self.arena, 0, size)
        self.ring.event_idx = event_idx
        ring = self.ring
        self.queue = Virtqueue(
            self.memory, size, ring.desc, ring.driver, ring.device, event_idx, indirect
        )

    def offer(self, head: int = 0) -> None:
        self.ring.write_avail(self.ring.avail_idx, head)
        self.ring.avail_idx += 1

    def pop(self) -> Chain:
        chain = self.queue.pop()
        assert chain is not None
        return chain

    def broken(self, message: str) -> None:
        taken = self.queue.next_avail
        with pytest.raises(BrokenRing, match=message):
            self.queue.pop()
        assert self.queue.next_avail == taken


# --- the queue itself (§2.7) --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 3, 6, 65536, 32769])
def test_a_size_is_a_power_of_two_up_to_32768(size: int) -> None:
    memory = GuestMemory.allocate(SIZE)
    with pytest.raises(BrokenRing, match="no power of 2"):
        Virtqueue(memory, size, 0x1000, 0x2000, 0x3000)


@pytest.mark.parametrize("size", [1, 2, 256, MAX_QUEUE_SIZE])
def test_every_power_of_two_works(size: int) -> None:
    pair = Pair(size)
    for n in range(2 * size if size < 1000 else 10):
        pair.ring.write_descriptor(n % size, 0x800, n % 7, WRITE)
        pair.offer(n % size)
        chain = pair.pop()
        assert (chain.head, chain.writable_size) == (n % size, n % 7)
        pair.queue.push(chain, n)
        assert pair.ring.used_entry(n) == (n % size, n)
    assert pair.queue.pop() is None


@pytest.mark.parametrize(
    ("part", "address", "message"),
    [
        (0, 0x1008, "descriptor table at 0x1008 is not aligned to 16"),
        (1, 0x2001, "driver area at 0x2001 is not aligned to 2"),
        (2, 0x3002, "device area at 0x3002 is not aligned to 4"),
        (0, SIZE, "descriptor table .* is not in RAM"),
        (0, SIZE - 0x70, "descriptor table .* is not in RAM"),
        (1, SIZE - 0x14, "driver area .* is not in RAM"),
        (2, SIZE - 0x44, "device area .* is not in RAM"),
        (0, 0xD000_0000, "is not in RAM"),
        (0, (1 << 64) - 16, "is not in RAM"),
        (1, (1 << 64) - 2, "is not in RAM"),
    ],
)
def test_its_parts_are_aligned_and_in_ram(part: int, address: int, message: str) -> None:
    memory = GuestMemory.allocate(SIZE)
    where = [0x1000, 0x2000, 0x3000]
    where[part] = address
    with pytest.raises(BrokenRing, match=message):
        Virtqueue(memory, 8, *where)  # type: ignore[arg-type]


def test_its_parts_may_end_where_ram_ends() -> None:
    memory = GuestMemory.allocate(SIZE)
    Virtqueue(memory, 8, SIZE - 0x80, SIZE - 0x16, SIZE - 0x48)


def test_overlapping_parts_harm_nobody_but_the_driver() -> None:
    memory = GuestMemory.allocate(SIZE)
    queue = Virtqueue(memory, 8, 0x1000, 0x1000, 0x1000)
    memory.write(0x1000, struct.pack("<QIHH", 0x0001_0000, 0x10, WRITE, 0))
    for _ in range(100):
        try:
            chain = queue.pop()
        except BrokenRing:
            break
        if chain is not None:
            queue.push(chain, 1)
    assert memory.read(0, 0x1000) == bytes(0x1000)


# --- chains (§2.7.4, §2.7.5) --------------------------------------------------------------------


def test_a_chain_is_what_is_read_then_what_is_written() -> None:
    pair = Pair()
    pair.memory.write(0x800, b"headerdata")
    pair.ring.write_descriptor(5, 0x800, 6, NEXT, 2)
    pair.ring.write_descriptor(2, 0x806, 4, NEXT, 7)
    pair.ring.write_descriptor(7, 0x900, 3, NEXT | WRITE, 0)
    pair.ring.write_descriptor(0, 0xA00, 9, WRITE)
    pair.offer(5)
    chain = pair.pop()
    assert chain.head == 5
    assert chain.read() == b"headerdata"
    assert (chain.readable_size, chain.writable_size) == (10, 12)
    assert chain.write(b"0123456789ABCDEF") == 12
    assert pair.memory.read(0x900, 3) + pair.memory.read(0xA00, 9) == b"0123456789AB"


@given(st.binary(max_size=60), st.lists(st.integers(0, 20), max_size=8), st.integers(0, 70))
def test_where_buffers_are_cut_means_nothing(data: bytes, cuts: list[int], size: int) -> None:
    """§2.7.4: the device MUST NOT make assumptions about the arrangement of descriptors."""
    views, rest = [], memoryview(bytearray(data))
    for cut in cuts:
        views.append(rest[:cut])
        rest = rest[cut:]
    views.append(rest)
    first, after = split(views, size)
    assert b"".join(first) == data[:size]
    assert b"".join(after) == data[size:]
    chain = Chain(0, views, views)
    assert chain.read(size) == data[:size]
    assert chain.write(bytes(size)) == min(size, len(data))


@pytest.mark.parametrize("flags", [0, NEXT])
def test_the_device_reads_before_it_writes(flags: int) -> None:
    """§2.7.4.2: device-writable elements come after device-readable ones."""
    pair = Pair()
    pair.ring.write_descriptor(0, 0x800, 1, NEXT | WRITE, 1)
    pair.ring.write_descriptor(1, 0x800, 1, flags, 2)
    pair.offer()
    pair.broken("descriptor 1 is readable after a writable one")


@pytest.mark.parametrize(
    ("address", "length"),
    [
        (SIZE, 1),
        (SIZE - 1, 2),
        (0, SIZE + 1),
        (0, 0xFFFF_FFFF),
        (0xD000_0000, 4),
        (1 << 32, 1),
        (1 << 63, 0),
        ((1 << 64) - 1, 1),
        ((1 << 64) - 1, 0xFFFF_FFFF),
        ((1 << 64) - 16, 32),
    ],
)
@pytest.mark.parametrize("flags", [0, WRITE])
def test_buffers_lie_in_ram(address: int, length: int, flags: int) -> None:
    pair = Pair()
    pair.ring.write_descriptor(0, address, length, flags)
    pair.offer()
    pair.broken("is not in RAM")


@pytest.mark.parametrize(("address", "length"), [(0, SIZE), (SIZE - 1, 1), (SIZE, 0), (0x800, 0)])
def test_buffers_may_reach_to_the_edges_of_ram(address: int, length: int) -> None:
    pair = Pair()
    pair.ring.write_descriptor(0, address, length, WRITE)
    pair.offer()
    assert pair.pop().writable_size == length


def test_buffers_above_a_hole() -> None:
    whole = memoryview(bytearray(2 * SIZE))
    memory = GuestMemory(whole, [(0, SIZE), (1 << 32, SIZE)])  # type: ignore[arg-type]
    ring = Ring(memory, Arena(0x1000, SIZE), 0, 8)
    queue = Virtqueue(memory, 8, ring.desc, ring.driver, ring.device)
    ring.write_descriptor(0, (1 << 32) + SIZE - 4, 4, WRITE)
    ring.write_descriptor(1, SIZE - 2, 4, WRITE)  # the two regions are neighbours only in the host
    ring.write_avail(1, 1)
    ring.avail_idx = 2
    chain = queue.pop()
    assert chain is not None
    assert chain.write(b"last") == 4
    assert whole[-4:] == b"last"  # type: ignore[comparison-overlap]
    with pytest.raises(BrokenRing, match="is not in RAM"):
        queue.pop()


def test_ram_that_does_not_begin_at_zero() -> None:
    memory = GuestMemory(memoryview(bytearray(SIZE)), [(0x4000_0000, SIZE)])  # type: ignore[arg-type]
    ring = Ring(memory, Arena(0x4000_0000, 0x4000_0000 + SIZE), 0, 8)
    queue = Virtqueue(memory, 8, ring.desc, ring.driver, ring.device)
    ring.write_descriptor(0, 0, 0, WRITE)
    ring.avail_idx = 1
    with pytest.raises(BrokenRing, match="is not in RAM"):
        queue.pop()
    ring.write_descriptor(0, 0x4000_8000, 4, WRITE)
    chain = queue.pop()
    assert chain is not None
    assert chain.write(b"here") == 4
    assert memory.read(0x4000_8000, 4) == b"here"


@pytest.mark.parametrize("loop", [[0], [0, 1], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_a_chain_that_loops(loop: list[int]) -> None:
    """§2.7.5.2: loops in the descriptor chain are forbidden."""
    pair = Pair()
    for at, index in enumerate(loop):
        pair.ring.write_descriptor(index, 0x800, 0, NEXT, loop[(at + 1) % len(loop)])
    pair.offer()
    pair.broken("the chain from descriptor 0 is longer than the queue of 8")


def test_a_chain_as_long_as_the_queue() -> None:
    pair = Pair()
    for index in range(8):
        pair.ring.write_descriptor(index, 0x800, 1, NEXT if index < 7 else 0, index + 1)
    pair.offer()
    assert pair.pop().readable_size == 8


def test_a_chain_of_more_than_four_gigabytes() -> None:
    """§2.7.5.2: no chain is longer than 2^32 bytes; `len` in the used ring has 32 bits."""
    pair = Pair(4096)
    whole = pair.memory.size
    for index in range(2049):
        pair.ring.write_descriptor(index, 0, whole, WRITE | NEXT, index + 1)
    pair.ring.write_descriptor(2048, 0, 1, WRITE)
    pair.offer()
    pair.broken("the chain from descriptor 0 has 0x100000001 bytes")
    pair.ring.write_descriptor(2048, 0, 0, WRITE)
    assert pair.pop().writable_size == 1 << 32


@pytest.mark.parametrize("following", [8, 9, 0xFFFF])
def test_a_chain_stays_in_its_table(following: int) -> None:
    pair = Pair()
    pair.ring.write_descriptor(0, 0x800, 1, NEXT, following)
    pair.offer()
    pair.broken(f"descriptor 0 goes on at {following} of 8")


@pytest.mark.parametrize("head", [8, 0x8000, 0xFFFF])
def test_an_available_entry_names_a_descriptor(head: int) -> None:
    pair = Pair()
    pair.offer(head)
    pair.broken(f"available entry 0 names descriptor {head} of 8")


@pytest.mark.parametrize("index", [9, 0x8000, 0xFFFF])
def test_no_more_is_available_than_there_is_room_for(index: int) -> None:
    pair = Pair()
    pair.ring.avail_idx = index
    pair.broken(f"{index} available entries in a ring of 8")
    with pytest.raises(BrokenRing, match="available entries"):
        _ = pair.queue.waiting
    with pytest.raises(BrokenRing, match="available entries"):
        pair.queue.enable_notifications()


# --- indirect descriptors (§2.7.5.3) ------------------------------------------------------------


def table(pair: Pair, entries: list[tuple[int, int, int, int]], flags: int = 0) -> None:
    """Descriptor 0 names a table at 0x4_0000 with these entries."""
    data = b"".join(struct.pack("<QIHH", *entry) for entry in entries)
    pair.memory.write(0x4_0000, data)
    pair.ring.write_descriptor(0, 0x4_0000, len(data), INDIRECT | flags)


def test_an_indirect_chain() -> None:
    pair = Pair()
    table(pair, [(0x900, 1, WRITE, 0), (0x800, 1, 0, 0), (0x800, 4, NEXT, 0)])
    pair.memory.write(0x4_0000, struct.pack("<QIHH", 0x800, 4, NEXT, 2))
    pair.memory.write(0x4_0020, struct.pack("<QIHH", 0x900, 9, WRITE, 0))
    pair.offer()
    chain = pair.pop()
    assert (chain.readable_size, chain.writable_size) == (4, 9)


def test_the_write_flag_of_a_table_means_nothing() -> None:
    """§2.7.5.3.2: the device MUST ignore the write-only flag in the descriptor that refers to an
    indirect table."""
    pair = Pair()
    table(pair, [(0x800, 4, 0, 0)], WRITE)
    pair.offer()
    assert pair.pop().readable_size == 4


def test_plain_descriptors_before_a_table() -> None:
    """§2.7.5.3.2: the device MUST handle zero or more normal chained descriptors followed by a single
    indirect one."""
    pair = Pair()
    table(pair, [(0x900, 9, WRITE, 0)])
    pair.ring.write_descriptor(4, 0x800, 3, NEXT, 5)
    pair.ring.write_descriptor(5, 0x800, 4, NEXT, 0)
    pair.offer(4)
    chain = pair.pop()
    assert (chain.head, chain.readable_size, chain.writable_size) == (4, 7, 9)


def test_a_table_may_hold_as_long_a_chain_as_the_queue() -> None:
    pair = Pair()
    table(pair, [(0x800, 1, NEXT, n + 1) for n in range(7)] + [(0x800, 1, 0, 0)])
    pair.offer()
    assert pair.pop().readable_size == 8


def test_a_table_larger_than_the_queue_with_a_short_chain() -> None:
    pair = Pair()
    table(pair, [(0x800, 1, NEXT, 99), *[(0, 0, 0, 0)] * 98, (0x800, 1, 0, 0)])
    pair.offer()
    assert pair.pop().readable_size == 2


@pytest.mark.parametrize(
    ("entries", "flags", "message"),
    [
        (
            [(0x800, 1, NEXT, n + 1) for n in range(8)] + [(0x800, 1, 0, 0)],
            0,
            "longer than the queue",
        ),
        ([(0x800, 1, NEXT, 0)], 0, "longer than the queue"),
        ([(0x800, 1, NEXT, 1)], 0, "descriptor 0 goes on at 1 of 1"),
        ([(0x4_0000, 16, INDIRECT, 0)], 0, "an indirect descriptor inside a table"),
        ([(0x800, 1, NEXT, 1), (0x4_0000, 16, INDIRECT, 0)], 0, "inside a table"),
        ([(0x800, 1, 0, 0)], NEXT, "or one that goes on"),
        ([], 0, "an indirect table of 0 bytes"),
        ([(SIZE, 1, 0, 0)], 0, "is not in RAM"),
    ],
)
def test_tables_that_break_the_rules(
    entries: list[tuple[int, int, int, int]], flags: int, message: str
) -> None:
    pair = Pair()
    table(pair, entries, flags)
    pair.offer()
    pair.broken(message)


@pytest.mark.parametrize(
    ("address", "length", "message"),
    [
        (0x4_0000, 15, "an indirect table of 15 bytes"),
        (0x4_0000, 17, "an indirect table of 17 bytes"),
        (0x4_0000, 16 * (MAX_QUEUE_SIZE + 1), "an indirect table of"),
        (0x4_0000, 0xFFFF_FFF0, "an indirect table of"),
        (SIZE - 16, 32, "the indirect table .* is not in RAM"),
        ((1 << 64) - 16, 32, "is not in RAM"),
    ],
)
def test_tables_of_wrong_sizes_and_places(address: int, length: int, message: str) -> None:
    pair = Pair()
    pair.ring.write_descriptor(0, address, length, INDIRECT)
    pair.offer()
    pair.broken(message)


def test_no_table_unless_it_was_negotiated() -> None:
    pair = Pair(indirect=False)
    table(pair, [(0x800, 1, 0, 0)])
    pair.offer()
    pair.broken("an indirect descriptor, which was not negotiated")


# --- the used ring, and who tells whom (§2.7.7, §2.7.8, §2.7.10) --------------------------------


def serve(pair: Pair, count: int = 1) -> None:
    for _ in range(count):
        pair.offer()
        pair.queue.push(pair.pop(), 0)


def test_indices_wrap_at_65536() -> None:
    """§2.7.6, §2.7.8: idx starts at 0, and increases."""
    pair = Pair(4)
    pair.ring.write_descriptor(0, 0x800, 1, WRITE)
    for index in range(65536 + 10):
        pair.offer()
        assert pair.queue.waiting == 1
        pair.queue.push(pair.pop(), index)
        assert pair.ring.used_idx == (index + 1) & 0xFFFF
    assert pair.ring.used_entry(65536 + 9) == (0, 65536 + 9)
    assert pair.queue.pop() is None


def test_the_entry_is_there_before_the_index() -> None:
    """§2.7.8.2: the device MUST set len prior to updating the used idx."""
    pair = Pair()
    order: list[str] = []
    pair.queue._used_idx = Recorder(order)  # type: ignore[assignment]
    pair.offer()
    chain = pair.pop()
    chain.head = 3
    pair.queue.push(chain, 77)
    assert pair.ring.used_entry(0) == (3, 77)
    assert order == ["index 1"]


class Recorder:
    def __init__(self, order: list[str]) -> None:
        self.order = order

    def __setitem__(self, at: int, value: int) -> None:
        assert at == 1
        self.order.append(f"index {value}")


def test_interrupts_without_event_index() -> None:
    """§2.7.7.2: flags 0: the device MUST notify; 1: it SHOULD NOT. It MUST ignore used_event."""
    pair = Pair()
    assert not pair.queue.needs_interrupt()
    serve(pair)
    pair.ring.used_event = 1000
    assert pair.queue.needs_interrupt()
    assert not pair.queue.needs_interrupt()
    pair.ring.avail_flags = 1
    serve(pair)
    assert not pair.queue.needs_interrupt()
    pair.ring.avail_flags = 0
    assert not pair.queue.needs_interrupt()  # the used ring has not moved since
    serve(pair)
    assert pair.queue.needs_interrupt()


@given(st.integers(0, 0xFFFF), st.integers(0, 200), st.integers(0, 0xFFFF))
def test_interrupts_with_event_index(start: int, pushed: int, event: int) -> None:
    """§2.7.7.2: notify exactly when used_event is among the indices that were written; the lower bit
    of flags MUST be ignored."""
    pair = Pair(8, event_idx=True)
    queue = pair.queue
    queue.next_used = queue._signalled = start
    pair.ring.used_event, pair.ring.avail_flags = event, 1
    chain = Chain(0, [], [])
    for _ in range(pushed):
        queue.push(chain, 0)
    crossed = event in {(start + n) & 0xFFFF for n in range(pushed)}
    assert queue.needs_interrupt() == crossed


def test_notifications_without_event_index() -> None:
    """§2.7.10.2: the device MUST set flags to 0 or 1."""
    pair = Pair()
    pair.queue.disable_notifications()
    assert pair.ring.used_flags == 1
    assert not pair.queue.enable_notifications()
    assert pair.ring.used_flags == 0
    pair.offer()
    assert pair.queue.enable_notifications()
    assert pair.ring.avail_event == 0


def test_notifications_with_event_index() -> None:
    """§2.7.10.2: the device MUST set flags to 0; avail_event is the entry that it waits for."""
    pair = Pair(event_idx=True)
    pair.queue.disable_notifications()
    assert pair.ring.used_flags == 0
    serve(pair, 3)
    assert not pair.queue.enable_notifications()
    assert (pair.ring.avail_event, pair.ring.used_flags) == (3, 0)
    pair.offer()
    assert pair.queue.enable_notifications()


@pytest.mark.parametrize("event_idx", [False, True])
def test_a_request_between_the_last_look_and_listen_is_not_lost(
    event_idx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(event_idx=event_idx)
    pair.queue.disable_notifications()
    assert pair.queue.pop() is None
    # the driver publishes just before the wish becomes visible, and so does not notify
    monkeypatch.setattr(queue_module, "barrier", pair.offer)
    assert pair.queue.enable_notifications()


def test_movement() -> None:
    pair = Pair()
    assert pair.queue.has_progressed()
    assert not pair.queue.has_progressed()
    pair.offer()
    assert pair.queue.has_progressed()
    assert not pair.queue.has_progressed()
    pair.pop()
    assert pair.queue.has_progressed()


def test_the_same_on_hosts_that_reorder_loads_and_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "IN_ORDER", False)
    barrier()
    pair = Pair()
    serve(pair, 20)
    assert pair.ring.used_idx == 20


def test_the_device_writes_no_descriptor() -> None:
    """§2.7.5.1: a device MUST NOT write to a device-readable buffer, nor to any descriptor."""
    pair = Pair()
    table(pair, [(0x800, 4, NEXT, 1), (0x900, 4, WRITE, 0)])
    before = pair.memory.read(pair.ring.desc, 128), pair.memory.read(0x4_0000, 32)
    pair.offer()
    chain = pair.pop()
    pair.queue.push(chain, chain.write(b"1234"))
    assert before == (pair.memory.read(pair.ring.desc, 128), pair.memory.read(0x4_0000, 32))
    assert pair.memory.read(0x800, 4) == bytes(4)


def test_what_a_device_writes_is_told() -> None:
    """An engine that translates code hears of it before the driver does."""
    memory = GuestMemory.allocate(1 << 20)
    told: list[tuple[int, int]] = []
    try:
        queue = Virtqueue(memory, 4, 0x1000, 0x2000, 0x3000)
        table = memory.view(0x1000, 64)
        struct.pack_into("<QIHH", table, 0, 0x4000, 16, 1, 1)
        struct.pack_into("<QIHH", table, 16, 0x5000, 32, 3, 2)
        struct.pack_into("<QIHH", table, 32, 0x6000, 1, 2, 0)
        memory.view(0x2000, 8)[2:4] = b"\1\0"

        def note(address: int, size: int) -> None:
            assert memory.read(0x3002, 1) == b"\0", "the used index moves afterwards"
            told.append((address, size))

        memory.on_write = note
        chain = queue.pop()
        assert chain is not None
        queue.push(chain, 33)
        assert told == [(0x5000, 32), (0x6000, 1)]
    finally:
        memory.close()
