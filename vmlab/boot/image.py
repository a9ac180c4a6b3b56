"""An image's bytes: out of a file, and out of its wrapping. Whatever the file is, no more of it is taken
into memory than the guest has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from vmlab.boot import payload
from vmlab.boot.elf import ELF_MAGIC, ElfFile
from vmlab.boot.payload import HEAD, MAX_SIZE
from vmlab.boot.x86_64 import linux, multiboot
from vmlab.core.safely import named
from vmlab.errors import KernelError

__all__ = ["SECOND", "beginning", "check_initrd", "guess", "read_image", "read_initrd", "unwrap"]

SECOND = "an image for multiboot 2; this machine boots Linux, PVH and multiboot 1 images"
#: a size that a file whose beginning alone is known may have
_ANY = 1 << 64
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe, which can be read but once: save it to a file first"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device, not a file: it is empty, or has no end"),
    (stat.S_ISBLK, "a block device: copy the image that it holds to a file"),
)


def read_image(path: str | Path, what: str = "kernel", limit: int = MAX_SIZE) -> bytes:
    """The file's bytes, of an ELF file those that a loader needs; KernelError in words when it cannot be read
    or needs more than `limit`."""
    limit = min(limit, MAX_SIZE)
    return _read(path, what, lambda file, size: _wanted(file, size, named(path), limit))


def read_initrd(path: str | Path, limit: int) -> bytes:
    """The file's bytes, `limit` at most: the guest's memory."""
    return _read(path, "initrd", lambda _, size: _fits(path, size, limit))


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


def _wanted(file: BinaryIO, size: int, name: str, limit: int) -> int:
    if size <= limit:
        return size
    first = file.read(HEAD)
    if first[:4] == ELF_MAGIC:
        size = ElfFile(first, name, size).extent
    elif not (linux.is_bzimage(first) or payload.format_of(first) or multiboot.is_flat(first)):
        raise KernelError(f"{name}: {guess(first)}")
    if size > limit:
        raise KernelError(
            f"{name}: {size:#x} bytes to load; this guest's memory, or any kernel, ends at {limit:#x};"
            " give it more (memory=...)"
        )
    return size


def unwrap(image: bytes, name: str, limit: int = MAX_SIZE) -> bytes | bytearray:
    """`image`, unpacked where it was compressed as a whole; at most `limit` bytes."""
    if payload.format_of(image) in ("", "uncompressed"):
        return image
    return payload.unpack(memoryview(image), name, _needed, min(limit, MAX_SIZE))


def beginning(image: bytes, name: str) -> tuple[bytes | bytearray, int | None]:
    """(what `unwrap` gives, or its first bytes; how long it is, None: all of it is there)."""
    if payload.format_of(image) in ("", "uncompressed"):
        return image, None
    first = payload.head(memoryview(image), name)
    return first, None if len(first) < HEAD else _ANY


def _needed(first: bytearray, name: str) -> int | None:
    """What is needed of an image that begins so (`payload.Plan`)."""
    if first[:4] == ELF_MAGIC:
        return ElfFile(first, name, _ANY).extent
    if linux.is_bzimage(first) or multiboot.is_flat(first):
        return None
    raise KernelError(f"{name}: what it unpacks to is {guess(first)}")


def guess(image: bytes | bytearray) -> str:
    """What a file that is no ELF seems to be, and what to do."""
    if image[0x38:0x3C] == b"ARM\x64":
        return "an arm64 Linux Image; this machine is x86_64"
    if multiboot.is_second(image):
        return SECOND
    if image[:2] == b"MZ":
        return "a PE/EFI program; this machine boots Linux, PVH and multiboot 1 images"
    if image[:2] == b"#!":
        return "a script, not a kernel"
    if image[0x1FE:0x200] == b"\x55\xaa":
        return "a boot sector or a disk image, for a BIOS; this machine boots kernels without one"
    return "not an ELF file; this machine boots Linux, PVH and multiboot 1 images"
