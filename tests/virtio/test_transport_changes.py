"""Reset, interrupts and the configuration: virtio 1.2 §2.4, §2.5, §4.2.3.4."""

from __future__ import annotations

from typing import Any

import pytest

from tests.virtio.sample import sample
from vmlab.testing import Driver

pytestmark = pytest.mark.usefixtures("no_leaks")


# --- reset (§2.4) -------------------------------------------------------------------------------


def test_a_reset_forgets_everything_but_the_generation(driver: Driver) -> None:
    """§2.4.1: device status becomes 0. §4.2.2.1: all bits in InterruptStatus and all ready bits are
    cleared, QueueReset is 0."""
    driver.request(0, b"abc", 3)
    sample(driver).transport.config_changed()
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
    sample(driver).transport.wake(0)
    sample(driver).transport.config_changed()
    driver.transport.rest(0)
    ring.avail_idx = 0
    assert driver.memory.read(0, 0x10000) == before
    assert (driver.irq_count, driver.read("InterruptStatus")) == (irqs, 0)


# --- interrupts (§4.2.3.4) ----------------------------------------------------------------------


def test_causes_stay_until_they_are_acknowledged(driver: Driver) -> None:
    """§4.2.2.1: each event's bit is set from the moment it takes place until the driver acknowledges
    it; other bits MUST be zero."""
    sample(driver).transport.config_changed()
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
    sample(driver).transport.config_changed()
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
    sample(driver).transport.config_changed()
    assert driver.read("ConfigGeneration") == 0
