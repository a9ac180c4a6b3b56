"""Compressed images: what a bzImage carries (Linux boot protocol 2.08, `payload_offset`), and files that
were compressed as a whole.

The compressor is told by the first bytes. Python brings zlib, bz2 and lzma; LZ4 and Zstandard come with
`pip install 'vmlab[linux]'`. What comes out is looked at as soon as there is enough of it, so that nothing
is unpacked that cannot be booted, and no more is kept than is needed.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

from vmlab.errors import KernelError

__all__ = ["HEAD", "MAX_SIZE", "NoDecompressor", "format_of", "head", "unpack"]

#: the largest image that makes sense; distributions' vmlinux are about 60 MB
MAX_SIZE = 512 << 20
#: bytes that say what an image is: an ELF file's headers, a multiboot header's place
HEAD = 64 << 10
#: bytes that a decompressor is given, and asked for, at a time
_IN, _OUT = 64 << 10, 1 << 20
#: bytes that an LZMA stream's dictionary may take; the kernel's build asks for 128 MiB at most
_LZMA_MEMORY = 256 << 20
#: bytes behind what is needed that are unpacked for the check at the stream's end, and not kept
_BEYOND = 32 << 20
#: uncompressed bytes of one chunk of LZ4's legacy frame, which the kernel's build uses
_LZ4_CHUNK = 8 << 20
_LZ4_MAGIC = 0x184C_2102
#: frames and chunks that are not whole, each of which takes time and gives little: a kernel has one of each
_LZ4_SHORT = 1000

_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (struct.pack("<I", _LZ4_MAGIC), "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89LZO", "lzo"),
    (b"\x7fELF", "uncompressed"),
)

#: (beginning of an image, its name) -> how many bytes of it are needed, None: all; KernelError for what
#: does not boot
Plan = Callable[[bytearray, str], int | None]


class NoDecompressor(KernelError):
    """This Python cannot unpack that format; the image may still boot and unpack itself."""


def format_of(data: bytes | memoryview) -> str:
    """The compressor's name; "" for an unknown one."""
    first = bytes(data[:8])
    return next((name for magic, name in _MAGICS if first.startswith(magic)), "")


def head(data: memoryview, name: str) -> bytearray:
    """The first HEAD bytes of what `data` unpacks to, or fewer where there are no more."""
    found = bytearray()
    for chunk in _chunks(data, name):
        found += chunk
        if len(found) >= HEAD:
            break
    return found[:HEAD]


def unpack(data: memoryview, name: str, plan: Plan, limit: int = MAX_SIZE) -> bytearray:
    """The image in `data`, as far as `plan` says that it is needed. KernelError when it is damaged or needs
    more than `limit` bytes, NoDecompressor when nothing here reads its format."""
    found = bytearray()
    room: int | None = None
    total = 0
    for chunk in _chunks(data, name):
        total += len(chunk)
        found += chunk if room is None else chunk[: room - len(found)]
        if room is None and len(found) >= HEAD:
            room = _room(found, name, plan, limit)
            del found[room:]
        if room is not None and total > room + _BEYOND:
            break
    wanted = plan(found, name)
    if total > limit and (wanted is None or wanted > limit):
        raise _too_large(name, wanted or total, limit)
    return found


def _room(found: bytearray, name: str, plan: Plan, limit: int) -> int:
    wanted = plan(found, name)
    if wanted is not None and wanted > limit:
        raise _too_large(name, wanted, limit)
    return limit if wanted is None else wanted


def _too_large(name: str, size: int, limit: int) -> KernelError:
    return KernelError(
        f"{name}: it unpacks to {size:#x} bytes or more; this guest's memory, or any kernel, ends at"
        f" {limit:#x}; give it more (memory=...)"
    )


def _chunks(data: memoryview, name: str) -> Iterator[bytes | memoryview]:
    """What `data` unpacks to, piece by piece, the errors in words."""
    form = format_of(data)
    call = _FORMATS.get(form)
    if call is None:
        raise NoDecompressor(
            f"{name}: its payload is {form or 'in a format that is not known'}, which vmlab cannot"
            f" unpack (it starts with {bytes(data[:4]).hex(' ')})"
        )
    try:
        yield from call(data)
    except NoDecompressor as error:
        raise NoDecompressor(f"{name}: {error}") from error.__cause__
    except Exception as error:
        raise KernelError(f"{name}: its {form} payload is damaged: {error}") from error


def _gzip(data: memoryview) -> Iterator[bytes]:
    import zlib

    one = zlib.decompressobj(31)
    for at in range(0, len(data), _IN):
        rest: bytes | memoryview = data[at : at + _IN]
        while rest and not one.eof:
            yield one.decompress(rest, _OUT)
            rest = one.unconsumed_tail
    # the last of the input may have left output behind
    while not one.eof and (more := one.decompress(b"", _OUT)):
        yield more
    _ended(one)


def _bzip2(data: memoryview) -> Iterator[bytes]:
    import bz2

    return _fed(bz2.BZ2Decompressor(), data)


def _lzma(data: memoryview) -> Iterator[bytes]:
    import lzma

    return _fed(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), data)


def _fed(one: Any, data: memoryview) -> Iterator[bytes]:
    at = 0
    while not one.eof:
        piece = data[at : at + _IN] if one.needs_input else b""
        at += len(piece)
        made = one.decompress(piece, _OUT)
        yield made
        if not made and not piece:
            break
    _ended(one)


def _ended(decompressor: Any) -> None:
    if not decompressor.eof:
        raise ValueError("it ends early")


def _lz4(data: memoryview) -> Iterator[bytes]:
    """The legacy frame: chunks with their length before them, until the image's own trailer."""
    block = _module("lz4.block", "lz4")
    at, short = 4, 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        made = b""
        if length != _LZ4_MAGIC:
            if at + length > len(data):
                break  # the size of the whole, which the build appends, is no chunk
            made = block.decompress(data[at : at + length], uncompressed_size=_LZ4_CHUNK)
            yield made
            at += length
        short += len(made) < _LZ4_CHUNK
        if short > _LZ4_SHORT:
            raise ValueError(f"more than {_LZ4_SHORT} chunks are not whole, up to {at:#x}")


def _zstd(data: memoryview) -> Iterator[bytes]:
    zstandard = _module("zstandard", "zstd")
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=False)
    size = _OUT - 1  # odd: a frame whose end is not seen by a short read is rare
    while True:
        try:
            chunk: bytes = reader.read(size)
        except zstandard.ZstdError:
            if not reader.tell():
                raise
            return  # behind a frame there may be anything; whether all is there, the ELF file says
        yield chunk
        if len(chunk) < size:
            return


def _uncompressed(data: memoryview) -> Iterator[memoryview]:
    for at in range(0, len(data), _OUT):
        yield data[at : at + _OUT]


def _module(name: str, form: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NoDecompressor(
            f"its payload is {form}-compressed, and Python's {name.partition('.')[0]} is missing:"
            " pip install 'vmlab[linux]'"
        ) from error


_FORMATS: dict[str, Callable[[memoryview], Iterator[bytes] | Iterator[memoryview]]] = {
    "gzip": _gzip,
    "xz": _lzma,
    "lzma": _lzma,
    "bzip2": _bzip2,
    "lz4": _lz4,
    "zstd": _zstd,
    "uncompressed": _uncompressed,
}
