"""What every virtio device of the catalogue owes its driver, whatever it does."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator

import pytest

from tests.fuzz.subjects import Subject, names, subject
from vmlab.testing import Driver
from vmlab.virtio.queue import MAX_QUEUE_SIZE
from vmlab.virtio.registers import DRIVER_OK, FEATURES_OK, TRANSPORT_FEATURES, VERSION_1

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=names())
def made(request: pytest.FixtureRequest, no_leaks: None) -> Iterator[Subject]:
    with subject(request.param) as one:
        yield one


@pytest.mark.parametrize(
    "way",
    [
        {},
        {"indirect": True},
        {"event_idx": True},
        {"indirect": True, "event_idx": True, "notify": "trap"},
        {"features": VERSION_1},
    ],
    ids=str,
)
def test_a_good_request(made: Subject, way: dict[str, object]) -> None:
    with Driver(made.device, **way) as driver:  # type: ignore[arg-type]
        for _ in range(3):
            made.good(driver)
        assert driver.mistakes == []
        driver.initialise()
        made.good(driver)


def test_what_it_says_of_itself(made: Subject) -> None:
    device = made.device
    assert device.type.startswith("virtio-")
    assert device.device_id > 0
    assert len(device.queue_sizes) > 0
    for size in device.queue_sizes:  # §2.7: a power of 2
        assert 0 < size <= MAX_QUEUE_SIZE
        assert not size & (size - 1)
    with Driver(device, initialise=False) as driver:
        # §6: bits 0 to 23 and 50 to 127 are the device's, the others are the transport's
        own = driver.offered() & ~TRANSPORT_FEATURES
        assert not own & sum(1 << bit for bit in range(24, 50))
        # §2.2.1: MUST NOT offer a feature which requires another that was not offered
        for feature, needed in device.feature_needs.items():
            assert not feature & own or not needed & ~own


def test_each_feature_alone_is_taken_or_refused(made: Subject) -> None:
    """§2.2.1: the device SHOULD accept any valid subset."""
    with Driver(made.device, initialise=False) as driver:
        for bit in range(64):
            if not driver.offered() >> bit & 1:
                continue
            feature = 1 << bit | VERSION_1
            driver.start_over()
            driver.write("DriverFeaturesSel", 0)
            driver.write("DriverFeatures", feature & 0xFFFF_FFFF)
            driver.write("DriverFeaturesSel", 1)
            driver.write("DriverFeatures", feature >> 32)
            driver.status |= FEATURES_OK
            needed = made.device.feature_needs.get(1 << bit, 0)
            assert bool(driver.status & FEATURES_OK) == (not needed & ~feature), bit


def test_the_configuration_can_be_read_before_features_ok(made: Subject) -> None:
    """§2.5.3. Every byte has one value, however wide the access."""
    with Driver(made.device, initialise=False) as driver:
        single = bytes(driver.read_config(at, 1) for at in range(128))
        for size in (2, 4, 8):
            for at in range(0, 128, size):
                value = driver.read_config(at, size)
                assert value.to_bytes(size, "little") == single[at : at + size]
        assert driver.read_config(0xEFC, 4) == 0
        assert not driver.needs_reset()


def test_looking_changes_nothing(made: Subject) -> None:
    with Driver(made.device) as driver:
        made.good(driver)
        before = driver.transport.peek(), driver.transport.inspect(), driver.counts
        assert before == (driver.transport.peek(), driver.transport.inspect(), driver.counts)


def test_nothing_happens_before_driver_ok(made: Subject) -> None:
    """§2.1.2: no buffer is consumed and no notification sent."""
    with Driver(made.device, initialise=False) as driver:
        driver.start_over()
        driver.negotiate()
        for index, size in enumerate(made.device.queue_sizes):
            ring = driver.set_up_queue(index, min(size, 16))
            ring.write_descriptor(0, 0x800, 64, 2 if index % 2 == 0 else 0)
            ring.avail_idx = 1
            driver.write("QueueNotify", index)
        made.stir()
        before = driver.memory.read(0, driver.memory.size)
        assert driver.irq_count == 0
        assert driver.memory.read(0, driver.memory.size) == before
        assert not driver.status & DRIVER_OK


def test_after_a_reset_guest_memory_is_left_alone(made: Subject) -> None:
    """§2.4.1."""
    with Driver(made.device) as driver:
        made.good(driver)
        for index, ring in driver.rings.items():
            ring.write_descriptor(0, 0x800, 64, 2)
            ring.write_avail(ring.avail_idx, 0)
            ring.avail_idx += 1
            driver.write("QueueNotify", index)
        driver.status = 0
        before, edges = driver.memory.read(0, driver.memory.size), driver.irq_count
        for index in driver.rings:
            driver.write("QueueNotify", index)
            driver.transport.wake(index)
        made.stir()
        assert driver.memory.read(0, driver.memory.size) == before
        assert driver.irq_count == edges


def test_each_queue_alone_can_be_reset(made: Subject) -> None:
    """§2.6.1."""
    with Driver(made.device) as driver:
        for index, ring in list(driver.rings.items()):
            driver.write("QueueSel", index)
            driver.write("QueueReset", 1)
            assert driver.read("QueueReady") == 0
            ring.reset()
            driver.set_up_queue(index, ring.size)
            made.good(driver)


def test_it_travels_before_and_after_use(made: Subject) -> None:
    """To the monitor process, as `vm.hot_add` sends it."""
    copy = pickle.loads(pickle.dumps(made.device))
    assert copy.device_id == made.device.device_id
    with Driver(made.device) as driver:
        made.good(driver)
    pickle.dumps(made.device)


def test_it_can_be_plugged_in_again(made: Subject) -> None:
    for _ in range(3):
        with Driver(made.device) as driver:
            made.good(driver)


def test_writes_all_over_its_registers(made: Subject) -> None:
    """Every register, every width, values of all kinds: nothing raises, and a reset helps."""
    chance = random.Random(1)
    with Driver(made.device) as driver:
        for offset in range(0x180):
            for size in (1, 2, 4, 8):
                driver.transport.write(offset, size, chance.getrandbits(8 * size))
                driver.transport.read(offset, size)
        driver.initialise()
        made.good(driver)
