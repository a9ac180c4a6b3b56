"""Split virtqueues, the driver's side (virtio 1.2 §2.7), open to every mistake.

A `Ring` does what a careful driver does; its attributes write the rings as one likes, for tests of
what a device makes of a careless or hostile one.
"""

from __future__ import annotations

import struct
from bisect import insort
from collections.abc import Sequence

from vmlab.core.memory import GuestMemory

__all__ = ["INDIRECT", "NEXT", "WRITE", "Arena", "Request", "Ring"]

# descriptor flags (§2.7.5)
NEXT, WRITE, INDIRECT = 1, 2, 4
_DESCRIPTOR = struct.Struct("<QIHH")
_USED = struct.Struct("<II")
#: what separates two pieces of an arena at least; also their alignment
GRAIN = 16


class Arena:
    """Hands out pieces of guest memory [start, end), first fit."""

    def __init__(self, start: int, end: int) -> None:
        self._free = [(start, end)]

    def take(self, size: int, alignment: int = GRAIN) -> int:
        """The address of `size` bytes; MemoryError when there is no room."""
        size = -(-max(size, 1) // GRAIN) * GRAIN
        for index, (start, end) in enumerate(self._free):
            at = -(-start // alignment) * alignment
            if at + size <= end:
                rest = [(start, at), (at + size, end)]
                self._free[index : index + 1] = [(a, b) for a, b in rest if a < b]
                return at
        raise MemoryError(f"no {size:#x} bytes left in the driver's memory; give it a larger one")

    def give(self, address: int, size: int) -> None:
        """Take back what `take(size)` gave."""
        insort(self._free, (address, address + -(-max(size, 1) // GRAIN) * GRAIN))
        merged = self._free[:1]
        for start, end in self._free[1:]:
            if merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        self._free = merged


class Request:
    """Buffers laid out in a ring. written: what the device says that it has written, once it is done.

    head: the first descriptor. out, in_: (address, size) of the buffers.
    """

    __slots__ = ("descriptors", "done", "head", "in_", "memory", "out", "table", "written")

    def __init__(
        self,
        memory: GuestMemory,
        out: list[tuple[int, int]],
        in_: list[tuple[int, int]],
        descriptors: list[int],
        table: tuple[int, int] | None,
    ) -> None:
        self.memory = memory
        self.out = out
        self.in_ = in_
        self.descriptors = descriptors
        self.head = descriptors[0]
        #: (address, size) of the indirect table
        self.table = table
        self.done = False
        self.written = 0

    @property
    def result(self) -> bytes:
        """The bytes that the device has written, `written` of them."""
        return self.whole[: self.written]

    @property
    def whole(self) -> bytes:
        """All of what the device may write."""
        return b"".join(self.memory.read(address, size) for address, size in self.in_)


class Ring:
    """One queue of `size` entries, laid out in `memory`. desc, driver, device: its parts' addresses."""

    def __init__(self, memory: GuestMemory, arena: Arena, index: int, size: int) -> None:
        self.index, self.size = index, size
        self._memory, self._arena = memory, arena
        self.desc = arena.take(16 * size)
        self.driver = arena.take(6 + 2 * size)
        self.device = arena.take(6 + 8 * size)
        self._table = memory.view(self.desc, 16 * size)
        self._avail = memory.view(self.driver, 6 + 2 * size).cast("H")
        self._used = memory.view(self.device, 6 + 8 * size)
        self._used_words = self._used[: 4 + 8 * size].cast("H")
        self._event = self._used[4 + 8 * size :].cast("H")
        self.event_idx = False
        self.reset()

    def discard(self) -> None:
        """Give its memory back; the device must not know it any more."""
        self._arena.give(self.desc, 16 * self.size)
        self._arena.give(self.driver, 6 + 2 * self.size)
        self._arena.give(self.device, 6 + 8 * self.size)

    def reset(self) -> None:
        """As the queue is before its first request."""
        self._table[:] = bytes(len(self._table))
        self._used[:] = bytes(len(self._used))
        for at in range(len(self._avail)):
            self._avail[at] = 0
        #: requests under way, by their first descriptor
        self.pending: dict[int, Request] = {}
        self.free = list(range(self.size))
        #: what was offered and not published; used entries that were looked at
        self.offered = 0
        self.seen = 0
        self._kicked = 0

    # --- the rings, raw -------------------------------------------------------------------------

    def write_descriptor(
        self, index: int, address: int, length: int, flags: int = 0, following: int = 0
    ) -> None:
        """Any descriptor at any place of the table; values are cut to their fields."""
        self._table[16 * index : 16 * index + 16] = _DESCRIPTOR.pack(
            address & (1 << 64) - 1, length & 0xFFFF_FFFF, flags & 0xFFFF, following & 0xFFFF
        )

    @property
    def avail_flags(self) -> int:
        """1: the driver wants no interrupts (without event index)."""
        return self._avail[0]

    @avail_flags.setter
    def avail_flags(self, flags: int) -> None:
        self._avail[0] = flags

    @property
    def avail_idx(self) -> int:
        """Requests that were ever made available, modulo 65536."""
        return self._avail[1]

    @avail_idx.setter
    def avail_idx(self, index: int) -> None:
        self._avail[1] = index & 0xFFFF

    def write_avail(self, at: int, head: int) -> None:
        """Entry `at` of the available ring, modulo its size."""
        self._avail[2 + at % self.size] = head

    @property
    def used_event(self) -> int:
        """The used index at which the driver wants to be interrupted (§2.7.7)."""
        return self._avail[2 + self.size]

    @used_event.setter
    def used_event(self, index: int) -> None:
        self._avail[2 + self.size] = index & 0xFFFF

    @property
    def used_flags(self) -> int:
        """1: the device wants no notifications (without event index)."""
        return self._used_words[0]

    @property
    def used_idx(self) -> int:
        """Requests that the device has ever given back, modulo 65536."""
        return self._used_words[1]

    def used_entry(self, at: int) -> tuple[int, int]:
        """(first descriptor, bytes written) of entry `at` of the used ring."""
        head, written = _USED.unpack_from(self._used, 4 + 8 * (at % self.size))
        return head, written

    @property
    def avail_event(self) -> int:
        """The available index at which the device wants to be notified (§2.7.10)."""
        return self._event[0]

    # --- requests -------------------------------------------------------------------------------

    def lay_out(self, out: Sequence[bytes], in_: Sequence[int], indirect: bool = False) -> Request:
        """Buffers for a request, and the descriptors that name them. It is not offered yet."""
        count = len(out) + len(in_)
        if not count:
            raise ValueError("a request without buffers; give `out`, `in_` or both")
        if (1 if indirect else count) > len(self.free):
            raise MemoryError(
                f"queue {self.index}: {len(self.free)} of {self.size} descriptors free"
            )
        reads = [(self._arena.take(len(data)), len(data)) for data in out]
        writes = [(self._arena.take(size), size) for size in in_]
        for (address, _), data in zip(reads, out, strict=True):
            self._memory.write(address, data)
        flags = [0] * len(reads) + [WRITE] * len(writes)
        buffers = [(*buffer, flag) for buffer, flag in zip(reads + writes, flags, strict=True)]
        table = None
        if indirect:
            table = (self._arena.take(16 * count), 16 * count)
            self._memory.write(table[0], chain(buffers, range(count)))
            taken = [self.free.pop()]
            self.write_descriptor(taken[0], *table, INDIRECT)
        else:
            taken = [self.free.pop() for _ in range(count)]
            data = chain(buffers, taken)
            for at, index in enumerate(taken):
                self._table[16 * index : 16 * index + 16] = data[16 * at : 16 * at + 16]
        return Request(self._memory, reads, writes, taken, table)

    def offer(self, request: Request) -> None:
        """Put it into the available ring; `publish` lets the device see it."""
        if request.head in self.pending:
            raise ValueError("the request is under way already")
        request.done, request.written = False, 0
        self.pending[request.head] = request
        self._avail[2 + self.offered % self.size] = request.head
        self.offered = (self.offered + 1) & 0xFFFF

    def publish(self) -> None:
        """Move the available index behind all that was offered (§2.7.13.3)."""
        self._avail[1] = self.offered

    def kick_wanted(self) -> bool:
        """Whether the device wants to hear of what was published since it was last told (§2.7.13.4)."""
        before, self._kicked = self._kicked, self.offered
        if not self.event_idx:
            return not self._used_words[0] & 1
        event = self._event[0]
        return (self.offered - event - 1) & 0xFFFF < (self.offered - before) & 0xFFFF

    def take_used(self) -> list[Request]:
        """The requests that the device has given back since the last call, in its order.

        A device that gives back what it was not given raises AssertionError."""
        done = []
        while self.seen != self._used_words[1]:
            head, written = self.used_entry(self.seen)
            request = self.pending.pop(head, None)
            assert request is not None, (
                f"queue {self.index}: {head} was given back, but not offered"
            )
            room = sum(size for _, size in request.in_)
            assert written <= room, f"queue {self.index}: {written} bytes written into {room}"
            request.written, request.done = written, True
            self.seen = (self.seen + 1) & 0xFFFF
            done.append(request)
        return done

    def release(self, request: Request) -> None:
        """Its buffers and descriptors may be used again."""
        for address, size in request.out + request.in_:
            self._arena.give(address, size)
        if request.table is not None:
            self._arena.give(*request.table)
        self.free += request.descriptors


def chain(buffers: Sequence[tuple[int, int, int]], places: Sequence[int]) -> bytes:
    """Descriptors of (address, size, flags) in a row, to lie at the indices `places`."""
    last = len(buffers) - 1
    return b"".join(
        _DESCRIPTOR.pack(
            address, size, flags | (NEXT if at < last else 0), places[at + 1] if at < last else 0
        )
        for at, (address, size, flags) in enumerate(buffers)
    )
