"""A device that needs a reset: virtio 1.2 §2.1.2."""

from __future__ import annotations

import pytest

from tests.virtio.sample import OK, Sample, sample
from vmlab.testing import Driver, DriverError
from vmlab.virtio.queue import Chain
from vmlab.virtio.registers import (
    DRIVER_OK,
    FAILED,
    NEEDS_RESET,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_needs_reset_is_told(driver: Driver) -> None:
    """§2.1.2: after it sets DEVICE_NEEDS_RESET the device MUST send a configuration change
    notification, if DRIVER_OK is set."""
    sample(driver).transport.needs_reset("the disk is on fire")
    assert driver.status == OK | NEEDS_RESET
    assert driver.acknowledge() == 2
    assert driver.irq_count == 1
    assert driver.transport.counters.state == "failed"
    sample(driver).transport.needs_reset("still")
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
