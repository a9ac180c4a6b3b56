"""The virtio-mmio transport: virtio 1.2 §2.1 to §2.6, §3.1, §4.2."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from vmlab.errors import ConfigError
from vmlab.regs.packed import Packed, u8, u32, u64
from vmlab.testing import Driver, DriverError
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.placeholder import Placeholder
from vmlab.virtio.queue import Chain
from vmlab.virtio.registers import (
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    RING_RESET,
    VERSION_1,
    status_words,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

OK = 1 | 2 | FEATURES_OK | DRIVER_OK


class Config(Packed):
    capacity = u64("sectors")
    columns = u32("of the screen")
    mode = u8("writable")


class Sample(VirtioDevice):
    """Counts what is asked of it."""

    type, device_id, queue_sizes = "sample", 42, (256, 4)
    features = 1 | 2 | 1 << 50
    feature_needs = {2: 1}

    def __init__(self) -> None:
        self.config = Config(capacity=0x1_0000_0002, columns=80)
        self.seen: list[str] = []

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(chain.read() or b"\1" * chain.writable_size)

    def activate(self) -> None:
        self.seen.append("activate")

    def reset(self) -> None:
        self.seen.append("reset")

    def queue_reset(self, index: int) -> None:
        self.seen.append(f"queue {index}")


@pytest.fixture
def raw() -> Iterator[Driver]:
    """A driver that has done nothing yet."""
    with Driver(Sample(), initialise=False) as driver:
        yield driver


@pytest.fixture
def driver() -> Iterator[Driver]:
    with Driver(Sample()) as driver:
        yield driver


def sample(driver: Driver) -> Sample:
    assert isinstance(driver.device, Sample)
    return driver.device


# --- registers (§4.2.2) -------------------------------------------------------------------------


def test_what_it_is(raw: Driver) -> None:
    """§4.2.2.1: the device MUST return 0x74726976 in MagicValue, 2 in Version."""
    assert raw.read("MagicValue") == 0x7472_6976
    assert raw.read("Version") == 2
    assert raw.read("DeviceID") == 42
    assert raw.read("VendorID") == int.from_bytes(b"VMLB", "little")


def test_a_placeholder() -> None:
    """§4.2.2: DeviceID 0 is a window without a device."""
    with Driver(Placeholder(), initialise=False) as raw:
        assert (raw.read("MagicValue"), raw.read("DeviceID")) == (0x7472_6976, 0)
        assert raw.read("QueueNumMax") == 0
        with pytest.raises(DriverError, match="a placeholder"):
            raw.initialise()


def test_no_shared_memory_regions(raw: Driver) -> None:
    """§4.2.2: the length of a region that does not exist reads as 64 ones."""
    for region in (0, 1, 255):
        raw.write("SHMSel", region)
        for name in ("SHMLenLow", "SHMLenHigh", "SHMBaseLow", "SHMBaseHigh"):
            assert raw.read(name) == 0xFFFF_FFFF


def test_accesses_that_are_none_of_the_specification_do_nothing(raw: Driver) -> None:
    """§4.2.2.2: control registers are accessed with 32 bits, aligned."""
    before = raw.transport.peek()
    for offset in range(0x100):
        for size in (1, 2, 8):
            assert raw.transport.read(offset, size) == 0
            raw.transport.write(offset, size, 0xFFFF_FFFF_FFFF_FFFF)
    for offset in (0x00, 0x04, 0x08, 0x0C, 0x10, 0x34, 0x60, 0xB0, 0xFC):
        raw.transport.write(offset, 4, 0xFFFF_FFFF)  # read-only
    assert raw.transport.peek() == before


def test_write_only_registers_read_as_zero(raw: Driver) -> None:
    for row in raw.transport.regs.table:
        if row.access == "wo":
            assert raw.transport.read(row.offset, 4) == 0


# --- features (§2.2) ----------------------------------------------------------------------------


def test_the_device_offers_its_features_in_windows(raw: Driver) -> None:
    assert raw.offered() == 1 | 2 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 40 | 1 << 50
    raw.write("DeviceFeaturesSel", 2)
    assert raw.read("DeviceFeatures") == 0
    raw.write("DeviceFeaturesSel", 0xFFFF_FFFF)
    assert raw.read("DeviceFeatures") == 0


def refused(raw: Driver, features: int, mistake: str) -> None:
    """§2.2.1: the device MUST fail to set FEATURES_OK."""
    raw.start_over()
    with pytest.raises(DriverError, match="does not take the features"):
        raw.negotiate(features)
    assert raw.status == 3
    assert mistake in raw.mistakes[-1]


def test_features_that_cannot_be_accepted(raw: Driver) -> None:
    refused(raw, 0, "VIRTIO_F_VERSION_1 was not taken")
    refused(raw, 4, "VIRTIO_F_VERSION_1 was not taken")
    assert "features 0x4 were not offered" in raw.mistakes[-2]
    refused(raw, VERSION_1 | 2, "feature 0x2 was taken without 0x1")
    refused(raw, VERSION_1 | 1 << 41, "features 0x20000000000 were not offered")


def test_any_other_subset_is_accepted(raw: Driver) -> None:
    for features in (0, 1, 3, 1 << 50, 1 << 28, 1 << 29 | 1):
        raw.start_over()
        raw.negotiate(VERSION_1 | features)
        assert raw.transport.negotiated == VERSION_1 | features


def test_a_driver_that_was_refused_may_try_again_without_a_reset(raw: Driver) -> None:
    refused(raw, 2 | VERSION_1, "without")
    raw.negotiate(3 | VERSION_1)
    assert raw.status & FEATURES_OK


def test_features_are_settled_by_features_ok(driver: Driver) -> None:
    """§2.2: the only way to renegotiate is to reset the device."""
    before = driver.transport.negotiated
    driver.write("DriverFeaturesSel", 0)
    driver.write("DriverFeatures", 0)
    driver.status = driver.status
    assert driver.transport.negotiated == before
    assert "after FEATURES_OK" in driver.mistakes[-1]


def test_features_in_windows_that_do_not_exist(raw: Driver) -> None:
    raw.write("DriverFeaturesSel", 2)
    raw.write("DriverFeatures", 0)
    assert raw.mistakes == []
    raw.write("DriverFeatures", 1)
    assert "in window 2" in raw.mistakes[-1]


# --- Status (§2.1) ------------------------------------------------------------------------------


def test_the_steps_of_an_initialisation(raw: Driver) -> None:
    """§3.1.1, and what a user sees of it."""
    state = raw.transport.counters
    assert (raw.status, state.state) == (0, "added")
    raw.start_over()
    assert (raw.status, state.state) == (3, "seen")
    raw.negotiate()
    assert (raw.status, state.state) == (11, "seen")
    raw.set_up_queue(0, 16)
    raw.status |= DRIVER_OK
    assert (raw.status, state.state) == (15, "driver_ok")
    assert sample(raw).seen == ["reset", "activate"]
    raw.status |= FAILED
    assert (raw.status, state.state) == (15 | FAILED, "failed")
    raw.status = 0
    assert (raw.status, state.state) == (0, "seen")
    assert raw.mistakes == []


def test_no_bit_is_taken_back(driver: Driver) -> None:
    """§2.1.1: the driver MUST NOT clear a device status bit."""
    driver.status = 1
    assert driver.status == OK
    assert "takes back bits" in driver.mistakes[-1]
    assert driver.request(0, b"abc", 3) == b"abc"


def test_bits_that_mean_nothing(raw: Driver) -> None:
    raw.status = 0x1_0031
    assert raw.status == 1
    assert "bits that mean nothing" in raw.mistakes[-1]


def test_needs_reset_is_the_devices_own(driver: Driver) -> None:
    driver.status = OK | NEEDS_RESET
    assert driver.status == OK
    driver.status = NEEDS_RESET
    assert driver.status == OK


def test_driver_ok_needs_features_ok(raw: Driver) -> None:
    raw.status = 1 | 2 | DRIVER_OK
    assert raw.status == 3
    assert "DRIVER_OK without FEATURES_OK" in raw.mistakes[-1]


def test_nothing_is_served_before_driver_ok(raw: Driver) -> None:
    """§2.1.2: the device MUST NOT consume buffers or notify before DRIVER_OK."""
    raw.start_over()
    raw.negotiate()
    ring = raw.set_up_queue(0, 16)
    raw.set_up_queue(1, 4)
    request = raw.submit(0, b"abc", 3)
    assert "a notification while Status is" in raw.mistakes[-1]
    sample(raw).carrier.config_changed()
    assert (ring.used_idx, raw.irq_count, raw.read("InterruptStatus")) == (0, 0, 0)
    raw.status |= DRIVER_OK  # §3.1.1: what is in the queue by then counts, notified or not
    raw.wait(0, request)
    assert request.result == b"abc"


def test_nothing_is_served_after_failed(driver: Driver) -> None:
    driver.status |= FAILED
    driver.submit(0, b"abc", 3)
    assert driver.rings[0].used_idx == 0
    assert "a notification while Status is" in driver.mistakes[-1]
    driver.initialise()
    assert driver.request(0, b"abc", 3) == b"abc"


# --- a device that needs a reset (§2.1.2) -------------------------------------------------------


def test_needs_reset_is_told(driver: Driver) -> None:
    """§2.1.2: after it sets DEVICE_NEEDS_RESET the device MUST send a configuration change
    notification, if DRIVER_OK is set."""
    sample(driver).carrier.needs_reset("the disk is on fire")
    assert driver.status == OK | NEEDS_RESET
    assert driver.acknowledge() == 2
    assert driver.irq_count == 1
    assert driver.transport.counters.state == "failed"
    sample(driver).carrier.needs_reset("still")
    assert driver.irq_count == 1
    driver.status = OK | FAILED
    assert driver.status == OK | NEEDS_RESET | FAILED
    driver.initialise()
    assert driver.request(0, b"abc", 3) == b"abc"


def test_needs_reset_before_driver_ok_is_told_then(raw: Driver) -> None:
    raw.start_over()
    raw.negotiate()
    raw.write("QueueNum", 3)
    raw.write("QueueReady", 1)
    assert (raw.status, raw.irq_count) == (11 | NEEDS_RESET, 0)
    raw.status |= DRIVER_OK
    assert (raw.acknowledge(), raw.irq_count) == (2, 1)
    assert sample(raw).seen == ["reset"]


def test_a_broken_ring(driver: Driver) -> None:
    driver.rings[0].avail_idx = 1000
    driver.write("QueueNotify", 0)
    driver.wait_for(driver.needs_reset)
    assert driver.mistakes == ["queue 0: 1000 available entries in a ring of 256"]
    used = driver.rings[1].used_idx
    driver.submit(1, b"abc", 3)
    driver.transport.rest(1)
    assert driver.rings[1].used_idx == used


def test_a_ring_that_was_broken_before_the_start(raw: Driver) -> None:
    raw.start_over()
    raw.negotiate()
    ring = raw.set_up_queue(0, 16)
    ring.avail_idx = 0x8000
    assert raw.read("QueueReady") == 1
    raw.status |= DRIVER_OK
    raw.wait_for(raw.needs_reset)


class Raises(Sample):
    """Raises wherever it can."""

    where = ""

    def handle(self, index: int, chain: Chain) -> int:
        self.fail("handle")
        return super().handle(index, chain)

    def fail(self, where: str) -> None:
        if where == self.where:
            self.where = ""
            raise (SystemExit if where == "handle" else ValueError)(where)

    def activate(self) -> None:
        self.fail("activate")

    def reset(self) -> None:
        self.fail("reset")

    def queue_reset(self, index: int) -> None:
        self.fail("queue_reset")

    def read_config(self, offset: int, size: int) -> int:
        self.fail("read_config")
        return super().read_config(offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        self.fail("write_config")


@pytest.mark.parametrize(
    "where", ["handle", "activate", "reset", "queue_reset", "read_config", "write_config"]
)
def test_a_device_that_raises_breaks_itself_alone(
    where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    device = Raises()
    with Driver(device) as driver, Driver(Sample()) as other:
        device.where = where
        if where == "handle":
            driver.submit(0, b"abc", 3)
        elif where == "reset":
            driver.status = 0
        elif where == "activate":
            with pytest.raises(DriverError, match="asks for a reset at DRIVER_OK"):
                driver.initialise()
        elif where == "queue_reset":
            driver.write("QueueSel", 0)
            driver.write("QueueReady", 0)
        elif where == "read_config":
            assert driver.read_config(0, 4) == 0
        else:
            driver.write_config(0, 4, 1)
        driver.wait_for(driver.needs_reset)
        assert driver.mistakes[-1].startswith("the device failed: ")
        assert "Traceback" in capfd.readouterr().err
        assert other.request(0, b"abc", 3) == b"abc"
        driver.initialise()
        assert driver.request(0, b"abc", 3) == b"abc"


# --- queues (§2.6, §4.2.3.2) --------------------------------------------------------------------


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
    queue_sizes = (4,) * 64


def test_as_many_queues_as_there_are_banks() -> None:
    with Driver(Wide()) as driver:
        assert len(driver.rings) == 64
        assert driver.request(63, b"abc", 3) == b"abc"
    device = Wide()
    device.queue_sizes = (4,) * 65  # type: ignore[misc]
    with pytest.raises(ConfigError, match="sample has 65 queues; 64 is the most"):
        MmioTransport(device)


# --- reset (§2.4) -------------------------------------------------------------------------------


def test_a_reset_forgets_everything_but_the_generation(driver: Driver) -> None:
    """§2.4.1: device status becomes 0. §4.2.2.1: all bits in InterruptStatus and all ready bits are
    cleared, QueueReset is 0."""
    driver.request(0, b"abc", 3)
    sample(driver).carrier.config_changed()
    generation = driver.read("ConfigGeneration")
    driver.status = 0
    assert driver.status == 0
    assert driver.read("InterruptStatus") == 0
    assert driver.read("ConfigGeneration") == generation
    for index in (0, 1):
        driver.write("QueueSel", index)
        assert driver.read("QueueReady") == 0
    assert driver.transport.queues == {}
    assert driver.transport.negotiated == 0
    assert sample(driver).seen == ["reset", "activate", "reset"]


def test_after_a_reset_nothing_is_served_or_told(driver: Driver) -> None:
    """§2.4.1: the device MUST NOT send notifications or interact with the queues until the driver
    re-initializes it."""
    driver.status = 0
    before, irqs = driver.memory.read(0, 0x10000), driver.irq_count
    ring = driver.rings[0]
    ring.avail_idx = 1
    driver.write("QueueNotify", 0)
    sample(driver).carrier.wake(0)
    sample(driver).carrier.config_changed()
    driver.transport.rest(0)
    ring.avail_idx = 0
    assert driver.memory.read(0, 0x10000) == before
    assert (driver.irq_count, driver.read("InterruptStatus")) == (irqs, 0)


# --- interrupts (§4.2.3.4) ----------------------------------------------------------------------


def test_causes_stay_until_they_are_acknowledged(driver: Driver) -> None:
    """§4.2.2.1: each event's bit is set from the moment it takes place until the driver acknowledges
    it; other bits MUST be zero."""
    sample(driver).carrier.config_changed()
    request = driver.submit(0, b"abc", 3)
    driver.wait_for(lambda: driver.read("InterruptStatus") == 3)
    driver.write("InterruptACK", 2)
    assert driver.read("InterruptStatus") == 1
    driver.write("InterruptACK", 0xFFFF_FFFE)
    assert driver.read("InterruptStatus") == 1
    driver.write("InterruptACK", 1)
    assert driver.read("InterruptStatus") == 0
    driver.wait(0, request)


def test_no_interrupt_when_none_is_wanted(driver: Driver) -> None:
    ring = driver.rings[0]
    ring.avail_flags = 1
    driver.submit(0, b"abc", 3)
    driver.wait_for(lambda: driver.poll(0))
    driver.transport.rest(0)
    assert (driver.irq_count, driver.read("InterruptStatus")) == (0, 0)


def test_the_driver_need_not_notify_while_the_device_looks(driver: Driver) -> None:
    """§2.7.10: between two looks it must; the device says which it is."""
    assert driver.rings[0].used_flags == 0
    driver.request(0, b"abc", 3)
    assert driver.rings[0].used_flags == 0


# --- configuration (§2.5, §4.2.2.2) -------------------------------------------------------------


def test_the_configuration_is_readable_before_features_ok(raw: Driver) -> None:
    """§2.5.3: the device MUST allow reading of any field before FEATURES_OK is set."""
    assert raw.read_config(0, 8) == 0x1_0000_0002
    assert raw.read_config(4, 4) == 1
    assert raw.read_config(8, 4) == 80
    assert raw.read_config(8, 2) == 80
    assert raw.read_config(12, 1) == 0
    assert raw.read_config(0xEFC, 4) == 0
    assert raw.read_config(11, 4) == 0


def test_writes_to_it_are_the_devices_business(driver: Driver) -> None:
    driver.write_config(8, 4, 25)
    assert driver.read_config(8, 4) == 80
    assert driver.mistakes == ["4 bytes written to the configuration space at 0x8"]


def test_a_change_is_told_and_numbered(driver: Driver) -> None:
    before = driver.read("ConfigGeneration")
    sample(driver).config.columns = 132  # type: ignore[union-attr]
    sample(driver).carrier.config_changed()
    assert (driver.acknowledge(), driver.irq_count) == (2, 1)
    assert driver.read("ConfigGeneration") == before + 1
    assert driver.read("ConfigGeneration") == before + 1
    assert driver.read_config(8, 4) == 132


def test_a_change_amid_a_read_shows_before_it_is_told(driver: Driver) -> None:
    """§4.2.2.1: the device MUST change ConfigGeneration if there is any risk of a driver seeing an
    inconsistent state: here between the two halves of a field, before the device has said a word."""
    config: Any = sample(driver).config
    before = driver.read("ConfigGeneration")
    low = driver.transport.read(0x100, 4)
    config.capacity = 0x7_0000_0009
    high = driver.transport.read(0x104, 4)
    assert low | high << 32 not in (0x1_0000_0002, 0x7_0000_0009)
    assert driver.read("ConfigGeneration") != before
    assert driver.read_config(0, 8) == 0x7_0000_0009


def test_looking_does_not_number_a_change(driver: Driver) -> None:
    before = driver.transport.peek("ConfigGeneration")
    sample(driver).config.columns = 132  # type: ignore[union-attr]
    assert driver.transport.peek("ConfigGeneration") == before
    assert driver.read("ConfigGeneration") == before + 1


def test_the_generation_wraps(driver: Driver) -> None:
    driver.transport.r.ConfigGeneration = 0xFFFF_FFFF
    sample(driver).carrier.config_changed()
    assert driver.read("ConfigGeneration") == 0


# --- around it ----------------------------------------------------------------------------------


def test_doorbells_or_traps() -> None:
    with Driver(Sample()) as driver:
        assert [(bell[0], bell[1], bell[2]) for bell in driver.transport.doorbells()] == [
            (0x50, 4, 0),
            (0x50, 4, 1),
        ]
        driver.request(1, b"abc", 3)
        counts = driver.counts
        assert (counts.kicks, counts.registers["QueueNotify"].writes) == (1, 0)
    device = Sample()
    device.choose_notify("trap")
    with Driver(device) as driver:
        driver.request(1, b"abc", 3)
        counts = driver.counts
        assert (counts.kicks, counts.registers["QueueNotify"].writes) == (0, 1)
    with pytest.raises(ConfigError, match="notify='loud'"):
        device.choose_notify("loud")


def test_a_device_travels_and_starts_afresh() -> None:
    with Driver(Sample()) as driver:
        driver.request(0, b"abc", 3)
        copy = pickle.loads(pickle.dumps(driver.transport))
    assert copy.device.carrier is copy
    assert (copy.type, copy.read(0x70, 4), copy.queues) == ("sample", 0, {})
    with Driver(copy) as driver:
        assert driver.request(0, b"abc", 3) == b"abc"


def test_a_transport_that_is_not_plugged_in() -> None:
    transport = MmioTransport(Sample())
    for register, value in (("Status", 3), ("DriverFeaturesSel", 1), ("DriverFeatures", 1)):
        transport.write(transport.regs.by_name[register].offset, 4, value)
    transport.write(0x70, 4, 11)
    transport.write(0x38, 4, 4)
    transport.write(0x44, 4, 1)
    assert transport.read(0x70, 4) == 11 | NEEDS_RESET
    transport.write(0x44, 4, 0)
    transport.write(0x50, 4, 0)
    transport.write(0x70, 4, 0)
    transport.reset()
    assert transport.read(0x70, 4) == 0


def test_a_device_can_be_plugged_in_again() -> None:
    device = Sample()
    for _ in range(3):
        with Driver(device) as driver:
            assert driver.request(0, b"abc", 3) == b"abc"
        assert driver.transport.queues == {}
    transport = driver.transport
    transport.write(0x50, 4, 0)  # a late access, after the device was unplugged
    transport.write(0x70, 4, 0)


def test_what_peek_shows(driver: Driver) -> None:
    driver.request(0, b"abc", 3)
    shown = driver.transport.inspect()
    assert shown["status"] == "ACKNOWLEDGE|DRIVER|DRIVER_OK|FEATURES_OK"
    assert shown["queues"][0] == {"index": 0, "size": 256, "taken": 1, "used": 1}
    assert shown["capacity"] == 0x1_0000_0002
    assert shown["features"] == f"{driver.features:#x}"
    assert (status_words(0), status_words(0xC0)) == ("0", "DEVICE_NEEDS_RESET|FAILED")


def test_peek_has_no_side_effect(driver: Driver) -> None:
    sample(driver).carrier.config_changed()
    assert driver.transport.peek() == driver.transport.peek()
    assert driver.transport.peek("InterruptStatus") == 2


def test_a_removal_under_way_stays_one(driver: Driver) -> None:
    """The guest was asked to let the device go: what else it does with it changes nothing."""
    driver.transport.counters.state = "removing"
    driver.initialise()
    driver.status |= FAILED
    assert driver.transport.counters.state == "removing"


def test_a_device_may_have_no_queues_and_no_configuration() -> None:
    class Bare(VirtioDevice):
        type, device_id = "bare", 60

    with Driver(Bare()) as driver:
        assert driver.read_config(0, 4) == 0
        assert driver.status == OK
        assert driver.transport.inspect()["queues"] == []
        assert repr(driver.device) == "<Bare bare>"
        with pytest.raises(NotImplementedError):
            driver.device.handle(0, Chain(0, [], []))
        assert not driver.device.process(0)
