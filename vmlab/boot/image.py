"""An image's bytes: out of a file, and out of its wrapping. Whatever the file is, no more of it is taken
into memory than the guest has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vmlab.boot import payload
from vmlab.boot.elf import ELF_MAGIC, ElfFile, Target
from vmlab.boot.payload import HEAD, MAX_SIZE
from vmlab.core.safely import named
from vmlab.errors import KernelError

if TYPE_CHECKING:
    from pathlib import Path

    from vmlab.boot import fdt

__all__ = [
    "Formats",
    "beginning",
    "check_initrd",
    "read_image",
    "read_initrd",
    "read_tree",
    "unwrap",
]

#: a size that a file whose beginning alone is known may have
_ANY = 1 << 64
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe, which can be read but once: save it to a file first"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device, not a file: it is empty, or has no end"),
    (stat.S_ISBLK, "a block device: copy the image that it holds to a file"),
)


class Formats(Protocol):
    """The kernels of an architecture: a module of its loader's."""

    @property
    def TARGET(self) -> Target:
        """Whose ELF files they are."""
        ...

    def is_kernel(self, first: bytes | bytearray) -> bool:
        """Whether a file that begins so may be one."""
        ...

    def guess(self, image: bytes | bytearray) -> str:
        """What another file seems to be, and what to do."""
        ...


def read_image(
    path: str | Path, formats: Formats, what: str = "kernel", limit: int = MAX_SIZE
) -> bytes:
    """The file's bytes, of an ELF file those that a loader needs; KernelError in words when it cannot be read
    or needs more than `limit`."""
    limit = min(limit, MAX_SIZE)
    return _read(path, what, lambda file, size: _wanted(file, size, named(path), limit, formats))


def read_initrd(path: str | Path, limit: int) -> bytes:
    """The file's bytes, `limit` at most: the guest's memory."""
    return _read(path, "initrd", lambda _, size: _fits(path, size, limit))


def read_tree(path: str | Path) -> fdt.Node:
    """The device tree in the file; KernelError where it cannot be read, ConfigError where it is none."""
    from vmlab.boot import fdt  # only here: few machines are given one

    data = _read(path, "device tree", lambda _, size: min(size, fdt.MAX_SIZE + 1))
    return fdt.parse(data, f"device tree {named(path)}")


def check_initrd(path: str | Path, limit: int) -> None:
    """As `read_initrd`, but nothing is read."""
    _read(path, "initrd", lambda _, size: _fits(path, size, limit) * 0)


def _fits(path: str | Path, size: int, limit: int) -> int:
    if size > limit:
        raise KernelError(
            f"the initrd {str(path)!r} of {size:#x} bytes does not fit the guest's memory of"
            f" {limit >> 20} MiB; give it more (memory=...)"
        )
    return size


def _read(path: str | Path, what: str, wanted: Callable[[BinaryIO, int], int]) -> bytes:
    """The file's first bytes, as many as `wanted(file, size)` says."""
    name = f"{what} {str(path)!r}"
    try:
        # nothing may block here: opening a pipe would wait for its writer
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KernelError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise KernelError(f"{name}: {why}") from error
    try:
        status = os.fstat(fd)
        for holds, words in _KINDS:
            if holds(status.st_mode):
                raise KernelError(f"{name} is {words}")
        if not status.st_size:
            raise KernelError(f"{name} is empty")
        with open(fd, "rb", closefd=False) as file:
            size = wanted(file, status.st_size)
            file.seek(0)
            return file.read(size)
    except OSError as error:
        raise KernelError(f"{name}: {error.strerror}") from error
    finally:
        os.close(fd)


def _wanted(file: BinaryIO, size: int, name: str, limit: int, formats: Formats) -> int:
    if size <= limit:
        return size
    first = file.read(HEAD)
    if first[:4] == ELF_MAGIC:
        size = ElfFile(first, name, formats.TARGET, size).extent
    elif not (formats.is_kernel(first) or payload.format_of(first)):
        raise KernelError(f"{name}: {formats.guess(first)}")
    if size > limit:
        raise KernelError(
            f"{name}: {size:#x} bytes to load; this guest's memory, or any kernel, ends at {limit:#x};"
            " give it more (memory=...)"
        )
    return size


def unwrap(image: bytes, name: str, formats: Formats, limit: int = MAX_SIZE) -> bytes | bytearray:
    """`image`, unpacked where it was compressed as a whole; at most `limit` bytes."""
    if payload.format_of(image) in ("", "uncompressed"):
        return image

    def needed(first: bytearray, name: str) -> int | None:
        """What is needed of an image that begins so (`payload.Plan`)."""
        if first[:4] == ELF_MAGIC:
            return ElfFile(first, name, formats.TARGET, _ANY).extent
        if formats.is_kernel(first):
            return None
        raise KernelError(f"{name}: what it unpacks to is {formats.guess(first)}")

    return payload.unpack(memoryview(image), name, needed, min(limit, MAX_SIZE))


def beginning(image: bytes, name: str) -> tuple[bytes | bytearray, int | None]:
    """(what `unwrap` gives, or its first bytes; how long it is, None: all of it is there)."""
    if payload.format_of(image) in ("", "uncompressed"):
        return image, None
    first = payload.head(memoryview(image), name)
    return first, None if len(first) < HEAD else _ANY
