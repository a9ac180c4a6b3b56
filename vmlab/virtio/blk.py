"""What a block device and its driver say to each other (virtio 1.2 §5.2.3 to §5.2.6)."""

from __future__ import annotations

import struct

from vmlab.regs.packed import Packed, array, u8, u16, u32, u64
from vmlab.virtio.queue import BrokenRing, Chain, Virtqueue, split

SECTOR = 512
# request types (§5.2.6); NONE: there was no whole header
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, NONE = 0, 1, 4, 8, 11, 13, -1
NAMES = {
    IN: "read",
    OUT: "write",
    FLUSH: "flush",
    GET_ID: "get id",
    DISCARD: "discard",
    WRITE_ZEROES: "write zeroes",
}
# status values, and the flag of a range
OK, IOERR, UNSUPP = b"\0", b"\1", b"\2"
UNMAP = 1
# feature bits (§5.2.3)
F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_TOPOLOGY = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 10
F_CONFIG_WCE, F_DISCARD, F_WRITE_ZEROES = 1 << 11, 1 << 13, 1 << 14

#: bytes that one step moves; between two steps a reset can come in, so that a request of any length
#: (the driver may name the same memory again and again) does not hold it up
SLICE = 4 << 20
#: bytes of the identification
ID_SIZE = 20
QUEUE_SIZE = 256
#: sectors of one range and ranges of one request, as the configuration space says: 2 GiB together
RANGE_SECTORS, RANGES = 1 << 17, 32
#: the one field of the configuration space that a driver may write
WRITEBACK_OFFSET = 32

HEADER = struct.Struct("<IIQ")
RANGE = struct.Struct("<QII")


class Config(Packed):
    """§5.2.4"""

    capacity = u64("in sectors of 512 bytes")
    size_max = u32("bytes of one segment; not offered")
    seg_max = u32("segments of one request")
    geometry = array(4, "not offered")
    blk_size = u32("bytes of a block")
    physical_block_exp = u8("blocks in a physical block, as a power of two")
    alignment_offset = u8()
    min_io_size = u16("in blocks")
    opt_io_size = u32("in blocks")
    writeback = u8("1: writes may wait for a flush; 0: they are durable when they are done")
    unused0 = u8()
    num_queues = u16()
    max_discard_sectors = u32()
    max_discard_seg = u32()
    discard_sector_alignment = u32()
    max_write_zeroes_sectors = u32()
    max_write_zeroes_seg = u32()
    write_zeroes_may_unmap = u8()
    unused1 = array(3)


def layout(readonly: bool) -> Config:
    """The configuration space, but for the capacity."""
    config = Config(
        # the header and the status take a descriptor each
        seg_max=QUEUE_SIZE - 2,
        blk_size=SECTOR,
        # pages of 4 KiB: what the host's cache and most media work in
        physical_block_exp=3,
        min_io_size=8,
        num_queues=1,
    )
    if not readonly:
        config.max_discard_sectors = config.max_write_zeroes_sectors = RANGE_SECTORS
        config.max_discard_seg = config.max_write_zeroes_seg = RANGES
        config.discard_sector_alignment = 8
        config.write_zeroes_may_unmap = 1
    return config


class Request:
    """One request. data: what it moves, `size` bytes, less what was moved already, `done` bytes."""

    __slots__ = ("chain", "data", "done", "kind", "queue", "ranges", "sector", "size", "status")

    def __init__(self, queue: Virtqueue, chain: Chain) -> None:
        self.queue = queue
        self.chain = chain
        self.done = 0
        self.ranges: list[tuple[int, int, bool]] | None = None
        writable = chain.writable
        while writable and not writable[-1]:
            writable.pop()
        if not writable:
            raise BrokenRing("a request without room for its status (§5.2.6)")
        # the status is the last byte that the device may write, the header the first 16 that it may
        # read, wherever the driver cuts its buffers (§2.7.4)
        last = writable.pop()
        self.status = last[-1:]
        if len(last) > 1:
            writable.append(last[:-1])
        readable = chain.readable
        if readable and len(readable[0]) == HEADER.size:
            header: bytes | memoryview = readable[0]
            readable = readable[1:]
        else:
            parts, readable = split(readable, HEADER.size)
            header = b"".join(parts)
        if len(header) == HEADER.size:
            self.kind, _, self.sector = HEADER.unpack(header)
        else:
            self.kind, self.sector = NONE, 0
        self.data = writable if self.kind in (IN, GET_ID) else readable
        self.size = sum(map(len, self.data))

    def next(self) -> tuple[list[memoryview], int]:
        """What the next step moves, SLICE bytes at most."""
        size = self.size - self.done
        if size <= SLICE:
            return self.data, size
        first, self.data = split(self.data, SLICE)
        return first, SLICE

    def finish(self, status: bytes) -> int:
        """Write the status; returns how many bytes were written in a row from the first one on
        (§2.7.8.2)."""
        into = self.chain.writable
        if status is OK and self.kind == IN:
            written = self.size + 1
        elif (room := sum(map(len, into))) > SLICE:
            written = 0
        else:
            # zeroes, so that nobody takes for data what lay in the buffer before
            for view in split(into, self.done if self.kind == GET_ID else 0)[1]:
                view[:] = bytes(len(view))
            written = room + 1
        self.status[:] = status
        return written
