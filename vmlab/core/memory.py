"""The guest's physical memory: regions with holes, bounds-checked, never copied to look at."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable

from msgspec import Struct

from vmlab.arch import DEFAULT, machine
from vmlab.arch.api import Arch
from vmlab.core.host import HOST, Host
from vmlab.errors import ConfigError, MemoryAccessError

__all__ = ["GuestMemory", "Region"]

PAGE = 0x1000


class Region(Struct, frozen=True):
    """RAM at guest physical `base`; `buffer` is its bytes, `offset` its place in the backing file."""

    base: int
    size: int
    offset: int
    buffer: memoryview

    @property
    def end(self) -> int:
        return self.base + self.size

    @property
    def host_address(self) -> int:
        """Where the region lies in this process (for KVM's and Unicorn's zero-copy mapping)."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))


class GuestMemory:
    """Guest physical memory over one shared mapping.

    Addresses are guest-physical, sizes in bytes. Every access is checked against the regions; one
    that touches a hole raises MemoryAccessError and changes nothing.
    """

    def __init__(
        self, mapping: mmap.mmap, layout: Iterable[tuple[int, int]], host: Host = HOST
    ) -> None:
        self._host = host
        self._mapping = mapping
        whole = memoryview(mapping)
        regions, offset = [], 0
        for base, size in layout:
            regions.append(Region(base, size, offset, whole[offset : offset + size]))
            offset += size
        self.regions: tuple[Region, ...] = tuple(regions)
        #: told of (address, size) after each write by the host or a device: an engine that translates code
        #: must translate it anew. Whoever writes through a view says so: `wrote_through`.
        self.on_write: Callable[[int, int], None] | None = None
        self.size = offset

    @classmethod
    def allocate(cls, size: int, host: Host = HOST, arch: str | Arch = DEFAULT) -> GuestMemory:
        """Fresh zeroed memory of `size` bytes, laid out as the architecture has it."""
        fd = cls.backing(size, host)
        try:
            return cls.from_fd(fd, size, host, arch)
        finally:
            host.close(fd)

    @staticmethod
    def backing(size: int, host: Host = HOST) -> int:
        """A descriptor for `size` bytes of guest memory that two processes can map."""
        check_size(size, host)
        try:
            return host.memory_fd("vmlab-guest", size)
        except OSError as error:
            raise ConfigError(
                f"cannot allocate {size:#x} bytes of guest memory: {error.strerror}"
            ) from error

    @classmethod
    def from_fd(
        cls, fd: int, size: int, host: Host = HOST, arch: str | Arch = DEFAULT
    ) -> GuestMemory:
        try:
            mapping = host.map(fd, size)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot map {size:#x} bytes of guest memory: {error}") from error
        return cls(mapping, machine(arch).ram_layout(size), host)

    def find(self, address: int, size: int) -> Region | None:
        """The region that holds all of [address, address + size), or None."""
        if size < 0:
            return None
        for region in self.regions:
            if region.base <= address and address + size <= region.end:
                return region
        return None

    def view(self, address: int, size: int) -> memoryview:
        """The bytes themselves, writable, no copy. The range must lie in one region."""
        try:
            region = self.find(address, size)
        except TypeError:
            what = f"address {address!r:.40}, size {size!r:.40}: both are whole numbers"
            raise MemoryAccessError(what) from None
        if region is None:
            raise MemoryAccessError(
                f"[{address:#x}, {address + size:#x}) is not inside guest memory "
                f"({', '.join(f'{r.base:#x}-{r.end - 1:#x}' for r in self.regions)})"
            )
        start = address - region.base
        return region.buffer[start : start + size]

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.view(address, size))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        self.view(address, len(data))[:] = data
        if self.on_write is not None:
            self.on_write(address, len(data))

    def wrote_through(self, view: memoryview) -> None:
        """All of `view`, one of this memory's, may have been written."""
        if self.on_write is None or not len(view):
            return
        host = ctypes.addressof(ctypes.c_char.from_buffer(view))
        for region in self.regions:
            at = host - region.host_address
            if 0 <= at < region.size:
                self.on_write(region.base + at, len(view))

    def clear(self) -> None:
        """All zeroes, as after power-on."""
        self._host.zero(self._mapping)
        if self.on_write is not None:
            for region in self.regions:
                self.on_write(region.base, region.size)

    def close(self) -> None:
        """Unmap. Views that a caller still holds keep the mapping alive until they are gone."""
        regions, self.regions = self.regions, ()
        for region in regions:
            try:
                region.buffer.release()
            except BufferError:  # a view of it is still held
                pass
        try:
            self._mapping.close()
        except BufferError:
            pass


def check_size(size: int, host: Host = HOST) -> None:
    """ConfigError unless `size` bytes can be a guest's memory here."""
    if size <= 0:
        raise ConfigError(f"guest memory must be larger than zero, not {size}")
    if size % PAGE:
        raise ConfigError(
            f"guest memory of {size:#x} bytes is not a multiple of the page, {PAGE:#x}"
        )
    if size < 1 << 20:
        raise ConfigError(
            f"guest memory of {size:#x} bytes is too small; a machine needs 1 MiB at least"
        )
    total = host.total_memory()
    if size > total:
        raise ConfigError(
            f"guest memory of {size >> 20} MiB is more than this host has ({total >> 20} MiB)"
        )
