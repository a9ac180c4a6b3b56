"""The block device (virtio 1.2 §5.2), driven by a mock."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import random
import struct
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab.errors import ConfigError
from vmlab.testing.driver import Driver
from vmlab.virtio import blk
from vmlab.virtio.blk import DISCARD, FLUSH, GET_ID, IN, OUT, SLICE, UNMAP, WRITE_ZEROES
from vmlab.virtio.disk import Disk
from vmlab.virtio.registers import VERSION_1
from vmlab.virtio.storage import Files

pytestmark = pytest.mark.usefixtures("no_leaks")

OK, IOERR, UNSUPP = 0, 1, 2
SECTORS = 64
IMAGE = random.Random(1).randbytes(SECTORS * 512)


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def ask(driver: Driver, kind: int, sector: int = 0, data: bytes = b"", room: int = 0) -> Any:
    """(status, what was read) of one request."""
    out = [header(kind, sector)] + ([data] if data else [])
    got = driver.request(0, out, [room, 1] if room else [1])
    assert len(got) == room + 1
    return got[-1], got[:-1]


def ranges(*items: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<QII", *one) for one in items)


class Watched(Files):
    """Notes what is asked of the host, and refuses some of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail: dict[str, int] = {}
        self.most: int | None = None

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise OSError(self.fail[name], os.strerror(self.fail[name]))

    def preadv(self, fd: int, views: list[memoryview], offset: int) -> int:
        self._note("preadv")
        return super().preadv(fd, self._short(views), offset)

    def pwritev(self, fd: int, views: list[memoryview], offset: int) -> int:
        self._note("pwritev")
        return super().pwritev(fd, self._short(views), offset)

    def _short(self, views: list[memoryview]) -> list[memoryview]:
        return views if self.most is None else [next(v for v in views if v)[: self.most]]

    def sync(self, fd: int) -> None:
        self._note("sync")
        super().sync(fd)

    def allocate(self, fd: int, mode: int, offset: int, size: int) -> None:
        self._note(f"allocate {mode}")
        super().allocate(fd, mode, offset, size)

    def lock(self, fd: int, exclusive: bool) -> None:
        self._note("lock")
        super().lock(fd, exclusive)

    def truncate(self, fd: int, size: int) -> None:
        self._note("truncate")
        super().truncate(fd, size)


def watched(**options: Any) -> tuple[Disk, Watched]:
    disk = Disk(**(options or {"data": IMAGE}))
    disk.files = files = Watched()
    return disk, files


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lab.img"
    path.write_bytes(IMAGE)
    return path


# --- reading and writing ----------------------------------------------------------------------------


def test_a_file_is_read_and_written(image: Path) -> None:
    with Driver(Disk(image)) as driver:
        assert driver.read_config(0, 8) == SECTORS
        assert ask(driver, IN, 3, room=1024) == (OK, IMAGE[1536:2560])
        assert ask(driver, OUT, 4, b"x" * 512) == (OK, b"")
        assert ask(driver, IN, 4, room=512) == (OK, b"x" * 512)
        seen = driver.device.inspect()
        assert driver.mistakes == []
    assert image.read_bytes() == IMAGE[:2048] + b"x" * 512 + IMAGE[2560:]
    assert (seen["reads"], seen["writes"], seen["errors"]) == (2, 1, 0)
    assert (seen["bytes_read"], seen["bytes_written"]) == (1536, 512)


@pytest.mark.parametrize("options", [{"data": IMAGE}, {"size": "32K"}], ids=["data", "size"])
def test_memory_is_a_disk_too(options: dict[str, Any]) -> None:
    with Driver(Disk(**options)) as driver:
        assert driver.read_config(0, 8) == SECTORS
        wanted = IMAGE if "data" in options else bytes(len(IMAGE))
        assert ask(driver, IN, 0, room=len(IMAGE)) == (OK, wanted)
        assert ask(driver, OUT, 63, b"y" * 512)[0] == OK
        assert ask(driver, IN, 63, room=512) == (OK, b"y" * 512)


