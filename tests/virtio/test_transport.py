"""The virtio-mmio transport, and how a driver comes to terms with it: virtio 1.2 §2.1, §2.2, §4.2.2."""

from __future__ import annotations

import pickle

import pytest

from tests.virtio.sample import OK, Sample, sample
from vmlab.errors import ConfigError
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
    VERSION_1,
    status_words,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


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
    sample(raw).transport.config_changed()
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
    assert copy.device.transport is copy
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
    sample(driver).transport.config_changed()
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
