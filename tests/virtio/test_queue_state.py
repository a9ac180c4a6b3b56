"""What is told of a queue: of drivers by the book, of hostile ones, and never more than fits a screen."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtio.test_queue import SIZE, Pair
from vmlab.core.memory import GuestMemory
from vmlab.testing.rings import INDIRECT, NEXT, WRITE
from vmlab.virtio.queue import MAX_QUEUE_SIZE, Virtqueue
from vmlab.virtio.queue_state import AT_DEVICE, CHAIN, CHAINS, DONE, ENTRIES, TABLE, WAITS, look
from vmlab.vm.queue import Queue


def shown(queue: Virtqueue) -> str:
    return repr(Queue("disk0", "virtio-blk", look(queue, 0)))


def chain_of_three(pair: Pair, first: int) -> None:
    for number, flags in ((first, NEXT), (first + 1, NEXT | WRITE), (first + 2, WRITE)):
        pair.ring.write_descriptor(number, 0x800, 16, flags, number + 1)


def test_a_request_from_the_driver_to_the_device_and_back() -> None:
    pair = Pair()
    chain_of_three(pair, 2)
    assert look(pair.queue, 0).chains == []
    taken = None
    for state in (WAITS, AT_DEVICE, DONE):
        if state == WAITS:
            pair.offer(2)
        elif state == AT_DEVICE:
            taken = pair.pop()
        elif taken is not None:
            pair.queue.push(taken, 17)
        found = look(pair.queue, 0)
        (one,) = found.chains
        assert (one.head, one.state, one.descriptors, one.problem) == (2, state, [2, 3, 4], "")
        owners = {row.number: row.owner for row in Queue("q", "t", found).descriptors}
        held = "driver" if state == DONE else "device"
        assert [owners[number] for number in range(1, 6)] == ["driver", held, held, held, "driver"]
        assert (found.waiting, found.at_device) == (state == WAITS, state == AT_DEVICE)
    assert found.available == (0, 1, [(0, 2)])
    assert found.used == (0, 1, [(0, 2, 17)])


def test_chains_that_come_back_in_another_order() -> None:
    """Which the device has is known from the rings, for hundreds of requests."""
    pair = Pair(8)
    for number in range(8):
        pair.ring.write_descriptor(number, 0x800, 16, WRITE)
    held = {}
    for turn in range(300):
        head = next(number for number in range(8) if number not in held)
        pair.offer(head)
        held[head] = pair.pop()
        found = look(pair.queue, 0)
        there = sorted(one.head for one in found.chains if one.state == AT_DEVICE)
        assert found.at_device == len(held)
        assert there in (sorted(held), []), "all of them, or none where the ring has forgotten"
        if turn < 8 - len(held) or len(held) == 1:
            assert there == sorted(held)
        if len(held) > 2 + turn % 3:
            pair.queue.push(held.pop(list(held)[turn % len(held)]), 1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda pair: pair.ring.write_descriptor(2, 0x800, 1, NEXT, 2),
            "longer than the queue of 8",
        ),
        (lambda pair: pair.ring.write_descriptor(2, 0x800, 1, NEXT, 99), "goes on at 99 of 8"),
        (lambda pair: pair.ring.write_descriptor(2, SIZE - 1, 2, WRITE), "is not in RAM"),
        (
            lambda pair: pair.ring.write_descriptor(2, 8, 3, INDIRECT),
            "an indirect table of 3 bytes",
        ),
        (lambda pair: pair.ring.write_avail(0, 77), "there is no descriptor 77 in a table of 8"),
    ],
)
def test_what_is_wrong_with_a_chain_is_said(spoil: object, words: str) -> None:
    pair = Pair()
    pair.offer(2)
    spoil(pair)  # type: ignore[operator]
    assert words in look(pair.queue, 0).chains[0].problem
    assert words in shown(pair.queue)


def test_rings_that_make_no_sense() -> None:
    pair = Pair()
    pair.memory.write(pair.ring.driver + 2, struct.pack("<H", 500))
    assert "500 available entries in a ring of 8" in shown(pair.queue)
    pair.memory.write(pair.ring.device + 2, struct.pack("<H", 9))
    assert "used.idx is 9, and the device wrote 0" in shown(pair.queue)


@pytest.mark.parametrize("event_idx", [True, False])
def test_flags_and_events(event_idx: bool) -> None:
    pair = Pair(event_idx=event_idx)
    pair.memory.write(pair.ring.driver, b"\1\0")
    pair.queue.disable_notifications()
    text = shown(pair.queue)
    assert "no interrupt" in text
    assert ("used_event 0" in text) == ("avail_event 0" in text) == event_idx
    assert ("no notification" in text) == (not event_idx)


def test_of_the_largest_queue_only_some_is_shown() -> None:
    pair = Pair(MAX_QUEUE_SIZE)
    for number in range(200):
        pair.ring.write_descriptor(number, 0x800, 1, NEXT, number + 1)
    for _ in range(50):
        pair.offer(0)
    found = look(pair.queue, 0)
    assert len(found.chains) == CHAINS
    assert {len(one.descriptors) for one in found.chains} == {CHAIN}
    assert len(found.table) <= CHAIN * CHAINS + TABLE
    assert len(found.available[2]) == ENTRIES
    assert f"{MAX_QUEUE_SIZE - CHAIN} of {MAX_QUEUE_SIZE} are not shown" in shown(pair.queue)


@given(st.binary(min_size=0x400, max_size=0x400), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_whatever_the_memory_holds(data: bytes, taken: int, used: int) -> None:
    memory = GuestMemory.allocate(SIZE)
    memory.write(0x1000, data)
    queue = Virtqueue(memory, 16, 0x1000, 0x1100, 0x1200, indirect=True)
    queue.next_avail, queue.next_used = taken, used
    found = look(queue, 0)
    assert len(found.chains) <= 2 * CHAINS
    assert len(found.table) == 16
    text = repr(Queue("disk0", "virtio-blk", found))
    assert len(text.splitlines()) < 80
    assert Queue("disk0", "virtio-blk", found)._repr_html_().count("<table") == 4
