"""What a bzImage carries: the compressed vmlinux (Linux boot protocol 2.08, `payload_offset`).

The compressor is told by the first bytes. Python brings zlib, bz2 and lzma; LZ4 and Zstandard come with
`pip install 'vmlab[linux]'`. A decompressor writes at most `MAX_SIZE` bytes, whatever the file says.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from typing import Any

from vmlab.errors import KernelError

__all__ = ["MAX_SIZE", "NoDecompressor", "format_of", "unpack"]

#: the largest vmlinux that makes sense; distributions' are about 60 MB
MAX_SIZE = 512 << 20
#: uncompressed bytes of one chunk of LZ4's legacy frame, which the kernel's build uses
_LZ4_CHUNK = 8 << 20
_LZ4_MAGIC = 0x184C_2102

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


class NoDecompressor(KernelError):
    """This Python cannot unpack that format; the image may still boot and unpack itself."""


def format_of(payload: bytes | memoryview) -> str:
    """The compressor's name; "" for an unknown one."""
    head = bytes(payload[:8])
    return next((name for magic, name in _MAGICS if head.startswith(magic)), "")


def unpack(payload: memoryview, name: str) -> bytes:
    """The ELF file in `payload`. KernelError when it is damaged, NoDecompressor when nothing here
    reads its format."""
    form = format_of(payload)
    call = _FORMATS.get(form)
    if call is None:
        raise NoDecompressor(
            f"{name}: its payload is {form or 'in a format that is not known'}, which vmlab cannot"
            f" unpack (it starts with {bytes(payload[:4]).hex(' ')})"
        )
    try:
        data = call(payload)
    except NoDecompressor as error:
        raise NoDecompressor(f"{name}: {error}") from error.__cause__
    except Exception as error:
        raise KernelError(f"{name}: its {form} payload is damaged: {error}") from error
    if data[:4] != b"\x7fELF":
        raise KernelError(f"{name}: its {form} payload holds no ELF file")
    return data


def _gzip(payload: memoryview) -> bytes:
    import zlib

    one = zlib.decompressobj(31)
    return _whole(one, one.decompress(payload, MAX_SIZE))


def _bzip2(payload: memoryview) -> bytes:
    import bz2

    one = bz2.BZ2Decompressor()
    return _whole(one, one.decompress(payload, MAX_SIZE))


def _lzma(payload: memoryview) -> bytes:
    import lzma

    one = lzma.LZMADecompressor()
    return _whole(one, one.decompress(payload, MAX_SIZE))


def _whole(decompressor: Any, data: bytes) -> bytes:
    if not decompressor.eof:
        raise ValueError("it ends early, or is longer than any kernel")
    return data


def _lz4(payload: memoryview) -> bytes:
    """The legacy frame: chunks with their length before them, until the image's own trailer."""
    block = _module("lz4.block", "lz4")
    parts, at, total = [], 4, 0
    while at + 4 <= len(payload):
        (length,) = struct.unpack_from("<I", payload, at)
        at += 4
        if length == _LZ4_MAGIC:
            continue
        if at + length > len(payload):
            break  # the size of the whole, which the build appends, is no chunk
        parts.append(block.decompress(payload[at : at + length], uncompressed_size=_LZ4_CHUNK))
        at, total = at + length, total + len(parts[-1])
        if total > MAX_SIZE:
            raise ValueError(f"more than {MAX_SIZE:#x} bytes")
    return b"".join(parts)


def _zstd(payload: memoryview) -> bytes:
    zstandard = _module("zstandard", "zstd")
    found: bytes = (
        zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=False).read(MAX_SIZE)
    )
    return found


def _module(name: str, form: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NoDecompressor(
            f"its payload is {form}-compressed, and Python's {name.partition('.')[0]} is missing:"
            " pip install 'vmlab[linux]'"
        ) from error


_FORMATS: dict[str, Callable[[memoryview], bytes]] = {
    "gzip": _gzip,
    "xz": _lzma,
    "lzma": _lzma,
    "bzip2": _bzip2,
    "lz4": _lz4,
    "zstd": _zstd,
    "uncompressed": bytes,
}