def test_the_configuration_space() -> None:
    with Driver(Disk(size="1M")) as driver:
        assert driver.read_config(12, 4) == 254  # seg_max
        assert driver.read_config(20, 4) == 512  # blk_size
        assert driver.read_config(24, 1) == 3
        assert driver.read_config(32, 1) == 1  # writeback
        assert driver.read_config(36, 4) == blk.RANGE_SECTORS
        assert driver.read_config(56, 1) == 1
        assert driver.read_config(60, 4) == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_where_the_buffers_are_cut_means_nothing(data: st.DataObject) -> None:
    """virtio 1.2 §2.7.4: no assumption about the framing."""
    kind = data.draw(st.sampled_from([IN, OUT]))
    body = random.Random(2).randbytes(2048)
    out = header(kind, 5) + (body if kind == OUT else b"")
    room = 1 + (2048 if kind == IN else 0)

    def cuts(size: int) -> list[int]:
        places = data.draw(st.lists(st.integers(0, size), max_size=6))
        edges = [0, *sorted(places), size]
        return [b - a for a, b in itertools.pairwise(edges)]

    pieces, at = [], 0
    for size in cuts(len(out)):
        pieces.append(out[at : at + size])
        at += size
    with Driver(Disk(data=IMAGE), indirect=data.draw(st.booleans())) as driver:
        got = driver.request(0, pieces, cuts(room))
        assert got[-1] == OK
        wanted = body if kind == OUT else IMAGE[2560:4608]
        assert (got[:-1] if kind == IN else ask(driver, IN, 5, room=2048)[1]) == wanted


def test_short_reads_and_writes_are_continued() -> None:
    disk, files = watched()
    with Driver(disk) as driver:
        files.most = 300
        assert ask(driver, IN, 1, room=2048) == (OK, IMAGE[512:2560])
        assert ask(driver, OUT, 1, b"z" * 1536) == (OK, b"")
        files.most = None
        assert ask(driver, IN, 1, room=1536) == (OK, b"z" * 1536)


def test_a_last_part_of_a_sector_is_filled_with_zeroes(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"n" * 700)
    with Driver(Disk(path, readonly=True)) as driver:
        assert driver.read_config(0, 8) == 2
        assert ask(driver, IN, 0, room=1024) == (OK, b"n" * 700 + bytes(324))


def test_get_id() -> None:
    """virtio 1.2 §5.2.6: 20 bytes, filled up with zeroes."""
    with Driver(Disk(size="1M", serial="vmlab-1")) as driver:
        assert ask(driver, GET_ID, room=20) == (OK, b"vmlab-1".ljust(20, b"\0"))
        assert ask(driver, GET_ID, room=5) == (OK, b"vmlab")
        assert ask(driver, GET_ID, room=30) == (OK, b"vmlab-1".ljust(30, b"\0"))
    with Driver(Disk(size="1M", serial="S" * 20)) as driver:
        assert ask(driver, GET_ID, room=20) == (OK, b"S" * 20)


# --- what a driver must not ask -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sector", "size"),
    [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (1 << 55, 512),
        ((1 << 64) - 1, 512),
        ((1 << 64) - 1, 1024),
        (0, 511),
        (0, 1),
    ],
)
@pytest.mark.parametrize("kind", [IN, OUT])
def test_requests_outside_the_disk_fail_and_change_nothing(
    image: Path, kind: int, sector: int, size: int
) -> None:
    with Driver(Disk(image)) as driver:
        if kind == IN:
            assert ask(driver, IN, sector, room=size) == (IOERR, bytes(size))
        else:
            assert ask(driver, OUT, sector, b"x" * size) == (IOERR, b"")
        assert len(driver.mistakes) == 1
        assert not driver.needs_reset()
        assert ask(driver, IN, 0, room=512) == (OK, IMAGE[:512])
    assert image.read_bytes() == IMAGE


def test_unknown_requests_are_unsupported() -> None:
    """virtio 1.2 §5.2.6"""
    with Driver(Disk(size="1M")) as driver:
        for kind in (2, 3, 5, 10, 14, 0xFFFF_FFFF):
            assert ask(driver, kind, 0, b"x" * 512)[0] == UNSUPP
        assert driver.device.inspect()["errors"] == 6


