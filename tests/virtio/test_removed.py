"""A device that was taken out under its driver: nobody waits for it, and a reset finds nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vmlab.testing import Driver
from vmlab.virtio import Disk, Rng
from vmlab.virtio.blk import FLUSH, IN
from vmlab.virtio.removed import RemovedDevice

pytestmark = pytest.mark.usefixtures("no_leaks")

IOERR = 1


def test_a_disks_requests_fail_at_once() -> None:
    with Driver(Disk(size="1M")) as driver:
        driver.transport.mark_removed()
        for kind, room in ((IN, [512, 1]), (FLUSH, [1])):
            assert driver.request(0, [struct.pack("<IIQ", kind, 0, 0)], room)[-1] == IOERR


def test_its_image_is_free(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    with Driver(Disk(image)) as driver:
        driver.transport.mark_removed()
        with Driver(Disk(image)) as other:
            assert other.request(0, [struct.pack("<IIQ", IN, 0, 0)], [512, 1])[-1] == 0


def test_what_waits_is_answered_when_it_goes() -> None:
    with Driver(Disk(size="1M", iops=1)) as driver:
        asked = [driver.submit(0, [struct.pack("<IIQ", IN, 0, 0)], [512, 1]) for _ in range(4)]
        driver.transport.mark_removed()
        for one in asked:
            driver.wait(0, one)


def test_one_whose_end_fails_is_gone_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    class Stubborn(Rng):
        def detached(self) -> None:
            raise OSError("no end")

    with Driver(Stubborn()) as driver:
        driver.transport.mark_removed()
        assert isinstance(driver.transport.device, RemovedDevice)
    assert "no end" in capsys.readouterr().err


def test_others_do_not_answer() -> None:
    with Driver(Rng()) as driver:
        driver.transport.mark_removed()
        driver.submit(0, [], [8])
        driver.transport.rest(0)
        assert driver.poll(0) == 0
        assert driver.mistakes == []


def test_after_a_reset_no_device_is_there() -> None:
    with Driver(Disk(size="1M")) as driver:
        driver.transport.mark_removed()
        assert driver.read("DeviceID") == 2
        driver.status = 0
        assert driver.read("DeviceID") == 0


def test_one_that_no_driver_uses_is_gone_at_once() -> None:
    with Driver(Disk(size="1M"), initialise=False) as driver:
        driver.transport.mark_removed()
        assert driver.read("DeviceID") == 0
