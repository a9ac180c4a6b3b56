"""Files that are no images, images in wrappings, and bombs: words, soon, and in little memory."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import re
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.boot.images import CODE, LOAD, bzimage, elf64, flat, multiboot_elf, pvh_note
from tests.support import require_module
from vmlab.boot.image import read_initrd
from vmlab.boot.x86_64.load import check, check_files, parse, read_image
from vmlab.errors import KernelError

MIB = 1 << 20
#: the memory of the guest that these images are for
LIMIT = 8 * MIB
#: seconds for what must be refused at once; a busy host takes longer than the tenth that it needs
SOON = 2.0


@contextmanager
def bounded(memory: int = 2 * LIMIT) -> Iterator[None]:
    """Soon, and with no more than `memory` bytes at any time."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < SOON


def refused(path: Path, limit: int = LIMIT) -> str:
    """By both who look: the one that asks for a machine, and the machine itself."""
    said = []
    for load in (
        lambda: check_files(str(path), None, limit),
        lambda: parse(read_image(path, limit=limit), str(path), limit),
    ):
        with pytest.raises(KernelError) as caught:
            load()
        assert "\n" not in str(caught.value)
        said.append(str(caught.value))
    return said[1]


# --- what is no file ------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, lambda path: read_initrd(path, LIMIT)])
def test_what_is_no_file_is_named(read: Callable[[Path], bytes], tmp_path: Path) -> None:
    pipe, sock = tmp_path / "pipe", tmp_path / "sock"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        with bounded():
            for path, words in (
                (Path("/dev/zero"), "is a character device"),
                (Path("/dev/null"), "is a character device"),
                (pipe, "is a pipe, which can be read but once"),
                (tmp_path, "is a directory"),
                (sock, "No such device or address"),
                (tmp_path / "a\0b", "null"),
                (tmp_path / ("x" * 300), "too long"),
            ):
                with pytest.raises(KernelError, match=words):
                    read(path)


def test_a_file_of_proc_says_a_size_and_has_none() -> None:
    with pytest.raises(KernelError, match="is empty"):
        read_image("/proc/self/maps")


def test_files_larger_than_the_guest(tmp_path: Path) -> None:
    def sparse(name: str, head: bytes) -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            file.write(head)
            file.truncate(64 << 30)
        return path

    with bounded(4 * MIB):
        assert "not an ELF file" in refused(sparse("nothing", b""))
        assert "0x1000000000 bytes to load" in refused(sparse("bz", bzimage(b"x")))
        with pytest.raises(
            KernelError, match=r"initrd .* does not fit the guest's memory of 8 MiB"
        ):
            read_initrd(sparse("initrd", b""), LIMIT)
        with pytest.raises(KernelError, match="does not fit"):
            check_files(str(sparse("good", elf64())), str(tmp_path / "initrd"), LIMIT)


def test_what_lies_behind_an_elf_files_segments_is_not_read(tmp_path: Path) -> None:
    """Debugging data makes a kernel's file larger than the guest's memory."""
    path = tmp_path / "vmlinux"
    path.write_bytes(elf64())
    with path.open("ab") as file:
        file.truncate(64 << 30)
    with bounded(4 * MIB):
        kernel = parse(read_image(path, limit=LIMIT), "k", LIMIT)
    assert bytes(kernel.pieces[0].data) == CODE


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(elf64(segments=[(LOAD, bytes(9999), 9999)]))
    data = read_image(path)
    with pytest.raises(KernelError, match="truncated"):
        parse(data[:5000], "k")


# --- files that were compressed as a whole ---------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return bytes(require_module("zstandard").ZstdCompressor().compress(data))


def lz4(data: bytes) -> bytes:
    block = require_module("lz4.block")
    parts = [data[at : at + (8 << 20)] for at in range(0, len(data), 8 << 20)]
    packed = [block.compress(one, store_size=False) for one in parts]
    return struct.pack("<I", 0x184C_2102) + b"".join(
        struct.pack("<I", len(one)) + one for one in packed
    )


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "lz4": lz4,
}


@pytest.mark.parametrize("form", PACKERS)
@pytest.mark.parametrize("image", [elf64(), multiboot_elf(), flat(), bzimage(b"??")])
def test_a_compressed_image_is_as_good_as_the_image(form: str, image: bytes) -> None:
    packed = PACKERS[form](image)
    check(packed, "k")
    plain, unpacked = parse(image, "k"), parse(packed, "k")
    assert [one._replace(data=bytes(one.data)) for one in unpacked.pieces] == [
        one._replace(data=bytes(one.data)) for one in plain.pieces
    ]
    assert (unpacked.entry, unpacked.linux) == (plain.entry, plain.linux)


