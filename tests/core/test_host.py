"""The host-call object, where any host can be asked."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import sys
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from vmlab.core.host import HOST

linux = pytest.mark.skipif(sys.platform != "linux", reason="a Linux call")


def test_memory_that_no_name_leads_to() -> None:
    fd = HOST.memory_fd("test", 0x4000)
    one, two = HOST.map(fd, 0x4000), HOST.map(fd, 0x4000)
    HOST.close(fd)
    one[0x10:0x14] = b"data"
    assert two[0x10:0x14] == b"data"
    one.close()
    two.close()


@linux
def test_nobody_can_cut_off_memory_that_others_have_mapped() -> None:
    fd = HOST.memory_fd("test", 0x4000)
    mapped = HOST.map(fd, 0x4000)
    for size in (0, 0x1000, 0x5000):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    mapped[0x3FFF] = 1
    HOST.zero(mapped)  # pages may still be given back
    assert mapped[:] == bytes(0x4000)
    mapped.close()
    HOST.close(fd)


@linux
def test_memory_that_may_be_resized() -> None:
    fd = HOST.memory_fd("test", 0x4000, sealed=False)
    os.ftruncate(fd, 0x8000)
    HOST.close(fd)


@linux
@pytest.mark.parametrize("why", ["refused", "unknown"])
def test_memory_on_a_host_without_seals(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "unknown":
        monkeypatch.delattr(fcntl, "F_SEAL_SHRINK")
    else:
        refusal = OSError(errno.EINVAL, "no seals here")
        monkeypatch.setattr(fcntl, "fcntl", Mock(side_effect=refusal))
    fd = HOST.memory_fd("test", 0x4000)
    assert os.fstat(fd).st_size == 0x4000
    HOST.close(fd)


def test_memory_on_a_host_without_memfd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fd = HOST.memory_fd("test", 0x4000)
    assert os.fstat(fd).st_size == 0x4000
    assert not list(tmp_path.iterdir())
    HOST.close(fd)


def test_a_size_that_is_refused_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    real = os.close

    def close(fd: int) -> None:
        closed.append(fd)
        real(fd)

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "close", close)
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="full"):
        HOST.memory_fd("test", 0x1000)
    assert len(closed) == 1


@pytest.mark.parametrize("advice", [True, False])
def test_zero_is_seen_by_every_mapping(advice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not advice:
        monkeypatch.delattr(mmap, "MADV_REMOVE", raising=False)
    size = (1 << 20) + 0x3000
    fd = HOST.memory_fd("test", size)
    one, two = HOST.map(fd, size), HOST.map(fd, size)
    HOST.close(fd)
    one[:4] = one[-4:] = b"data"
    HOST.zero(one)
    assert two[:] == bytes(size)
    one.close()
    two.close()


def test_zero_where_pages_cannot_be_given_back() -> None:
    private = mmap.mmap(-1, 0x2000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    private[:4] = b"data"
    HOST.zero(private)
    assert private[:4] == bytes(4)


@linux
def test_ioctl_takes_numbers_and_buffers() -> None:
    import termios

    reader, writer = os.pipe()
    os.write(writer, b"12345")
    count = bytearray(4)
    assert HOST.ioctl(reader, termios.FIONREAD, count) == 0
    assert struct.unpack("i", count) == (5,)
    with pytest.raises(OSError, match="ioctl") as caught:
        HOST.ioctl(reader, 0xAE00)
    assert caught.value.errno == errno.ENOTTY
    assert HOST.runner()(reader, 0xAE00, 0) < 0
    os.close(reader)
    os.close(writer)


@linux
def test_an_eventfd_counts() -> None:
    fd = HOST.eventfd()
    poll = HOST.epoll()
    poll.register(fd)
    os.eventfd_write(fd, 3)
    assert [got for got, _ in poll.poll(1)] == [fd]
    assert os.eventfd_read(fd) == 3
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fd)
    poll.close()
    HOST.close(fd)


def test_how_much_memory_there_is() -> None:
    assert HOST.total_memory() > 64 << 20


def test_opening_what_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        HOST.open("/dev/no-such-device")
