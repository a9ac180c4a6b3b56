"""Counters in one page of memory that two processes can share: looking costs the guest nothing.

Layout, little endian, in 64-bit words:

    word 0        magic, "VMLABCNT"
    word 1        version of this layout, 2
    word 2        words in the page
    word 3        generation: one more each time a block comes or goes (the reader's directory is stale)
    word 4        accesses that hit no device: reads          word 5   writes
    word 6        state of the machine (index into STATES)
    word 7        what the text screen's registers say, as its device packs them; 0: there is none
    word 8..263   interrupts raised, one word a line (GSI 0..255)
    word 264..519 interrupts the engine delivered, one word a line; all ones: it cannot tell
    word 520..775 the line's level now, 0 or 1
    word 776..    exits of each vCPU (0..255), 64 words a CPU: one a kind, by KVM's number of the reason
    word 17160..  blocks

A block belongs to one device, three words a row: reads, writes, bytes.

    row 0   accesses that hit no register, and bytes that did not
    row 1   pieces: reads and writes to take off, because one access took several registers
    row 2   kicks, mistakes, state (index into DEVICE_STATES)
    row 3.. one row a register, in the order of the device's table
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct

from vmlab.errors import ConfigError

__all__ = ["EXIT_KINDS", "Block", "CounterPage", "DeviceCounts", "DeviceState", "RegisterCounts"]

MAGIC = int.from_bytes(b"VMLABCNT", "little")
VERSION = 2
GENERATION, UNMAPPED_READS, UNMAPPED_WRITES, STATE, SCREEN = 3, 4, 5, 6, 7
RAISED, DELIVERED, LEVEL, EXITS = 8, 264, 520, 776
LINES = 256
CPUS = 256
#: kinds of exits; KVM has 40 reasons in Linux 6.18
EXIT_KINDS = 64
BLOCKS = EXITS + CPUS * EXIT_KINDS
#: a count that nobody can know
UNKNOWN = (1 << 64) - 1
ROW = 3
FIRST_REGISTER = 3


class DeviceState(StrEnum):
    """How far the guest is with a device; its place here is its word in the page."""

    ADDED = "added"
    SEEN = "seen"
    DRIVER_OK = "driver_ok"
    FAILED = "failed"
    REMOVING = "removing"


#: as plain text, which is what people and the wire get
DEVICE_STATES = tuple(state.value for state in DeviceState)
#: 1 MiB: about 37,000 registers
PAGE_SIZE = 1 << 20


class RegisterCounts(Struct, frozen=True):
    reads: int
    writes: int
    bytes: int


class DeviceCounts(Struct, frozen=True):
    """What one device has seen. reads and writes are accesses that trapped; kicks did not."""

    reads: int
    writes: int
    bytes: int
    kicks: int
    mistakes: int
    state: str
    registers: dict[str, RegisterCounts]

    @property
    def traps(self) -> int:
        return self.reads + self.writes

    @property
    def progress(self) -> str:
        """How far the guest is, a DEVICE_STATES: one that was accessed was seen, whatever the guest says."""
        return "seen" if self.state == DeviceState.ADDED and self.traps else self.state


class Block:
    """One device's words. `words` is the view that its accessors count in."""

    def __init__(
        self, page: CounterPage | None, start: int, words: memoryview, names: Sequence[str]
    ) -> None:
        self._page = page
        self.start = start
        self.words = words
        self.names = tuple(names)
        #: told of a new state
        self.on_state: Callable[[str], None] | None = None

    @classmethod
    def private(cls, names: Sequence[str]) -> Block:
        """A block of its own memory, for a device that no machine holds yet."""
        words = memoryview(bytearray(8 * cls.span(len(names)))).cast("Q")
        return cls(None, 0, words, names)

    @staticmethod
    def span(registers: int) -> int:
        """Words of the block of a device with so many registers."""
        return ROW * (FIRST_REGISTER + registers)

    def row(self, index: int) -> int:
        """The first word of the row of register `index`."""
        return ROW * (FIRST_REGISTER + index)

    def kick(self, count: int = 1) -> None:
        """A notification that never trapped (ioeventfd)."""
        self.words[2 * ROW] += count

    def mistake(self) -> None:
        self.words[2 * ROW + 1] += 1

    @property
    def state(self) -> str:
        """One of DEVICE_STATES."""
        return DEVICE_STATES[self.words[2 * ROW + 2]]

    @state.setter
    def state(self, state: str) -> None:
        new, at = DEVICE_STATES.index(state), 2 * ROW + 2
        if self.words[at] != new:
            self.words[at] = new
            if self.on_state is not None:
                self.on_state(state)

    def counts(self) -> DeviceCounts:
        w = self.words
        registers = {}
        reads, writes, size = w[0] - w[3], w[1] - w[4], w[2]
        for index, name in enumerate(self.names):
            at = self.row(index)
            one = RegisterCounts(w[at], w[at + 1], w[at + 2])
            reads, writes, size = reads + one.reads, writes + one.writes, size + one.bytes
            registers[name] = one
        return DeviceCounts(reads, writes, size, w[6], w[7], self.state, registers)

    def free(self) -> None:
        if self._page is not None:
            self._page.free(self)
            self._page = None