def test_a_short_header_is_an_error() -> None:
    with Driver(Disk(size="1M")) as driver:
        assert driver.request(0, [b"\0" * 15], [1]) == bytes([IOERR])
        assert driver.request(0, [], [513]) == bytes(512) + bytes([IOERR])
        assert "shorter than its header" in driver.mistakes[0]


def test_a_request_without_room_for_its_status_breaks_the_device() -> None:
    with Driver(Disk(size="1M")) as driver:
        driver.submit(0, [header(OUT), b"x" * 512], [])
        driver.wait_for(driver.needs_reset)
        assert "status" in driver.mistakes[0]
        driver.initialise()
        assert ask(driver, IN, 0, room=512) == (OK, bytes(512))


def test_a_read_only_disk_refuses_writes(image: Path) -> None:
    """virtio 1.2 §5.2.6.2"""
    image.chmod(0o444)
    with Driver(Disk(image, readonly=True)) as driver:
        assert driver.offered() & blk.F_RO
        assert not driver.offered() & (blk.F_DISCARD | blk.F_WRITE_ZEROES | blk.F_CONFIG_WCE)
        assert ask(driver, OUT, 0, b"x" * 512)[0] == IOERR
        assert ask(driver, DISCARD, 0, ranges((0, 8, 0)))[0] == IOERR
        assert ask(driver, WRITE_ZEROES, 0, ranges((0, 8, 0)))[0] == IOERR
        assert ask(driver, IN, 0, room=512) == (OK, IMAGE[:512])
        assert ask(driver, FLUSH)[0] == OK
    assert image.read_bytes() == IMAGE


def test_a_huge_request_is_served_in_steps_and_ends_with_a_reset() -> None:
    """A driver names the same memory again and again: bounded work, and a reset comes through."""
    disk = Disk(size="1G")
    with Driver(disk, "16M") as driver:
        ring = driver.rings[0]
        place = driver.arena.take(8 << 20)
        driver.memory.write(0x400, header(IN))
        ring.write_descriptor(0, 0x400, 16, 1, 1)
        for index in range(1, 120):
            ring.write_descriptor(index, place, 8 << 20, 3, index + 1)
        ring.write_descriptor(120, 0x500, 1, 2)
        ring.write_avail(0, 0)
        ring.avail_idx = 1
        steps = []
        action = disk._step
        disk._step = lambda request: (steps.append(request.done), action(request))[1]  # type: ignore
        driver.write("QueueNotify", 0)
        driver.wait_for(lambda: len(steps) > 3)
        driver.status = 0
        assert driver.status == 0
        done = len(steps)
        assert done < 200
        assert [b - a for a, b in itertools.pairwise(steps)] == [SLICE] * (done - 1)
        driver.initialise()
        assert ask(driver, IN, 0, room=512) == (OK, bytes(512))
        assert len(steps) == done + 1


def test_a_huge_request_inside_the_disk_is_served_whole() -> None:
    size = 2 * SLICE + 512
    body = random.Random(3).randbytes(size)
    with Driver(Disk(size="16M"), "32M") as driver:
        assert ask(driver, OUT, 7, body) == (OK, b"")
        assert ask(driver, IN, 7, room=size) == (OK, body)
        assert ask(driver, IN, 1 << 40, room=512)[0] == IOERR


# --- durability ---------------------------------------------------------------------------------------


def test_a_flush_is_a_sync_and_ends_after_it() -> None:
    disk, files = watched()
    with Driver(disk) as driver:
        assert ask(driver, OUT, 0, b"x" * 512)[0] == OK
        assert "sync" not in files.calls
        assert ask(driver, FLUSH)[0] == OK
        assert files.calls[-1] == "sync"
        assert driver.device.inspect()["flushes"] == 1


