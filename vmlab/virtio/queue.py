"""Split virtqueues, the device's side (virtio 1.2 §2.7).

The driver writes every byte that is read here, and may change it at any moment. Each index, address
and length is checked when it is used; a ring that breaks the rules raises BrokenRing, which the
transport turns into NEEDS_RESET. No walk takes more than the queue's size of steps.
"""

from __future__ import annotations

import struct
import threading

from vmlab import arch
from vmlab.core.memory import GuestMemory, Region
from vmlab.renamed import Renamed

__all__ = ["MAX_QUEUE_SIZE", "BrokenRing", "Chain", "Virtqueue"]

#: §2.7: the queue size is a power of 2, at most 32768
MAX_QUEUE_SIZE = 32768
_DESCRIPTOR = struct.Struct("<QIHH")
_USED = struct.Struct("<II")
# descriptor flags (§2.7.5)
NEXT, WRITE, INDIRECT = 1, 2, 4
# ring flags (§2.7.6, §2.7.8)
NO_INTERRUPT, NO_NOTIFY = 1, 1
#: §2.7.5: no chain is longer, in bytes
MOST_BYTES = 1 << 32
#: x86 keeps stores, and loads, in their order; a fence is needed there only between a store and a load
IN_ORDER = arch.host() in ("x86_64", "i686")
_fence = threading.Lock()


def barrier() -> None:
    """A full memory barrier: taking a lock is an atomic operation. Twice, since on arm64 one taking
    and letting go may let an earlier store and a later load past each other inside."""
    with _fence:
        pass
    if not IN_ORDER:
        with _fence:
            pass


class BrokenRing(Exception):
    """The driver's ring makes no sense; the message says where. in_ring: in the available ring, and in none
    of the descriptors that it names."""

    def __init__(self, text: str, in_ring: bool = False) -> None:
        super().__init__(text)
        self.in_ring = in_ring


class Chain:
    """One request: guest memory that the device reads, then guest memory that it writes.

    The views are the guest's memory itself; their sizes are what the driver said, in bytes."""

    __slots__ = ("head", "readable", "writable")

    def __init__(self, head: int, readable: list[memoryview], writable: list[memoryview]) -> None:
        self.head = head
        self.readable = readable
        self.writable = writable

    @property
    def readable_size(self) -> int:
        return sum(map(len, self.readable))

    @property
    def writable_size(self) -> int:
        return sum(map(len, self.writable))

    def read(self, limit: int = 1 << 20) -> bytes:
        """All that the device may read, as one; at most `limit` bytes are copied."""
        if len(self.readable) == 1:
            return bytes(self.readable[0][:limit])
        taken, _ = split(self.readable, limit)
        return b"".join(taken)

    def write(self, data: bytes | memoryview) -> int:
        """Put `data` into what the device may write; returns how many bytes fitted."""
        at = 0
        for view in self.writable:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
            if at >= len(data):
                break
        return at


def split(views: list[memoryview], size: int) -> tuple[list[memoryview], list[memoryview]]:
    """(the first `size` bytes, the rest); where a driver cuts its buffers means nothing (§2.7.4)."""
    first: list[memoryview] = []
    for index, view in enumerate(views):
        if size < len(view):
            rest = [view[size:], *views[index + 1 :]]
            return ([*first, view[:size]] if size else first), rest
        first.append(view)
        size -= len(view)
    return first, []