@pytest.mark.parametrize("form", PACKERS)
def test_what_else_is_compressed_is_refused(form: str) -> None:
    for load in (check, parse):
        with pytest.raises(KernelError, match="not an ELF file"):
            load(PACKERS[form](b"hello there" * 9999), "k")
        with pytest.raises(KernelError, match="not an ELF file"):
            load(PACKERS[form](PACKERS[form](elf64())), "k")


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz"])
def test_a_compressed_file_that_ends_early(form: str) -> None:
    whole = elf64(segments=[(LOAD, os.urandom(99_999), 99_999)])
    with pytest.raises(KernelError, match=f"{form} payload is damaged: it ends early"):
        parse(PACKERS[form](whole)[:-5000], "k")


# --- bombs ----------------------------------------------------------------------------------------


#: what makes a stream of each kind; it is told to hold this many zeroes
BOMBS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.compressobj(1, wbits=31),
    "bzip2": bz2.BZ2Compressor,
    "xz": lambda: lzma.LZMACompressor(preset=0),
    "zstd": lambda: require_module("zstandard").ZstdCompressor().compressobj(),
}
ZEROES = 64 * MIB


@functools.cache
def stream(form: str, first: bytes) -> bytes:
    packer = BOMBS[form]()
    parts = [packer.compress(first)]
    parts += [packer.compress(bytes(MIB)) for _ in range(ZEROES // MIB)]
    return b"".join([*parts, packer.flush()])


def claiming(size: int) -> bytes:
    """An ELF file's beginning whose segment is said to have `size` bytes in it."""
    image = bytearray(elf64())
    struct.pack_into("<QQ", image, 64 + 56 + 32, size, size)
    return bytes(image)


@pytest.mark.parametrize("form", BOMBS)
@pytest.mark.parametrize("wrap", [bytes, bzimage])
def test_a_bomb_is_not_unpacked(form: str, wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(wrap(stream(form, b"")))
    with bounded():
        text = refused_at_boot(bomb)
    assert "not an ELF file" in text or "holds no ELF file" in text
    bomb.write_bytes(wrap(stream(form, claiming(ZEROES))))
    with bounded():
        text = refused_at_boot(bomb)
    assert re.search(r"unpacks to 0x40000\w\w bytes or more", text)


def refused_at_boot(path: Path) -> str:
    with pytest.raises(KernelError) as caught:
        parse(read_image(path, limit=LIMIT), str(path), LIMIT)
    return str(caught.value)


@pytest.mark.parametrize("form", BOMBS)
def test_a_bomb_behind_a_good_kernel_is_left_alone(form: str, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(stream(form, claiming(6 * MIB)))
    with bounded():
        kernel = parse(read_image(bomb, limit=LIMIT), "k", LIMIT)
    assert kernel.pieces[0].size == 6 * MIB


def test_a_bomb_that_is_no_elf_file(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(stream("gzip", flat()))
    with bounded():
        assert "bytes or more" in refused_at_boot(bomb)


def test_an_image_with_as_many_notes_as_it_may_have() -> None:
    """Each of them the whole file, full of empty notes."""
    count, body = 1023, bytes(12) * (1 << 18)
    at = 64 + 56 * (count + 1)
    table = struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(body), len(body), 4) * count
    table += struct.pack("<IIQQQQQQ", 1, 7, at, LOAD, LOAD, 16, 16, 4096)
    head = bytearray(elf64(note=b"")[:64])
    struct.pack_into("<H", head, 56, count + 1)
    with bounded(16 * MIB):
        parse(bytes(head) + table + body, "k")


def test_a_note_whose_owner_is_the_rest_of_the_file() -> None:
    note = struct.pack("<III", 2 * MIB, 4, 18) + b"Xen\0" + bytes(2 * MIB)
    image = elf64(note=note * 9 + pvh_note())
    with bounded():
        parse(image, "k")


@pytest.mark.parametrize(
    "chunk",
    [b"\x01\0\0\0\0", b"\x02\0\0\0\x10x", struct.pack("<I", 0x184C_2102)],
    ids=["empty", "a-byte-each", "frames-without-chunks"],
)
def test_chunks_that_give_next_to_nothing_end_soon(chunk: bytes) -> None:
    require_module("lz4.block")
    data = struct.pack("<I", 0x184C_2102) + chunk * 5_000_000
    began = time.monotonic()
    with pytest.raises(KernelError, match=r"k: its lz4 payload is damaged: more than 1000 chunks"):
        parse(data, "k")
    assert time.monotonic() - began < SOON
