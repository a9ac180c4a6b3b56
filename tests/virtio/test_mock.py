"""The driver that ships for tests of one's own devices."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.core.device import Device, on_write
from vmlab.core.memory import GuestMemory
from vmlab.regs import Registers, rw
from vmlab.testing import DeviceHarness, Driver, DriverError
from vmlab.testing.rings import NEXT, WRITE, Arena
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.queue import Chain
from vmlab.virtio.registers import RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1

pytestmark = pytest.mark.usefixtures("no_leaks")

WAYS = [
    {},
    {"indirect": True},
    {"event_idx": True},
    {"indirect": True, "event_idx": True, "notify": "trap"},
    {"queue_size": 2},
]


class Echo(VirtioDevice):
    """Gives back what it reads, backwards."""

    type, device_id, queue_sizes = "virtio-echo", 63, (16, 4)

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(chain.read()[::-1])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_example_of_its_docstring(way: dict[str, object]) -> None:
    with Driver(Echo(), **way) as driver:  # type: ignore[arg-type]
        assert driver.request(0, out=[b"abc"], in_=[8]) == b"cba"
        assert driver.irq_count == 1
        assert driver.mistakes == []


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_requests_again_and_again(way: dict[str, object]) -> None:
    with Driver(Echo(), **way) as driver:  # type: ignore[arg-type]
        for size in range(1, 300):
            assert (
                driver.request(1, bytes([size % 256]) * size, size + 3)
                == bytes([size % 256]) * size
            )
        assert driver.irq_count == 299
        assert driver.mistakes == []
        traps = driver.counts.registers["QueueNotify"].writes
        assert (traps, driver.counts.kicks) == ((299, 0) if "notify" in way else (0, 299))


def test_many_in_flight_come_back_in_order() -> None:
    with Driver(Echo()) as driver:
        requests = [driver.submit(0, bytes([n]), 1, kick=False) for n in range(8)]
        driver.kick(0)
        done = driver.collect(0, 8, release=False)
        assert done == requests
        assert [one.result for one in done] == [bytes([n]) for n in range(8)]
        for one in done:
            driver.resubmit(0, one)
        driver.wait(0, done[5])
        assert len(driver.collect(0, 7)) == 7


def test_wait_leaves_what_else_is_done_to_collect() -> None:
    with Driver(Echo()) as driver:
        first, second = driver.submit(0, b"1", 1), driver.submit(0, b"2", 1)
        driver.wait(0, second)
        assert driver.collect(0) == [first]
        assert driver.poll(0) == 0


def test_every_buffer_and_descriptor_comes_back() -> None:
    with Driver(Echo(), "1M", indirect=True) as driver:
        for _ in range(100):
            driver.request(0, [b"x" * 1000] * 3, [5000, 5000])
        assert len(driver.rings[0].free) == 16
        driver.initialise()
        for _ in range(100):
            driver.submit(0, b"x" * 9000, 9000)
            driver.initialise()


def test_features_are_what_was_asked_for() -> None:
    with Driver(Echo(), features=VERSION_1) as driver:
        assert driver.features == driver.transport.negotiated == VERSION_1
    with Driver(Echo()) as driver:
        assert not driver.features & (RING_INDIRECT_DESC | RING_EVENT_IDX)
        assert driver.features | RING_INDIRECT_DESC | RING_EVENT_IDX == driver.offered()
    with pytest.raises(DriverError, match=r"does not take the features .* were not offered"):
        Driver(Echo(), features=VERSION_1 | 1 << 20)


def test_a_transport_and_memory_of_ones_own() -> None:
    memory = GuestMemory.allocate(1 << 20)
    transport = MmioTransport(Echo())
    with Driver(transport, memory) as driver:
        assert driver.transport is transport
        assert driver.request(0, b"abc", 3) == b"cba"
    assert memory.read(0, 4) == bytes(4)  # not closed: it is not the driver's
    memory.close()


class Silent(Echo):
    """Serves nothing."""

    def process(self, index: int) -> bool:
        return False

    def ready(self, index: int) -> bool:
        return False


def test_no_answer_is_an_error_in_time() -> None:
    with Driver(Silent(), timeout=0.05) as driver:
        began = time.monotonic()
        with pytest.raises(DriverError, match="virtio-echo: queue 0: no answer in time"):
            driver.request(0, b"abc", 3)
        assert time.monotonic() - began < 2


class Late(Echo):
    """Begins when it is told to."""

    def __init__(self) -> None:
        self.told = False

    def process(self, index: int) -> bool:
        return self.told and super().process(index)

    def ready(self, index: int) -> bool:
        return self.told

    def tell(self) -> None:
        self.told = True
        self.transport.wake(0)


def test_a_forgotten_interrupt_is_told_from_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MmioTransport, "_interrupt", lambda self, cause: None)
    device = Late()
    with Driver(device, timeout=0.3) as driver:
        driver.submit(0, b"abc", 3)
        timer = threading.Timer(0.1, device.tell)
        timer.start()
        with pytest.raises(DriverError, match="a request is done, but no interrupt came"):
            driver.collect(0)
        timer.join()


def test_an_answer_that_takes_its_time() -> None:
    device = Late()
    with Driver(device) as driver:
        driver.submit(0, b"abc", 3)
        timer = threading.Timer(0.05, device.tell)
        timer.start()
        assert driver.collect(0)[0].result == b"cba"
        assert driver.irq_count == 1
        timer.join()


def test_a_device_that_asks_for_a_reset_is_heard() -> None:
    with Driver(Echo()) as driver:
        ring = driver.rings[0]
        ring.write_descriptor(0, 1 << 40, 16, WRITE)
        ring.avail_idx = 1
        driver.kick(0)
        ring._kicked = 1
        driver.write("QueueNotify", 0)
        driver.wait_for(driver.needs_reset)
        with pytest.raises(DriverError, match=r"asks for a reset .*is not in RAM"):
            driver.collect(0)
        driver.initialise()
        assert driver.request(0, b"abc", 3) == b"cba"


class Liar(Echo):
    """Says that it has written more than there is room for."""

    def handle(self, index: int, chain: Chain) -> int:
        return chain.writable_size + 1


def test_a_device_that_lies_about_lengths_is_caught() -> None:
    with (
        Driver(Liar()) as driver,
        pytest.raises(AssertionError, match="queue 0: 4 bytes written into 3"),
    ):
        driver.request(0, b"abc", 3)


def test_a_device_that_gives_back_what_it_never_got_is_caught() -> None:
    with Driver(Echo()) as driver:
        queue = driver.transport.queues[0]
        queue.push(Chain(9, [], []), 0)
        with pytest.raises(AssertionError, match="9 was given back, but not offered"):
            driver.poll(0)


def test_configuration_fields_of_every_width() -> None:
    device = Echo()
    reads: list[tuple[int, int]] = []
    device.read_config = lambda offset, size: reads.append((offset, size)) or 0x11  # type: ignore[method-assign]
    with Driver(device) as driver:
        assert driver.read_config(0, 1) == 0x11
        assert driver.read_config(8, 8) == 0x11_0000_0011
        driver.write_config(0, 2, 7)
        assert driver.mistakes == ["2 bytes written to the configuration space at 0x0"]
    assert reads == [(0, 1), (8, 4), (12, 4)]


def test_a_queue_of_another_size_after_a_reset() -> None:
    with Driver(Echo(), queue_size=4) as driver:
        driver.queue_size = 16
        driver.initialise()
        assert driver.rings[0].size == 16
        assert driver.request(0, b"abc", 3) == b"cba"


def test_a_request_needs_a_buffer_and_a_descriptor() -> None:
    with Driver(Silent()) as driver:
        with pytest.raises(ValueError, match="without buffers"):
            driver.request(0)
        with pytest.raises(MemoryError, match="queue 1: 4 of 4 descriptors free"):
            driver.submit(1, [b"x"] * 5)
        one = driver.submit(0, b"x")
        with pytest.raises(ValueError, match="under way already"):
            driver.resubmit(0, one)


def test_a_raw_chain() -> None:
    with Driver(Echo()) as driver:
        ring, at = driver.rings[0], driver.arena.take(32)
        driver.memory.write(at, b"hello")
        ring.write_descriptor(3, at, 5, NEXT, 7)
        ring.write_descriptor(7, at + 16, 5, WRITE)
        ring.write_avail(0, 3)
        ring.avail_idx = 1
        driver.write("QueueNotify", 0)
        driver.wait_for(lambda: ring.used_idx == 1)
        assert ring.used_entry(0) == (3, 5)
        assert driver.memory.read(at + 16, 5) == b"olleh"


class Refuses(Echo):
    def attached(self) -> None:
        raise OSError("no such file")


def test_what_fails_leaves_nothing_behind() -> None:
    with pytest.raises(OSError, match="no such file"):
        Driver(Refuses())
    driver = Driver(Echo())
    driver.close()
    driver.close()


@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_an_arena_gives_what_it_has_once(seed: int, count: int) -> None:
    chance, arena = random.Random(seed), Arena(0x1000, 0x9000)
    held: dict[int, int] = {}
    for _ in range(count):
        if held and chance.random() < 0.4:
            at = chance.choice(list(held))
            arena.give(at, held.pop(at))
            continue
        size, alignment = chance.randrange(3000), chance.choice([16, 64, 4096])
        try:
            at = arena.take(size, alignment)
        except MemoryError:
            continue
        assert at % alignment == 0
        assert 0x1000 <= at
        assert at + size <= 0x9000
        assert all(at + size <= other or other + held[other] <= at for other in held)
        held[at] = max(size, 1)
    for at, size in held.items():
        arena.give(at, size)
    assert arena.take(0x8000) == 0x1000


class Gauge(Device):
    class regs(Registers):
        LEVEL = rw(0x00, "raises the line while it is not zero")
        SAY = rw(0x04, "puts out a byte")

    def irq_level(self) -> bool:
        return bool(self.r.LEVEL)

    @on_write("SAY")
    def say(self, value: int) -> None:
        self.output(bytes([value]))
        if value > 0x7F:
            self.mistake("no ASCII")


def test_a_socket_for_any_device() -> None:
    with DeviceHarness(Gauge()) as socket:
        socket.write(0, 4, 1)
        socket.write(0, 4, 1)
        assert socket.irq_count == 1
        socket.write(0, 4, 0)
        socket.write(4, 4, 0x41)
        socket.write(4, 4, 0xC1)
        assert socket.outputs == {0: b"A\xc1"}
        assert socket.mistakes == ["no ASCII"]
        assert socket.clock.running
        assert socket.device.counters.counts().writes == 5
        device = socket.device
    device.write(0, 4, 1)
    assert socket.irq_count == 1
