"""The disk's image on the host: what is accepted, locks, resizing, limits, and a killed monitor."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.virtio.test_disk import Watched, ask, ranges
from vmlab.errors import ConfigError
from vmlab.testing.driver import Driver
from vmlab.virtio.blk import DISCARD, FLUSH, IN, OUT, UNMAP, WRITE_ZEROES
from vmlab.virtio.disk import Disk
from vmlab.virtio.registers import CONFIG_CHANGE

pytestmark = pytest.mark.usefixtures("no_leaks")

OK, IOERR = 0, 1


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lab.img"
    path.write_bytes(b"i" * 32768)
    return path


# --- what can be a disk -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, r"a disk is a file \(path=\), memory of a size \(size=\) or bytes"),
        ({"size": "1M", "data": b""}, "a disk is a file"),
        ({"path": "nowhere.img"}, r"/nowhere.img: No such file or directory; `truncate -s 64M"),
        ({"path": "a\0b"}, "embedded null byte"),
        ({"path": 5}, "path=5: give the path of a file"),
        ({"path": "/"}, "neither a file nor a block device"),
        ({"path": "/dev/null"}, "neither a file nor a block device"),
        ({"size": "much"}, "is no size"),
        ({"size": -512}, "size=-512 is -512 bytes: a disk has one sector"),
        ({"size": "1000T"}, "in memory; this host has"),
        ({"size": "1M", "serial": "S" * 21}, "20 printable ASCII characters"),
        ({"size": "1M", "serial": "ü"}, "20 printable ASCII characters"),
        ({"size": "1M", "rate": 0}, "rate=0"),
        ({"size": "1M", "iops": -1}, "iops=-1"),
        ({"size": "1M", "notify": "bell"}, "notify='bell'"),
    ],
    ids=str,
)
def test_what_can_be_no_disk(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Disk(**options)


def test_permissions_are_asked_for_early(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.R_OK
    monkeypatch.setattr(os, "access", lambda _, how: bool(how & allowed))
    with pytest.raises(ConfigError, match=r"cannot be written; readonly=True takes it as it is"):
        Disk(image)
    Disk(image, readonly=True)
    allowed = 0
    with pytest.raises(ConfigError, match="cannot be read: permission denied"):
        Disk(image, readonly=True)


def test_an_image_that_is_gone_when_it_is_plugged_in(image: Path) -> None:
    disk = Disk(image)
    image.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        Driver(disk)


def test_a_relative_path_is_made_absolute(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.parent)
    disk = Disk("lab.img")
    monkeypatch.chdir("/")
    assert disk.path == str(image)
    with Driver(pickle.loads(pickle.dumps(disk))) as driver:
        assert ask(driver, IN, room=512) == (OK, b"i" * 512)


def test_a_disk_that_was_in_a_machine_can_be_sent_to_another(image: Path) -> None:
    disk = Disk(image, rate="1M")
    with Driver(disk):
        copy = pickle.loads(pickle.dumps(disk))
    with Driver(copy) as driver:
        assert ask(driver, IN, room=512) == (OK, b"i" * 512)


# --- locks --------------------------------------------------------------------------------------------


def test_two_machines_cannot_write_one_image(image: Path) -> None:
    with Driver(Disk(image)):
        for readonly in (False, True):
            with pytest.raises(ConfigError, match="is in use by another machine"):
                Driver(Disk(image, readonly=readonly))
    with Driver(Disk(image)) as driver:
        assert ask(driver, IN, room=512)[0] == OK


def test_several_machines_can_read_one_image(image: Path) -> None:
    with Driver(Disk(image, readonly=True)) as one, Driver(Disk(image, readonly=True)) as two:
        assert ask(one, IN, room=512) == ask(two, IN, room=512) == (OK, b"i" * 512)
        with pytest.raises(ConfigError, match="is in use by another machine"):
            Driver(Disk(image))


# --- resizing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_disk_grows_and_shrinks_while_it_is_used(image: Path, kind: str) -> None:
    disk = Disk(image) if kind == "file" else Disk(data=b"i" * 32768)
    with Driver(disk) as driver:
        before = driver.read("ConfigGeneration")
        driver.acknowledge()
        assert ask(driver, OUT, 100, b"x" * 512)[0] == IOERR
        assert disk.resize("64K") == 65536
        assert driver.read("InterruptStatus") & CONFIG_CHANGE
        assert driver.read("ConfigGeneration") != before
        assert driver.read_config(0, 8) == 128
        assert ask(driver, OUT, 100, b"x" * 512)[0] == OK
        assert ask(driver, IN, 63, room=1024) == (OK, b"i" * 512 + bytes(512))
        assert disk.resize(512) == 512
        assert ask(driver, IN, 1, room=512)[0] == IOERR
        assert ask(driver, IN, 0, room=512)[0] == OK
        assert disk.resize("1K") == 1024
        assert ask(driver, IN, 1, room=512) == (OK, bytes(512))
    if kind == "file":
        assert image.stat().st_size == 1024


def test_an_image_that_somebody_else_made_longer(image: Path) -> None:
    with Driver(Disk(image, readonly=True)) as driver:
        os.truncate(image, 1 << 20)
        assert ask(driver, IN, 100, room=512)[0] == IOERR
        assert driver.device.resize() == 1 << 20  # type: ignore[attr-defined]
        assert ask(driver, IN, 100, room=512) == (OK, bytes(512))


def test_sizes_that_are_none(image: Path) -> None:
    disk = Disk(image)
    with pytest.raises(ConfigError, match="in no machine"):
        disk.resize(512)
    disk.files = files = Watched()
    with Driver(disk):
        for size in (100, -512, 1 << 63):
            with pytest.raises(ConfigError, match="no size of a disk"):
                disk.resize(size)
        files.fail = {"truncate": errno.EFBIG}
        with pytest.raises(ConfigError, match="cannot be resized: File too large"):
            disk.resize(1 << 61)
        assert disk.capacity == 32768
    with (
        Driver(Disk(image, readonly=True)) as driver,
        pytest.raises(ConfigError, match="read-only"),
    ):
        driver.device.resize("1M")  # type: ignore[attr-defined]
    with Driver(Disk(size="1M")) as driver, pytest.raises(ConfigError, match="this host has"):
        driver.device.resize("1000T")  # type: ignore[attr-defined]


# --- limits -------------------------------------------------------------------------------------------


def test_bytes_a_second() -> None:
    """A second's worth at once, then at the rate."""
    with Driver(Disk(size="1M", rate="64K")) as driver:
        began = time.monotonic()
        for _ in range(5):
            assert ask(driver, IN, room=16384)[0] == OK
        for _ in range(2):
            assert ask(driver, IN, room=16384)[0] == OK
        assert 0.4 < time.monotonic() - began < 3


