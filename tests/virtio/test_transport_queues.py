"""The queues behind the transport: virtio 1.2 §2.6, §4.2.3.2."""

from __future__ import annotations

import pytest

from tests.virtio.sample import Sample, sample
from vmlab.errors import ConfigError
from vmlab.testing import Driver
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.registers import (
    RING_RESET,
    VERSION_1,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_queues_that_do_not_exist(raw: Driver) -> None:
    raw.start_over()
    raw.negotiate()
    for index in (2, 63, 64, 0xFFFF_FFFF):
        raw.write("QueueSel", index)
        assert (raw.read("QueueNumMax"), raw.read("QueueReady")) == (0, 0)
        raw.write("QueueNum", 16)
        raw.write("QueueReady", 1)
        assert raw.read("QueueReady") == 0
        raw.write("QueueReset", 1)
        raw.write("QueueNotify", index)
    assert len(raw.mistakes) == 16
    assert not raw.needs_reset()


def test_each_queue_has_registers_of_its_own(raw: Driver) -> None:
    for index, size in ((0, 16), (1, 4)):
        raw.write("QueueSel", index)
        raw.write("QueueNum", size)
        raw.write64("QueueDesc", 0x1_0000_1000 * (index + 1))
    assert raw.transport.r.QueueNum[:3] == [16, 4, 0]
    assert raw.transport.r.QueueDesc[:3] == [0x1_0000_1000, 0x2_0000_2000, 0]


@pytest.mark.parametrize(
    ("size", "desc", "message"),
    [
        (0, 0x1000, "queue 1: a queue of 0 entries"),
        (3, 0x1000, "queue 1: a queue of 3 entries"),
        (8, 0x1000, "queue 1: 8 entries; it can have 4"),
        (0xFFFF_FFFF, 0x1000, "entries; it can have 4"),
        (4, 0x1001, "not aligned to 16"),
        (4, 0xD000_0000, "is not in RAM"),
        (4, 0xFFFF_FFFF_FFFF_FFF0, "is not in RAM"),
    ],
)
def test_queues_that_make_no_sense(raw: Driver, size: int, desc: int, message: str) -> None:
    raw.start_over()
    raw.negotiate()
    raw.write("QueueSel", 1)
    raw.write("QueueNum", size)
    raw.write64("QueueDesc", desc)
    raw.write("QueueReady", 1)
    assert raw.read("QueueReady") == 0
    assert raw.needs_reset()
    assert message in raw.mistakes[-1]


def test_no_queue_before_features_ok(raw: Driver) -> None:
    raw.start_over()
    raw.write("QueueNum", 16)
    raw.write("QueueReady", 1)
    assert raw.read("QueueReady") == 0
    assert "QueueReady before FEATURES_OK" in raw.mistakes[-1]


def test_rings_do_not_move_while_they_are_in_use(driver: Driver) -> None:
    """§4.2.2.2: while QueueReady is not zero these registers MUST NOT be accessed."""
    driver.write("QueueSel", 0)
    driver.write("QueueNum", 2)
    for pair in ("QueueDesc", "QueueDriver", "QueueDevice"):
        driver.write64(pair, 0xDEAD_BEE0)
    driver.write("QueueReady", 1)  # again: nothing happens
    assert len(driver.mistakes) == 7
    for size in range(1, 300):
        assert driver.request(0, b"x" * size, size) == b"x" * size
    assert not driver.needs_reset()


def test_a_queue_is_stopped_and_started(driver: Driver) -> None:
    """§4.2.2.1: the device MUST NOT access virtqueue contents when QueueReady is zero."""
    driver.request(0, b"abc", 3)
    driver.write("QueueSel", 0)
    driver.write("QueueReady", 0)
    assert driver.read("QueueReady") == 0
    before = driver.memory.read(driver.rings[0].device, 64)
    driver.submit(0, b"abc", 3)
    driver.transport.rest(0)
    assert driver.memory.read(driver.rings[0].device, 64) == before
    assert driver.request(1, b"abc", 3) == b"abc"
    driver.rings[0].reset()
    driver.set_up_queue(0, 256)
    assert driver.request(0, b"abc", 3) == b"abc"
    assert sample(driver).seen[-1] == "queue 0"


def test_what_is_available_when_a_queue_starts_is_served(driver: Driver) -> None:
    driver.write("QueueSel", 1)
    driver.write("QueueReset", 1)
    ring = driver.rings[1]
    ring.reset()
    request = driver.submit(1, b"abc", 3, kick=False)
    driver.set_up_queue(1, 4)
    driver.wait(1, request)


def test_queue_reset(driver: Driver) -> None:
    """§2.6.1.1: the device MUST reset any state of the queue to the default. §4.2.2.1: it MUST present
    0 in both QueueReset and QueueReady when it is done."""
    for _ in range(5):
        driver.request(1, b"abc", 3)
    driver.write("QueueSel", 1)
    assert driver.read("QueueReset") == 0
    driver.write("QueueReset", 1)
    assert (driver.read("QueueReset"), driver.read("QueueReady")) == (0, 0)
    assert driver.request(0, b"abc", 3) == b"abc"
    # §2.6.1.2: on re-enabling, what has changed of the configuration counts
    driver.set_up_queue(1, 2)
    assert driver.transport.queues[1].size == 2
    assert driver.read("QueueReset") == 0
    assert driver.request(1, b"abc", 3) == b"abc"
    assert driver.mistakes == []
    driver.write("QueueReset", 0)
    assert driver.read("QueueReady") == 1


def test_queue_reset_has_to_be_negotiated() -> None:
    with Driver(Sample(), features=VERSION_1) as driver:
        assert not driver.features & RING_RESET
        driver.write("QueueSel", 0)
        driver.write("QueueReset", 1)
        assert driver.read("QueueReady") == 1
        assert "without VIRTIO_F_RING_RESET" in driver.mistakes[-1]


class Wide(Sample):
    queue_sizes = (4,) * 64  # type: ignore[assignment]


def test_as_many_queues_as_there_are_banks() -> None:
    with Driver(Wide()) as driver:
        assert len(driver.rings) == 64
        assert driver.request(63, b"abc", 3) == b"abc"
    device = Wide()
    device.queue_sizes = (4,) * 65  # type: ignore[assignment, misc]
    with pytest.raises(ConfigError, match="sample has 65 queues; 64 is the most"):
        MmioTransport(device)