class Virtqueue:
    """A queue that the driver has made ready.

    size: entries. desc, driver, device: guest-physical addresses of the three parts. All of them
    must lie in RAM and be aligned as §2.7 says, else BrokenRing. That they may overlap is the driver's
    own affair: nothing is believed that was read before.
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        desc: int,
        driver: int,
        device: int,
        event_idx: bool = False,
        indirect: bool = False,
    ) -> None:
        if not 0 < size <= MAX_QUEUE_SIZE or size & (size - 1):
            raise BrokenRing(f"a queue of {size} entries is no power of 2 up to {MAX_QUEUE_SIZE}")
        self.size = size
        #: where its parts are: descriptor table, driver area, device area
        self.areas = desc, driver, device
        self._memory = memory
        self._mask = size - 1
        self._event_idx = event_idx
        self._indirect = indirect
        self._desc = self._part("descriptor table", desc, 16 * size, 16)
        self._avail = self._part("driver area", driver, 6 + 2 * size, 2).cast("H")
        used = self._part("device area", device, 6 + 8 * size, 4)
        self._used_idx, self._used_ring = used[:4].cast("H"), used[4:]
        self._avail_event = used[4 + 8 * size :].cast("H")
        #: the next entry of the available ring that was not taken yet, and ours in the used ring
        self.next_avail = 0
        self.next_used = 0
        self._signalled = 0
        self._looked = (-1, -1)
        #: the available index when the device looked for requests last
        self.looked_at = 0
        # most buffers lie in RAM from 0 on: one comparison finds out
        low = memory.regions[0]
        self._low, self._low_end = low.buffer, low.end if low.base == 0 else -1

    def _part(self, what: str, address: int, size: int, alignment: int) -> memoryview:
        if address % alignment:
            raise BrokenRing(f"the {what} at {address:#x} is not aligned to {alignment}")
        return self._ram(what, address, size)

    def _ram(self, what: str, address: int, size: int, index: int = -1) -> memoryview:
        region: Region | None = self._memory.find(address, size)
        if region is None:
            what = what if index < 0 else f"{what} of descriptor {index}"
            raise BrokenRing(f"the {what} [{address:#x}, {address + size:#x}) is not in RAM")
        start = address - region.base
        return region.buffer[start : start + size]

    # --- taking requests ------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests that the driver has made available and nobody took."""
        count = (self._avail[1] - self.next_avail) & 0xFFFF
        if count > self.size:
            raise BrokenRing(f"{count} available entries in a ring of {self.size}", in_ring=True)
        return count

    def pop(self) -> Chain | None:
        """The next request; None when there is none."""
        avail, taken, size = self._avail, self.next_avail, self.size
        count = (avail[1] - taken) & 0xFFFF
        if not count:
            return None
        if count > size:
            raise BrokenRing(f"{count} available entries in a ring of {size}", in_ring=True)
        if not IN_ORDER:
            barrier()  # the index before the entry that it speaks of
        at = taken & self._mask
        head = avail[2 + at]
        if head >= size:
            raise BrokenRing(
                f"available entry {at} names descriptor {head} of {size}", in_ring=True
            )
        chain = self._walk(head)
        self.next_avail = (taken + 1) & 0xFFFF
        return chain

    def unpop(self, chain: Chain) -> None:
        """Put back the chain that `pop` gave last, untouched: it comes next."""
        self.next_avail = (self.next_avail - 1) & 0xFFFF

    def _walk(self, head: int) -> Chain:
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        table, entries, index = self._desc, self.size, head
        unpack, low, low_end = _DESCRIPTOR.unpack_from, self._low, self._low_end
        left, total, nested = self.size, 0, False
        while left:
            address, length, flags, following = unpack(table, 16 * index)
            if flags & INDIRECT:
                # this one is no buffer, and there is one table at most: it takes no step
                table, entries = self._enter(address, length, flags, nested)
                nested, index = True, 0
                continue
            end = address + length
            total += length
            view = (
                low[address:end] if end <= low_end else self._ram("buffer", address, length, index)
            )
            if flags & WRITE:
                writable.append(view)
            elif writable:
                raise BrokenRing(f"descriptor {index} is readable after a writable one")
            else:
                readable.append(view)
            if not flags & NEXT:
                if total > MOST_BYTES:
                    raise BrokenRing(f"the chain from descriptor {head} has {total:#x} bytes")
                return Chain(head, readable, writable)
            if following >= entries:
                raise BrokenRing(f"descriptor {index} goes on at {following} of {entries}")
            index = following
            left -= 1
        raise BrokenRing(
            f"the chain from descriptor {head} is longer than the queue of {self.size}"
        )

    def _enter(self, address: int, length: int, flags: int, nested: bool) -> tuple[memoryview, int]:
        """The indirect table that a descriptor names (§2.7.5.3). Its own WRITE flag means nothing."""
        if not self._indirect:
            raise BrokenRing("an indirect descriptor, which was not negotiated")
        if nested or flags & NEXT:
            raise BrokenRing("an indirect descriptor inside a table, or one that goes on")
        if not length or length % 16 or length // 16 > MAX_QUEUE_SIZE:
            raise BrokenRing(f"an indirect table of {length} bytes")
        return self._ram("indirect table", address, length), length // 16

    # --- giving them back -----------------------------------------------------------------------

    def push(self, chain: Chain, written: int) -> None:
        """The request is done; `written` bytes were put into its writable part."""
        if self._memory.on_write is not None:
            for view in chain.writable:
                self._memory.wrote_through(view)
        used = self.next_used
        _USED.pack_into(self._used_ring, (used & self._mask) << 3, chain.head, written)
        self.next_used = used = (used + 1) & 0xFFFF
        if not IN_ORDER:
            barrier()  # §2.7.8: the data and the entry before the index
        self._used_idx[1] = used

    def needs_interrupt(self) -> bool:
        """Whether the driver wants to hear of what was pushed since it was asked last (§2.7.7.2)."""
        before, self._signalled = self._signalled, self.next_used
        if before == self.next_used:
            return False
        barrier()
        if not self._event_idx:
            return not self._avail[0] & NO_INTERRUPT
        event = self._avail[2 + self.size]
        return (self.next_used - event - 1) & 0xFFFF < (self.next_used - before) & 0xFFFF

    def disable_notifications(self) -> None:
        """Ask the driver not to notify while we look anyway (§2.7.10)."""
        if not self._event_idx:
            self._used_idx[0] = NO_NOTIFY

    def enable_notifications(self) -> bool:
        """Ask for notifications again; True when there are requests to look at meanwhile."""
        if self._event_idx:
            self._avail_event[0] = self.next_avail
        else:
            self._used_idx[0] = 0
        # without it the driver could see the old wish, and we the old index: a notification lost
        barrier()
        waiting = self.waiting
        self.looked_at = (self.next_avail + waiting) & 0xFFFF
        return waiting > 0

    def has_progressed(self) -> bool:
        """Whether a request came or was taken since this was asked last."""
        now = (self.next_avail, self._avail[1])
        before, self._looked = self._looked, now
        return now != before

    # --- looking, for who asks how far the driver is --------------------------------------------

    @property
    def published(self) -> int:
        """The available index, as the driver wrote it."""
        return self._avail[1]

    @property
    def owes_notification(self) -> bool:
        """Whether something was published since the device looked, of which it wants to hear (§2.7.10)."""
        before, now = self.looked_at, self._avail[1]
        if now == before:
            return False
        if not self._event_idx:
            return not self._used_idx[0] & NO_NOTIFY
        return (now - self._avail_event[0] - 1) & 0xFFFF < (now - before) & 0xFFFF

    @property
    def used_index(self) -> int:
        """The used index, as it stands in memory: `next_used`, unless the driver wrote there."""
        return self._used_idx[1]

    @property
    def interrupts_unwanted(self) -> bool:
        """Whether the driver says so in the available ring's flags (§2.7.7)."""
        return not self._event_idx and bool(self._avail[0] & NO_INTERRUPT)

    @property
    def used_event(self) -> int | None:
        """The used index at which the driver wants an interrupt; None without VIRTIO_F_EVENT_IDX."""
        return self._avail[2 + self.size] if self._event_idx else None

    def look(self, index: int) -> Chain:
        """The chain that the available ring names for the available index `index`; it is not taken."""
        head = self._avail[2 + (index & self._mask)]
        if head >= self.size:
            text = f"available entry {index & self._mask} names descriptor {head} of {self.size}"
            raise BrokenRing(text, in_ring=True)
        return self._walk(head)

    def chain(self, head: int) -> Chain:
        """The chain that begins at a descriptor of the table; BrokenRing where it is none."""
        return self._walk(head)

    def descriptor(self, number: int) -> tuple[int, int, int, int]:
        """(address, length, flags, next) of a descriptor of the table."""
        return _DESCRIPTOR.unpack_from(self._desc, 16 * number)

    def available_entry(self, index: int) -> int:
        """The descriptor in the available ring for the available index `index`."""
        return self._avail[2 + (index & self._mask)]

    @property
    def available_ring(self) -> tuple[int, int]:
        """(flags, idx) as the driver wrote them."""
        return self._avail[0], self._avail[1]

    @property
    def used_ring(self) -> tuple[int, int]:
        """(flags, idx) as they stand in memory."""
        return self._used_idx[0], self._used_idx[1]

    @property
    def avail_event(self) -> int | None:
        """The available index of which the device wants to hear; None without VIRTIO_F_EVENT_IDX."""
        return self._avail_event[0] if self._event_idx else None

    def used_entry(self, index: int) -> tuple[int, int]:
        """(first descriptor, bytes written) in the used ring for the used index `index`."""
        head, written = _USED.unpack_from(self._used_ring, (index & self._mask) << 3)
        return head, written

    # what they were called
    quiet = Renamed("disable_notifications")
    listen = Renamed("enable_notifications")
    interrupt_wanted = Renamed("needs_interrupt")
    moved = Renamed("has_progressed")
    taken = Renamed("next_avail")
    used = Renamed("next_used")
