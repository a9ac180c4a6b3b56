"""Guest memory: where it is, where it is not, and that nobody copies it."""

from __future__ import annotations

import errno
import gc
import mmap
import weakref

import pytest

from vmlab.arch.x86_64 import ARCH, HIGH_RAM_START, LOW_RAM_END
from vmlab.core.host import Host
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError, MemoryAccessError

MIB = 1 << 20
GIB = 1 << 30


def holed() -> GuestMemory:
    """Two regions of 64 KiB with a hole between them."""
    return GuestMemory(mmap.mmap(-1, 0x2_0000), [(0x1000_0000, 0x1_0000), (0x2000_0000, 0x1_0000)])


class Refusing(Host):
    """A host that says no, or that has little memory."""

    def __init__(self, *, fd: int = 0, map: int = 0, total: int = 1 << 40) -> None:
        self.fd, self.map_error, self.total = fd, map, total
        self.closed: list[int] = []

    def memory_fd(self, name: str, size: int) -> int:  # type: ignore[override]
        if self.fd:
            raise OSError(self.fd, "no memory for you")
        return super().memory_fd(name, size)

    def map(self, fd: int, size: int) -> mmap.mmap:
        if self.map_error:
            raise OSError(self.map_error, "not mapped")
        return super().map(fd, size)

    def close(self, fd: int) -> None:
        self.closed.append(fd)
        super().close(fd)

    def total_memory(self) -> int:
        return self.total


@pytest.mark.parametrize(
    ("size", "layout"),
    [
        (MIB, [(0, MIB)]),
        (LOW_RAM_END, [(0, LOW_RAM_END)]),
        (LOW_RAM_END + 0x1000, [(0, LOW_RAM_END), (HIGH_RAM_START, 0x1000)]),
        (8 * GIB, [(0, LOW_RAM_END), (HIGH_RAM_START, 8 * GIB - LOW_RAM_END)]),
    ],
)
def test_ram_stays_out_of_the_devices_way(size: int, layout: list[tuple[int, int]]) -> None:
    assert ARCH.ram_layout(size) == layout
    assert sum(length for _, length in layout) == size


def test_memory_reads_back_what_was_written() -> None:
    memory = GuestMemory.allocate(MIB)
    memory.write(0x1234, b"vmlab")
    assert memory.read(0x1233, 7) == b"\0vmlab\0"
    memory.write(MIB - 1, b"!")
    assert memory.read(MIB - 1, 1) == b"!"
    memory.clear()
    assert memory.read(0, MIB) == bytes(MIB)
    memory.close()


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0x0FFF_FFFF, 1),
        (0x0FFF_FFFF, 2),
        (0x1000_FFFF, 2),
        (0x1001_0000, 1),
        (0x1000_FFF0, 0x1000_0020),  # from one region over the hole into the other
        (0x2000_FFFF, 2),
        (0x1000_0000, -1),
        (-1, 1),
        (-1, 0x2000_0002),
        ((1 << 64) - 1, 1),
        ((1 << 64) - 8, 0x1000_0010),  # would wrap into the first region
        (1 << 64, 1),
        (0x1000_0000, 1 << 64),
    ],
)
def test_accesses_outside_change_nothing(address: int, size: int) -> None:
    memory = holed()
    before = [bytes(region.buffer) for region in memory.regions]
    with pytest.raises(MemoryAccessError, match="not inside guest memory"):
        memory.view(address, size)
    with pytest.raises(MemoryAccessError):
        memory.read(address, size)
    if 0 <= size < 0x100:
        with pytest.raises(MemoryAccessError):
            memory.write(address, b"\xff" * size)
    assert [bytes(region.buffer) for region in memory.regions] == before
    memory.close()


def test_the_message_says_what_there_is() -> None:
    memory = holed()
    with pytest.raises(MemoryAccessError) as caught:
        memory.read(0x1001_0000, 4)
    assert "[0x10010000, 0x10010004)" in str(caught.value)
    assert "0x10000000-0x1000ffff, 0x20000000-0x2000ffff" in str(caught.value)


def test_an_empty_range_is_inside_where_it_touches_memory() -> None:
    memory = holed()
    assert memory.read(0x1001_0000, 0) == b""
    with pytest.raises(MemoryAccessError):
        memory.read(0x1800_0000, 0)


def test_views_are_the_memory_itself() -> None:
    memory = holed()
    view = memory.view(0x2000_0010, 4)
    view[:] = b"abcd"
    assert memory.read(0x2000_0010, 4) == b"abcd"
    memory.write(0x2000_0010, b"wxyz")
    assert bytes(view) == b"wxyz"
    assert memory.regions[1].offset == 0x1_0000


def test_two_mappings_of_one_descriptor_share_their_bytes() -> None:
    host = Host()
    fd = GuestMemory.backing(MIB, host)
    one, two = GuestMemory.from_fd(fd, MIB), GuestMemory.from_fd(fd, MIB)
    host.close(fd)
    one.write(0x10, b"shared")
    assert two.read(0x10, 6) == b"shared"
    assert one.regions[0].host_address != two.regions[0].host_address


def test_close_unmaps_and_may_be_repeated() -> None:
    memory = GuestMemory.allocate(MIB)
    mapping = memory._mapping
    memory.close()
    assert mapping.closed
    with pytest.raises(MemoryAccessError):
        memory.read(0, 1)
    memory.close()


def test_views_outlive_close() -> None:
    memory = holed()
    mapping = weakref.ref(memory._mapping)
    view = memory.view(0x1000_0000, 4)
    memory.close()
    view[:] = b"kept"
    assert bytes(view) == b"kept"
    with pytest.raises(MemoryAccessError):
        memory.read(0x2000_0000, 1)
    del memory, view
    gc.collect()
    assert mapping() is None, "the last view took the mapping with it"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "larger than zero"),
        (-4096, "larger than zero"),
        (MIB + 1, "not a multiple of the page"),
        (0x1000, "too small"),
        (2 << 40, "more than this host has"),
    ],
)
def test_sizes_that_cannot_be(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GuestMemory.allocate(size, Refusing())


def test_a_host_that_refuses() -> None:
    with pytest.raises(ConfigError, match=r"cannot allocate 0x100000 bytes.*no memory for you"):
        GuestMemory.allocate(MIB, Refusing(fd=errno.ENOMEM))
    host = Refusing(map=errno.ENOMEM)
    with pytest.raises(ConfigError, match="cannot map 0x100000 bytes"):
        GuestMemory.allocate(MIB, host)
    assert len(host.closed) == 1, "the descriptor is not left behind"
