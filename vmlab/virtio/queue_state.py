"""What lies in the memory of a virtqueue (virtio 1.2 §2.7), for who looks at it. The driver wrote it, and may
be writing it now: nothing is believed, everything is bounded, and nothing changes.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from vmlab.errors import ConfigError
from vmlab.virtio.journal import DrivenWindow
from vmlab.virtio.queue import INDIRECT, NEXT, BrokenRing, Virtqueue

__all__ = ["AT_DEVICE", "DONE", "WAITS", "ChainState", "QueueState", "look", "queue_state"]

#: how many are shown: chains; descriptors of one; descriptors in any case; entries of a ring
CHAINS, CHAIN, TABLE, ENTRIES = 8, 64, 16, 16
#: where a chain is
WAITS, AT_DEVICE, DONE = "waits", "at the device", "done"


class ChainState(Struct, frozen=True):
    """head: its first descriptor. state: WAITS (available, not taken yet), AT_DEVICE (taken, not used yet) or
    DONE (the last one used). descriptors: their numbers, in order, in the queue's own table. problem: what is
    wrong with it, else ""."""

    head: int
    state: str
    descriptors: list[int]
    problem: str


class QueueState(Struct, frozen=True):
    """One queue.

    size: entries; 0: the driver has not set it up. areas: where the descriptor table, the driver area and
    the device area are. available, used: (flags, idx, the newest entries, oldest first); an entry is (its
    place, descriptor), and (its place, descriptor, bytes written). taken, returned: how many the device has
    taken and used, modulo 65536. used_event, avail_event: of VIRTIO_F_EVENT_IDX (§2.7.7, §2.7.10), else None.
    table: (number, address, length, flags, next) of those that are shown. waiting, at_device: how many chains
    are; fewer may be listed, since a ring forgets. problem: what is wrong with the rings."""

    index: int
    size: int = 0
    areas: tuple[int, int, int] = (0, 0, 0)
    available: tuple[int, int, list[tuple[int, int]]] = (0, 0, [])
    used: tuple[int, int, list[tuple[int, int, int]]] = (0, 0, [])
    taken: int = 0
    returned: int = 0
    used_event: int | None = None
    avail_event: int | None = None
    table: list[tuple[int, int, int, int, int]] = []
    chains: list[ChainState] = []
    waiting: int = 0
    at_device: int = 0
    problem: str = ""


def queue_state(window: DrivenWindow, index: int) -> QueueState:
    """The caller holds the device's lock. ConfigError for a queue that the device does not have."""
    count = len(window.device.queue_sizes)
    if type(index) is not int or not 0 <= index < count:
        raise ConfigError(f"queue {index!r:.40}: {window.device.type} has {_named(count)}")
    queue = window.queues.get(index)
    return QueueState(index) if queue is None else look(queue, index)


def look(queue: Virtqueue, index: int) -> QueueState:
    return _Look(queue).state(index)


def _named(count: int) -> str:
    return {0: "no queue", 1: "queue 0"}.get(count, f"the queues 0 to {count - 1}")


class _Look:
    """Each index is read once: it may move meanwhile."""

    def __init__(self, queue: Virtqueue) -> None:
        self._queue = queue
        self._flags, self._published = queue.available_ring
        self._waiting = (self._published - queue.next_avail) & 0xFFFF
        self._at_device = (queue.next_avail - queue.next_used) & 0xFFFF

    def state(self, index: int) -> QueueState:
        queue = self._queue
        problem = ""
        if self._waiting > queue.size:
            problem = f"{self._waiting} available entries in a ring of {queue.size}"
        used_flags, used_index = queue.used_ring
        if used_index != queue.next_used:
            problem = f"used.idx is {used_index}, and the device wrote {queue.next_used}"
        chains = self._chains()
        shown = {number for chain in chains for number in chain.descriptors}
        shown.update(range(min(queue.size, TABLE)))
        return QueueState(
            index,
            queue.size,
            queue.areas,
            (self._flags, self._published, self._available()),
            (used_flags, used_index, self._used()),
            queue.next_avail,
            queue.next_used,
            queue.used_event,
            queue.avail_event,
            [(number, *queue.descriptor(number)) for number in sorted(shown)],
            chains,
            self._waiting,
            self._at_device,
            problem,
        )

    def _available(self) -> list[tuple[int, int]]:
        queue, end = self._queue, self._published
        count = min(ENTRIES, queue.size, end)
        return [(at % queue.size, queue.available_entry(at)) for at in range(end - count, end)]

    def _used(self) -> list[tuple[int, int, int]]:
        queue, end = self._queue, self._queue.next_used
        count = min(ENTRIES, queue.size, end)
        return [(at % queue.size, *queue.used_entry(at)) for at in range(end - count, end)]

    def _chains(self) -> list[ChainState]:
        queue = self._queue
        first = queue.next_avail
        waiting = [
            self._chain(queue.available_entry(at), WAITS)
            for at in range(first, first + min(self._waiting, queue.size, CHAINS))
        ]
        there = [self._chain(head, AT_DEVICE) for head in self._held()[:CHAINS]]
        done = []
        if queue.next_used and not waiting and not there:
            done = [self._chain(queue.used_entry(queue.next_used - 1)[0], DONE)]
        return [*waiting, *there, *done]

    def _held(self) -> list[int]:
        """The heads that the device has: each was taken once more than it was used. Empty where the rings
        have forgotten which."""
        queue, count = self._queue, self._at_device
        if not 0 < count <= queue.size:
            return []
        kept = min(queue.size, queue.next_avail)
        taken = Counter(
            queue.available_entry(queue.next_avail - back) for back in range(1, kept + 1)
        )
        # as many uses as takes that are not under way: older ones belong to takes that the ring has forgotten
        uses = min(kept - count, queue.size, queue.next_used)
        used = Counter(queue.used_entry(queue.next_used - back)[0] for back in range(1, uses + 1))
        held = list((taken - used).elements())
        return sorted(held) if len(held) == count == len(set(held)) else []

    def _chain(self, head: int, state: str) -> ChainState:
        queue = self._queue
        if head >= queue.size:
            return ChainState(
                head, state, [], f"there is no descriptor {head} in a table of {queue.size}"
            )
        try:
            queue.chain(head)
            problem = ""
        except BrokenRing as error:
            problem = str(error) if state != DONE else ""  # its descriptors may be another's by now
        return ChainState(head, state, self._numbers(head), problem)

    def _numbers(self, head: int) -> list[int]:
        numbers: dict[int, None] = {}
        while head < self._queue.size and head not in numbers and len(numbers) < CHAIN:
            numbers[head] = None
            _, _, flags, following = self._queue.descriptor(head)
            if not flags & NEXT or flags & INDIRECT:
                break
            head = following
        return list(numbers)