def test_without_the_flush_feature_each_write_is_durable() -> None:
    """virtio 1.2 §5.2.6.2: neither CONFIG_WCE nor FLUSH was negotiated, but FLUSH was offered."""
    disk, files = watched()
    with Driver(disk, features=VERSION_1 | blk.F_WRITE_ZEROES | blk.F_DISCARD) as driver:
        assert disk.write_through
        for kind, data in (
            (OUT, b"x" * 512),
            (WRITE_ZEROES, ranges((0, 1, 0))),
            (DISCARD, ranges((8, 8, 0))),
        ):
            files.calls.clear()
            assert ask(driver, kind, 0, data)[0] == OK
            assert files.calls[-1] == "sync"


def test_the_driver_may_choose_write_through() -> None:
    """virtio 1.2 §5.2.5.2, §5.2.6.2: writeback is 1 after a reset when FLUSH is negotiated."""
    disk, files = watched()
    with Driver(disk) as driver:
        driver.write_config(32, 1, 0)
        assert driver.read_config(32, 1) == 0
        assert ask(driver, OUT, 0, b"x" * 512)[0] == OK
        assert files.calls[-1] == "sync"
        driver.write_config(32, 1, 1)
        assert ask(driver, OUT, 0, b"x" * 512)[0] == OK
        assert files.calls[-1] == "pwritev"
        assert driver.mistakes == []
        for offset, size, value in ((32, 1, 2), (32, 2, 0), (32, 4, 0), (0, 4, 9), (33, 1, 0)):
            driver.write_config(offset, size, value)
        assert len(driver.mistakes) == 5
        assert not disk.write_through
        driver.write_config(32, 1, 0)
        driver.initialise()
        assert driver.read_config(32, 1) == 1
    with Driver(Disk(size="1M"), features=VERSION_1 | blk.F_CONFIG_WCE) as driver:
        assert driver.read_config(32, 1) == 0


def test_a_host_without_room_for_a_disk_in_memory() -> None:
    disk, files = watched()
    files.fail = {"pwritev": errno.ENOSPC}
    with pytest.raises(ConfigError, match="0x8000 bytes in memory: No space left"):
        Driver(disk)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failing_host_is_an_error_of_the_request(code: int) -> None:
    disk, files = watched()
    with Driver(disk) as driver:
        files.fail = {"pwritev": code, "preadv": code}
        assert ask(driver, OUT, 2, b"x" * 512)[0] == IOERR
        assert disk.inspect()["last_error"] == f"write at sector 2: {os.strerror(code)}"
        assert ask(driver, IN, 0, room=512) == (IOERR, bytes(512))
        files.fail = {}
        assert ask(driver, IN, 2, room=512) == (OK, IMAGE[1024:1536])
        assert disk.inspect()["errors"] == 2
        assert driver.mistakes == []


def test_after_a_failed_flush_none_succeeds() -> None:
    """The host's kernel forgets the pages that it could not write."""
    disk, files = watched()
    with Driver(disk) as driver:
        files.fail = {"sync": errno.EIO}
        assert ask(driver, FLUSH)[0] == IOERR
        files.fail = {}
        assert ask(driver, FLUSH)[0] == IOERR
        assert "Input/output error" in disk.inspect()["last_error"]
        assert disk.inspect()["flushes"] == 0
        memory = weakref.ref(driver.memory)
    del driver
    gc.collect()
    assert memory() is None, "no exception that is kept holds the guest's memory"


def test_an_image_that_shrinks_under_the_disk(image: Path) -> None:
    with Driver(Disk(image)) as driver:
        os.truncate(image, 1024)
        assert ask(driver, IN, 1, room=512) == (OK, IMAGE[512:1024])
        assert ask(driver, IN, 8, room=512) == (IOERR, bytes(512))
        assert "shorter" in driver.device.inspect()["last_error"]


# --- discard and write zeroes -------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, UNMAP])
@pytest.mark.parametrize("refuse", [(), (3,), (17,), (3, 17)], ids=str)
def test_write_zeroes(flags: int, refuse: tuple[int, ...]) -> None:
    disk, files = watched()
    files.fail = {f"allocate {mode}": errno.EOPNOTSUPP for mode in refuse}
    with Driver(disk) as driver:
        todo = ranges((2, 3, flags), (10, 0, flags), (60, 4, flags))
        assert ask(driver, WRITE_ZEROES, 0, todo)[0] == OK
        wanted = IMAGE[:1024] + bytes(1536) + IMAGE[2560 : 60 * 512] + bytes(2048)
        assert ask(driver, IN, 0, room=len(IMAGE)) == (OK, wanted)
        assert disk.inspect()["zeroes"] == 1
        before = files.calls.count("allocate 3")
        assert ask(driver, WRITE_ZEROES, 0, todo)[0] == OK
        if 3 in refuse:
            assert files.calls.count("allocate 3") == before  # asked once, then not again


