"""A guest that does random things to a virtio device, and what must hold whatever it does.

Nothing raises, nothing outside guest RAM changes, everything ends, and after a reset the device works.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tests.fuzz.guarded import Guarded
from tests.fuzz.subjects import Subject, subject
from vmlab.testing import Driver, DriverError
from vmlab.testing.rings import Ring
from vmlab.virtio.mmio import MmioTransport

__all__ = ["Broken", "episode"]

#: seconds that a turn of the device, or a reset, may take
PATIENCE = 20.0
OFFSETS = [row.offset for row in MmioTransport.regs.table if row.access != "block"]
WRITABLE = [
    row.offset for row in MmioTransport.regs.table if row.writable and row.access != "block"
]
NOTIFY = MmioTransport.regs.QueueNotify.offset
CONFIG = MmioTransport.regs.Config.offset
VALUES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 64, 128, 0xFF, 0x100, 0x1000, 0x7FFF, 0x8000, 0xFFFF]
VALUES += [0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_F000, 0xFFFF_FFFF]
STATUSES = [0, 1, 3, 11, 15, 15, 15, 0x40, 0x4F, 0x80, 0x8F, 0x10, 0xFF, 0x100, 0xFFFF_FFFF]

#: actions between two looks at the device
ROUND = 40
#: how often a guest does what, by its mood: one that pokes at registers, one that ruins its rings, one
#: that nearly behaves
MOODS = [
    {
        "read_register": 14,
        "write_register": 14,
        "touch_config": 6,
        "write_status": 2,
        "plausible": 4,
        "notify": 4,
    },
    {
        "write_descriptor": 20,
        "write_ring": 10,
        "write_buffer": 4,
        "write_anywhere": 2,
        "plausible": 10,
        "notify": 6,
        "notify_and_wait": 1,
        "read_register": 4,
    },
    {
        "plausible": 20,
        "write_buffer": 4,
        "notify": 6,
        "notify_and_wait": 3,
        "read_register": 4,
        "touch_config": 2,
    },
]


class Broken(AssertionError):
    """An invariant does not hold; the message says which and how to see it again."""


def episode(name: str, seed: int, operations: int, guarded: Guarded) -> int:
    """One life of a device `name`, about `operations` long; how many there really were."""
    chance = random.Random(f"{name} {seed}")
    try:
        with subject(name) as made:
            return Guest(made, chance, guarded).live(operations)
    except Exception as error:
        raise Broken(
            f"{type(error).__name__}: {error}; again: python -m tests.fuzz --device {name}"
            f" --seed {seed} --episodes 1 --length {operations}"
        ) from error


class Guest:
    def __init__(self, made: Subject, chance: random.Random, guarded: Guarded) -> None:
        self.subject, self.chance, self.guarded = made, chance, guarded
        self.memory = guarded.memory
        self.low = self.memory.regions[0].end
        made.device.notify = chance.choice(["trap", "ioeventfd"])
        self.driver = Driver(
            made.device,
            self.memory,
            indirect=chance.random() < 0.5,
            event_idx=chance.random() < 0.5,
            queue_size=chance.choice([1, 2, 4, 16, 16, 64, 256]),
            timeout=0.2,  # another vCPU may undo what this one does
            initialise=False,
        )
        self.mutations = 0
        self.moods = [self.actions(weights) for weights in MOODS]

    def actions(self, weights: dict[str, int]) -> list[Callable[[], None]]:
        return [getattr(self, name) for name, weight in weights.items() for _ in range(weight)]

    # --- a life ---------------------------------------------------------------------------------

    def live(self, operations: int) -> int:
        chance, driver = self.chance, self.driver
        try:
            self.start()
            other = self.second_vcpu(operations // 4) if chance.random() < 0.1 else None
            while self.done() < operations:
                for action in chance.choices(chance.choice(self.moods), k=ROUND):
                    action()
                if chance.random() < 0.2:
                    self.subject.stir()
                # a device that has given up learns nothing more
                if chance.random() < (0.02 if driver.transport.running else 0.8):
                    self.start()
            if other is not None:
                other.join(PATIENCE)
                assert not other.is_alive(), "the second vCPU hangs"
            self.verify()
            return self.done()
        finally:
            driver.close()

    def done(self) -> int:
        """Register accesses and notifications as the device counted them, and changes of memory."""
        counts = self.driver.counts
        return counts.traps + counts.kicks + self.mutations

    def start(self) -> None:
        """As a good driver starts; it may fail with what the memory holds now."""
        try:
            self.driver.initialise()
        except DriverError:
            pass

    def verify(self) -> None:
        driver = self.driver
        driver.queue_size, driver.timeout = 16, PATIENCE
        before = time.monotonic()
        driver.initialise()
        self.subject.good(driver)
        took = time.monotonic() - before
        assert took < PATIENCE, f"a reset and a request took {took:.1f} s"
        failed = [text for text in driver.mistakes if "the device failed" in text]
        assert not failed, failed[0]
        self.guarded.check()

    def second_vcpu(self, accesses: int) -> threading.Thread:
        """Another thread that uses the registers at the same time."""
        mine = random.Random(self.chance.random())
        transport, queues = self.driver.transport, len(self.subject.device.queue_sizes)

        def run() -> None:
            for _ in range(accesses):
                kind = mine.random()
                if kind < 0.4:
                    transport.read(mine.choice(OFFSETS), 4)
                elif kind < 0.7:
                    transport.write(mine.choice(WRITABLE), 4, mine.choice(VALUES))
                elif kind < 0.95:
                    transport.write(NOTIFY, 4, mine.randrange(queues))
                else:
                    transport.write(0x70, 4, mine.choice(STATUSES))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    # --- registers ------------------------------------------------------------------------------

    def read_register(self) -> None:
        chance = self.chance
        at = chance.choice(OFFSETS) if chance.random() < 0.9 else chance.randrange(0x1000)
        self.driver.transport.read(at, 4 if chance.random() < 0.9 else chance.choice([1, 2, 8]))

    def write_register(self) -> None:
        chance = self.chance
        at = chance.choice(WRITABLE)
        if at == 0x70 and chance.random() < 0.9:
            return
        size = 4
        if chance.random() < 0.1:
            at, size = chance.randrange(0x1000), chance.choice([1, 2, 4, 8])
        self.driver.transport.write(at, size, self.value())

    def value(self) -> int:
        kind = self.chance.random()
        if kind < 0.6:
            return self.chance.choice(VALUES)
        return self.chance.getrandbits(32) if kind < 0.8 else self.address() & 0xFFFF_FFFF

    def touch_config(self) -> None:
        chance = self.chance
        size = chance.choice([1, 2, 4, 8])
        at = CONFIG + (chance.randrange(64) if chance.random() < 0.9 else chance.randrange(0xEF8))
        if chance.random() < 0.5:
            self.driver.transport.read(at, size)
        else:
            self.driver.transport.write(at, size, self.value())

    def write_status(self) -> None:
        self.driver.transport.write(0x70, 4, self.chance.choice(STATUSES))

    # --- memory ---------------------------------------------------------------------------------

    def ring(self) -> Ring | None:
        rings = self.driver.rings
        return rings[self.chance.randrange(len(rings))] if rings else None

    def address(self) -> int:
        chance, kind = self.chance, self.chance.random()
        if kind < 0.7:
            return chance.randrange(self.low)
        if kind < 0.85:
            return chance.randrange(0x1000, self.low, 0x1000)
        edges = [0, self.low - 1, self.low, 1 << 32, (1 << 32) - 1, (1 << 32) + 0xFFFF, 0xD000_0000]
        return chance.choice([*edges, (1 << 32) + 0x1_0000, 1 << 63, (1 << 64) - 1, (1 << 64) - 16])

    def write_descriptor(self) -> None:
        ring, chance = self.ring(), self.chance
        if ring is None:
            return
        length = chance.choice(
            [0, 1, 12, 16, 32, 512, 513, 4096, 0xFFFF_FFFF, chance.getrandbits(12)]
        )
        flags = chance.choice([0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 0xFFFF])
        following = chance.randrange(ring.size) if chance.random() < 0.95 else chance.choice(VALUES)
        ring.write_descriptor(chance.randrange(ring.size), self.address(), length, flags, following)
        self.mutations += 1

    def write_ring(self) -> None:
        ring, chance = self.ring(), self.chance
        if ring is None:
            return
        kind = chance.random()
        if kind < 0.5:
            ring.avail_idx += 1
        elif kind < 0.55:
            ring.avail_idx = chance.choice([0, 1, ring.avail_idx + ring.size + 1, 0xFFFF])
        elif kind < 0.85:
            head = chance.randrange(ring.size) if chance.random() < 0.95 else 0xFFFF
            ring.write_avail(chance.randrange(ring.size), head)
        elif kind < 0.95:
            ring.used_event = chance.getrandbits(16)
        else:
            ring.avail_flags = chance.choice([0, 1, 0xFFFF])
        self.mutations += 1

    def write_buffer(self) -> None:
        """Something that looks like a request, somewhere."""
        headers = self.subject.headers
        if headers:
            data = self.chance.choice(headers)
            self.memory.write(self.chance.randrange(self.low - len(data)), data)
            self.mutations += 1

    def write_anywhere(self) -> None:
        data = self.chance.randbytes(self.chance.choice([1, 2, 8, 64]))
        self.memory.write(self.chance.randrange(self.low - 64), data)
        self.mutations += 1

    def plausible(self) -> None:
        """A chain that a device can begin with: a request's header, then buffers."""
        ring, chance = self.ring(), self.chance
        if ring is None or ring.size < 4:
            return
        head = chance.randrange(ring.size - 3)
        at = chance.randrange(0x1000, self.low - 0x4000, 16)
        header = chance.choice(self.subject.headers or (b"",))
        self.memory.write(at, header)
        size = chance.choice([len(header), len(header), 12, 16, 0])
        ring.write_descriptor(head, at, size, 1, head + 1)
        flags = chance.choice([1, 3])
        ring.write_descriptor(
            head + 1, at + 0x1000, chance.choice([0, 16, 512, 4096, 8192]), flags, head + 2
        )
        ring.write_descriptor(head + 2, at + 0x3000, chance.choice([0, 1, 2, 16]), 2)
        index = ring.avail_idx
        ring.write_avail(index, head)
        ring.avail_idx = index + 1
        self.mutations += 6

    # --- notifications --------------------------------------------------------------------------

    def notify(self) -> None:
        queues = len(self.subject.device.queue_sizes)
        index = self.chance.randrange(queues) if self.chance.random() < 0.95 else self.value()
        self.driver.socket.write(NOTIFY, 4, index)

    def notify_and_wait(self) -> None:
        for index in range(len(self.subject.device.queue_sizes)):
            self.driver.socket.write(NOTIFY, 4, index)
        worker = self.driver.transport._worker
        deadline = time.monotonic() + PATIENCE
        with worker._turn:
            while worker._busy is not None or (worker._due and worker._open):
                assert time.monotonic() < deadline, "the device does not come to rest"
                worker._turn.wait(0.01)  # a reset by another vCPU ends it without a word