def test_requests_a_second() -> None:
    with Driver(Disk(size="1M", iops=20)) as driver:
        began = time.monotonic()
        for _ in range(26):
            assert ask(driver, IN, room=512)[0] == OK
        assert 0.2 < time.monotonic() - began < 3


# --- any sequence of requests -------------------------------------------------------------------------


class AnyRequests(RuleBasedStateMachine):
    """The disk against a bytearray."""

    def __init__(self) -> None:
        super().__init__()
        self.model = bytearray(64 * 512)
        self.driver = Driver(Disk(size=len(self.model)), event_idx=True)

    sectors = st.integers(0, 70)
    counts = st.integers(0, 9)

    def inside(self, sector: int, count: int) -> bool:
        return (sector + count) * 512 <= len(self.model)

    @rule(sector=sectors, count=counts)
    def read(self, sector: int, count: int) -> None:
        status, data = ask(self.driver, IN, sector, room=count * 512)
        assert status == (OK if self.inside(sector, count) else IOERR)
        if status == OK:
            assert data == self.model[sector * 512 : (sector + count) * 512]

    @rule(sector=sectors, count=counts, byte=st.integers(1, 255))
    def write(self, sector: int, count: int, byte: int) -> None:
        status, _ = ask(self.driver, OUT, sector, bytes([byte]) * (count * 512))
        assert status == (OK if self.inside(sector, count) else IOERR)
        if status == OK:
            self.model[sector * 512 : (sector + count) * 512] = bytes([byte]) * (count * 512)

    @rule(
        todo=st.lists(
            st.tuples(sectors, counts, st.sampled_from([0, UNMAP])), min_size=1, max_size=4
        )
    )
    def zero(self, todo: list[tuple[int, int, int]]) -> None:
        status, _ = ask(self.driver, WRITE_ZEROES, 0, ranges(*todo))
        fits = all(self.inside(sector, count) for sector, count, _ in todo)
        assert status == (OK if fits else IOERR)
        for sector, count, _ in todo if fits else ():
            self.model[sector * 512 : (sector + count) * 512] = bytes(count * 512)

    @rule(kind=st.sampled_from([FLUSH, DISCARD, 77]), data=st.binary(max_size=40))
    def other(self, kind: int, data: bytes) -> None:
        status, _ = ask(self.driver, kind, 0, data)
        if kind == DISCARD and status == OK:
            self.model[:] = ask(self.driver, IN, 0, room=len(self.model))[1]

    @rule(sectors=st.integers(1, 64))
    def resize(self, sectors: int) -> None:
        self.driver.device.resize(sectors * 512)  # type: ignore[attr-defined]
        del self.model[sectors * 512 :]
        self.model += bytes(sectors * 512 - len(self.model))

    @precondition(lambda self: True)
    @rule()
    def start_over(self) -> None:
        self.driver.initialise()

    @invariant()
    def it_works(self) -> None:
        assert not self.driver.needs_reset()

    def teardown(self) -> None:
        self.driver.close()


TestAnyRequests = AnyRequests.TestCase
TestAnyRequests.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# --- a killed monitor ---------------------------------------------------------------------------------

WRITER = """
import struct, sys
from vmlab.testing.driver import Driver
from vmlab.virtio.disk import Disk

driver = Driver(Disk(sys.argv[1]))
number = 0
while True:
    number += 1
    block = struct.pack("<Q", number) * 64
    assert driver.request(0, [struct.pack("<IIQ", 1, 0, number % 64), block], [1]) == b"\\0"
    if number % 4 == 0:
        assert driver.request(0, [struct.pack("<IIQ", 4, 0, 0)], [1]) == b"\\0"
        print(number, flush=True)
"""


def test_a_killed_process_loses_no_flushed_write(image: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(image)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    flushed = 0
    with process.stdout:
        while flushed < 400:
            flushed = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
    flushed = int(rest[-1]) if rest and rest[-1].isdigit() else flushed
    data = image.read_bytes()
    for sector in range(64):
        found = int.from_bytes(data[sector * 512 : sector * 512 + 8], "little")
        # the last number up to `flushed` that went to this sector, or a later one
        assert found >= flushed - (flushed - sector) % 64
        assert data[sector * 512 : sector * 512 + 512] == found.to_bytes(8, "little") * 64
