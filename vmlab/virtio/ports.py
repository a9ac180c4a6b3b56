"""What a console device and its driver say to each other (virtio 1.2 §5.3.3 to §5.3.6), and a port."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vmlab.regs.packed import Packed, u16, u32
from vmlab.virtio.queue import Chain, Virtqueue, split

# feature bits (§5.3.3)
F_SIZE, F_MULTIPORT, F_EMERG_WRITE = 1 << 0, 1 << 1, 1 << 2
# control events (§5.3.6.2)
DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY = 0, 1, 2, 3
CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = 4, 5, 6, 7

CONTROL = struct.Struct("<IHH")
SIZE = struct.Struct("<HH")

#: input that waits for the guest; what does not fit is refused
BACKLOG = 1 << 20
#: output taken in one step; between two steps a reset can come in
SLICE = 64 << 10


class Config(Packed):
    """§5.3.4"""

    cols = u16("characters in a line")
    rows = u16("lines")
    max_nr_ports = u32("ports that there can be")
    emerg_wr = u32("a character written here is output at once")


#: where a character may be written
EMERG_WR_OFFSET = 8


class Port:
    """One stream of bytes each way. plugged: the guest is told of it. guest_open, host_open: somebody
    listens there, here. cols, rows: the size of the window that shows it."""

    def __init__(self, number: int, cols: int, rows: int) -> None:
        self.number = number
        self.cols, self.rows = cols, rows
        self.plugged = True
        self.host_open = True
        self.guest_open = False
        #: input, and the next byte of it that the guest gets
        self._input = bytearray()
        self._at = 0
        #: output of a request that is not done
        self._under_way: tuple[Virtqueue, Chain, list[memoryview]] | None = None
        self.bytes_in = self.bytes_out = 0

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_under_way": None}

    def reset(self) -> None:
        """The driver begins anew. Input that waits goes on waiting: it was typed before the driver
        was there."""
        self.guest_open = False
        self._under_way = None

    def queue_reset(self) -> None:
        self._under_way = None

    # --- to the guest -----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes of input that the guest has not got."""
        return len(self._input) - self._at

    def put(self, data: bytes) -> int:
        """Take input; returns how much there was room for."""
        part = data[: BACKLOG - self.waiting]
        self._input += part
        return len(part)

    def fill(self, chain: Chain) -> int:
        """Give the guest as much as there is room for; returns how much."""
        count = chain.write(memoryview(self._input)[self._at :])
        self._at += count
        self.bytes_in += count
        # the front goes when it is the larger part: every byte is moved a bounded number of times
        if 2 * self._at >= len(self._input):
            del self._input[: self._at]
            self._at = 0
        return count

    # --- from the guest ---------------------------------------------------------------------------

    def drain(self, queue: Virtqueue, say: Callable[[bytes], None]) -> bool:
        """A step of output; False when there is none."""
        chain: Chain | None
        under_way, self._under_way = self._under_way, None
        if under_way is not None and under_way[0] is queue:
            _, chain, views = under_way
        else:
            chain = queue.pop()
            if chain is None:
                return False
            views = chain.readable
        first, rest = split(views, SLICE)
        data = b"".join(first)
        if data:
            self.bytes_out += len(data)
            say(data)
        if any(map(len, rest)):
            self._under_way = (queue, chain, rest)
        else:
            queue.push(chain, 0)
        return True