class CounterPage:
    """The page. One process allocates blocks in it; any number may read."""

    def __init__(self, buffer: memoryview | bytearray | None = None) -> None:
        self.words = (
            memoryview(bytearray(PAGE_SIZE) if buffer is None else buffer).cast("B").cast("Q")
        )
        self._free: list[tuple[int, int]] = [(BLOCKS, len(self.words) - BLOCKS)]

    def format(self) -> None:
        """Write the header (the owner does, once)."""
        self.words[0], self.words[1], self.words[2] = MAGIC, VERSION, len(self.words)

    @property
    def generation(self) -> int:
        return self.words[GENERATION]

    def outdate(self) -> None:
        """Readers' directories are stale."""
        self.words[GENERATION] += 1

    def allocate(self, names: Sequence[str]) -> Block:
        need = Block.span(len(names))
        for index, (start, size) in enumerate(self._free):
            if size >= need:
                if size == need:
                    del self._free[index]
                else:
                    self._free[index] = (start + need, size - need)
                words = self.words[start : start + need]
                for at in range(need):
                    words[at] = 0
                self.outdate()
                return Block(self, start, words, names)
        raise ConfigError(f"no room in the counter page for a device with {len(names)} registers")

    def attach(self, start: int, names: Sequence[str]) -> Block:
        """A reader's view of a block that the owner allocated at `start`."""
        need = Block.span(len(names))
        if not (BLOCKS <= start and start + need <= len(self.words)):
            raise ConfigError(f"counter block [{start}, {start + need}) is outside the page")
        return Block(None, start, self.words[start : start + need], names)

    def free(self, block: Block) -> None:
        self._free.append((block.start, len(block.words)))
        self._free.sort()
        merged: list[tuple[int, int]] = []
        for start, size in self._free:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((start, size))
        self._free = merged
        self.outdate()

    @property
    def screen(self) -> memoryview:
        """The word of the text screen."""
        return self.words[SCREEN : SCREEN + 1]

    def line(self, number: int) -> tuple[int, int | None, bool]:
        """(raised, delivered, level) of the interrupt line; delivered None: the engine cannot tell."""
        if not 0 <= number < LINES:
            raise ConfigError(f"no interrupt line {number}; the page counts 0 to {LINES - 1}")
        words = self.words
        delivered = words[DELIVERED + number]
        return (
            words[RAISED + number],
            None if delivered == UNKNOWN else delivered,
            bool(words[LEVEL + number]),
        )

    def exits_of(self, cpu: int) -> memoryview:
        """Where a vCPU's exits are counted. Each has its own words: two threads never share one."""
        if not 0 <= cpu < CPUS:
            raise ConfigError(f"no vCPU {cpu}; the page counts the exits of 0 to {CPUS - 1}")
        start = EXITS + cpu * EXIT_KINDS
        return self.words[start : start + EXIT_KINDS]

    def exits(self, cpus: int) -> int:
        """How often the first `cpus` vCPUs have left the guest."""
        return sum(self.words[EXITS : EXITS + cpus * EXIT_KINDS])

    def close(self) -> None:
        """Let go of the memory, so that its owner can unmap it."""
        self.words = memoryview(bytearray(8 * BLOCKS)).cast("Q")