def test_zeroes_are_written_in_bounded_pieces() -> None:
    disk, files = watched(size="8M")
    files.fail = {"allocate 17": errno.EOPNOTSUPP}
    with Driver(disk) as driver:
        assert ask(driver, WRITE_ZEROES, 0, ranges((1, 8000, 0)))[0] == OK
        assert files.calls.count("pwritev") == 4


def test_discard(image: Path) -> None:
    image.write_bytes(b"d" * (1 << 20))
    with Driver(Disk(image)) as driver:
        before = image.stat().st_blocks
        assert ask(driver, DISCARD, 0, ranges((0, 1024, 0), (1024, 8, 0)))[0] == OK
        assert driver.device.inspect()["discards"] == 1
        assert ask(driver, IN, 1032, room=512) == (OK, b"d" * 512)
        if image.stat().st_blocks < before:
            assert ask(driver, IN, 0, room=512) == (OK, bytes(512))
        assert image.stat().st_size == 1 << 20


def test_a_host_that_cannot_discard_does_nothing() -> None:
    disk, files = watched()
    files.fail = {"allocate 3": errno.EOPNOTSUPP}
    with Driver(disk) as driver:
        assert ask(driver, DISCARD, 0, ranges((0, 8, 0)))[0] == OK
        files.fail = {"allocate 3": errno.EIO}
        files.calls.clear()
        assert ask(driver, DISCARD, 0, ranges((0, 8, 0)))[0] == OK
        assert files.calls == []


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        (DISCARD, ranges((0, 8, UNMAP)), UNSUPP),
        (DISCARD, ranges((0, 8, 2)), UNSUPP),
        (WRITE_ZEROES, ranges((0, 8, 2)), UNSUPP),
        (WRITE_ZEROES, ranges((0, 8, 0), (0, 8, 1 << 31)), UNSUPP),
        (WRITE_ZEROES, ranges((SECTORS, 1, 0)), IOERR),
        (WRITE_ZEROES, ranges((0, 1, 0), ((1 << 64) - 1, 1, 0)), IOERR),
        (WRITE_ZEROES, ranges((0, blk.RANGE_SECTORS + 1, 0)), IOERR),
        (WRITE_ZEROES, ranges((0, 0xFFFF_FFFF, 0)), IOERR),
        (DISCARD, ranges(*[(0, 1, 0)] * 33), IOERR),
        (DISCARD, ranges((0, 1, 0))[:-1], IOERR),
        (DISCARD, b"", IOERR),
    ],
)
def test_ranges_that_are_none(kind: int, data: bytes, status: int) -> None:
    """virtio 1.2 §5.2.6.2: unknown flags, and unmap on a discard, are unsupported."""
    with Driver(Disk(data=IMAGE)) as driver:
        assert ask(driver, kind, 0, data)[0] == status
        assert ask(driver, IN, 0, room=len(IMAGE)) == (OK, IMAGE)


def test_discard_must_be_negotiated() -> None:
    with Driver(Disk(data=IMAGE), features=VERSION_1 | blk.F_FLUSH) as driver:
        assert ask(driver, DISCARD, 0, ranges((0, 8, 0)))[0] == UNSUPP
        assert ask(driver, WRITE_ZEROES, 0, ranges((0, 8, 0)))[0] == UNSUPP


def test_a_queue_reset_forgets_the_request_under_way() -> None:
    """virtio 1.2 §2.6.1"""
    disk = Disk(size="64M")
    with Driver(disk, "16M") as driver:
        disk._request = blk.Request.__new__(blk.Request)
        driver.write("QueueSel", 0)
        driver.write("QueueReset", 1)
        assert driver.read("QueueReset") == 0
        assert disk._request is None
