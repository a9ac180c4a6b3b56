"""arm64 images: taken apart, placed, and refused."""

from __future__ import annotations

import contextlib
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.boot.images import bzimage, elf64
from vmlab.arch import get
from vmlab.boot import fdt
from vmlab.boot.arm64 import load
from vmlab.boot.arm64.layout import UNIT, places
from vmlab.boot.kind import arch_of
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import KernelError

RAM, MIB = 0x8000_0000, 1 << 20
AARCH64 = 183


def image(
    offset: int = 0, size: int = 0x3000, flags: int = 0, code: bytes = b"\x1f\x20\x03\xd5"
) -> bytes:
    """A Linux Image whose code is `code`."""
    head = struct.pack("<IIQQQ", 0x1400_0010, 0, offset, size, flags) + bytes(24) + b"ARM\x64"
    return (head + bytes(4) + code).ljust(0x1000, b"\0")


def elf(**options: object) -> bytes:
    made: dict[str, object] = {"address": RAM + 0x8_0000, "entry": RAM + 0x8_0000}
    return elf64(b"\x1f\x20\x03\xd5" * 4, machine=AARCH64, note=b"", **(made | options))  # type: ignore[arg-type]


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    made = GuestMemory.allocate(16 * MIB, arch=get("arm64"))
    yield made
    made.close()


def placed(
    memory: GuestMemory,
    data: bytes,
    cmdline: str = "",
    initrd: bytes | None = None,
    told: load.Told = load.Told(),  # noqa: B008
) -> tuple[int, fdt.Node]:
    """(where the CPU starts, the device tree)"""
    kernel = load.parse(data, "k", memory.size)
    state = load.place(memory, kernel, Cmdline(text=cmdline), initrd, told)
    return state.start, fdt.parse(bytes(memory.read(state.regs["x0"], UNIT)))


def chosen(tree: fdt.Node) -> dict[str, bytes]:
    node = tree.child("chosen")
    assert node is not None
    return node.properties


@pytest.mark.parametrize("offset", [0, 0x8_0000])
def test_an_image_goes_where_its_header_says(memory: GuestMemory, offset: int) -> None:
    data = image(offset)
    start, tree = placed(memory, data, "quiet")
    assert start == RAM + offset
    assert memory.read(start, len(data)) == data
    assert chosen(tree)["bootargs"] == b"quiet\0"
    assert len(chosen(tree)["kaslr-seed"]) == 8
    node = tree.child("memory")
    assert node is not None
    assert node.properties["reg"] == fdt.reg(RAM, 16 * MIB)


def test_an_old_image_without_a_size(memory: GuestMemory) -> None:
    assert placed(memory, image(0, 0))[0] == RAM + 0x8_0000


def test_a_compressed_image(memory: GuestMemory) -> None:
    assert placed(memory, gzip.compress(image()))[0] == RAM


def test_an_elf_file_is_entered_in_the_same_way(memory: GuestMemory) -> None:
    start, tree = placed(memory, elf(), "a=b")
    assert start == RAM + 0x8_0000
    assert chosen(tree) == {"bootargs": b"a=b\0"}


def test_a_vmlinux_lies_where_its_image_would(memory: GuestMemory) -> None:
    base = 0xFFFF_8000_0800_0000
    start, _ = placed(memory, elf(segments=[(base, image(), 0x3000)], entry=base + 0x100))
    assert start == RAM + 0x100


def test_an_initrd(memory: GuestMemory) -> None:
    _, tree = placed(memory, image(), initrd=b"initrd" * 1000)
    start, end = (
        int.from_bytes(chosen(tree)[f"linux,initrd-{part}"], "big") for part in ("start", "end")
    )
    assert start % 0x1000 == 0
    assert memory.read(start, end - start) == b"initrd" * 1000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bzimage(b""), r"a bzImage made for x86_64; this machine is arm64; arch='x86_64' \(--arch"),
        (elf64(), "made for x86_64; this machine is arm64; arch='x86_64'"),
        (elf64(machine=243), "made for riscv; this machine is arm64$"),
        (image(flags=1), "big-endian"),
        (image(0x20_0000), "a text offset of 0x200000"),
        (image()[:0x3C], "truncated"),
        (b"MZ" + bytes(2) + b"zimg" + bytes(100), r"vmlinuz.efi\); give the Image"),
        (b"MZ" + bytes(100), "a PE/EFI program"),
        (b"#!/bin/sh\n", "a script"),
        (bytes(100), "neither a Linux Image nor an ELF file"),
        (elf(entry=0x1234), "its entry 0x1234 lies outside"),
        (elf(kind=3), "can lie anywhere"),
        (elf(segments=[(1 << 63, b"x" * 64, 64)]), "linked in the upper half, and no Linux"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(KernelError, match=words):
        load.parse(data, "k", 16 * MIB)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (elf(address=0x4008_0000, entry=0x4008_0000), "lies below RAM, which begins at 0x80000000"),
        (
            elf(address=RAM + 16 * MIB, entry=RAM + 16 * MIB),
            "does not fit the guest's memory of 16",
        ),
        (elf(memory=16 * MIB - 0x8_0000), "would overwrite the device tree and tables"),
        (image(size=17 * MIB), "give it more"),
    ],
)
def test_what_does_not_fit(memory: GuestMemory, data: bytes, words: str) -> None:
    with pytest.raises(KernelError, match=words):
        placed(memory, data)


def test_more_command_line_and_more_initrd_than_there_is_room(memory: GuestMemory) -> None:
    with pytest.raises(KernelError, match="2047 bytes; this one has 2100"):
        placed(memory, image(), "x" * 2100)
    with pytest.raises(KernelError, match="the initrd of 0xf00000 bytes does not fit"):
        placed(memory, image(size=2 * MIB), initrd=bytes(15 * MIB))


def test_a_tree_of_ones_own_keeps_what_it_says(memory: GuestMemory) -> None:
    own = fdt.Node(
        "",
        {"model": b"mine\0"},
        [fdt.Node("chosen", {"a": b"b"}, []), fdt.Node("memory@0", {"reg": b""}, [])],
    )
    _, tree = placed(memory, image(), "quiet", told=load.Told(own))
    assert tree.properties["model"] == b"mine\0"
    assert (chosen(tree)["a"], chosen(tree)["bootargs"]) == (b"b", b"quiet\0")
    assert [one.name for one in tree.children].count("memory@0") == 1
    assert tree.child("memory@80000000") is None


def test_a_tree_that_is_too_large(memory: GuestMemory) -> None:
    big = fdt.Node("", {}, [fdt.Node("x", {"y": bytes(UNIT)}, [])])
    with pytest.raises(KernelError, match="bytes of device tree; there is room for 0x10000"):
        placed(memory, image(), told=load.Told(big))


def test_what_a_linux_is_handed_lies_apart_and_aligned(memory: GuestMemory) -> None:
    at = places(memory)
    assert RAM < at.tree < at.code < at.tables < at.end <= memory.regions[-1].end
    assert not any(place % UNIT for place in at)


@given(st.binary(max_size=200), st.integers(0, 63))
def test_an_image_that_lies_is_an_error_and_no_more(noise: bytes, at: int) -> None:
    data = bytearray(elf())
    data[at : at + len(noise)] = noise
    with contextlib.suppress(KernelError):
        load.parse(bytes(data), "k", 16 * MIB)


@pytest.mark.parametrize(
    ("data", "arch"),
    [
        (image(), "arm64"),
        (gzip.compress(image(), mtime=0), "arm64"),
        (elf(), "arm64"),
        (elf64(), "x86_64"),
        (bzimage(b""), "x86_64"),
        (gzip.compress(bzimage(b""), mtime=0), "x86_64"),
        (elf64(machine=243), "riscv64"),
        (elf64(machine=8), None),
        (gzip.compress(image(), mtime=0)[:30], None),
        (b"", None),
        (bytes(2000), None),
    ],
)
def test_which_machine_a_kernel_is_for(tmp_path: Path, data: bytes, arch: str | None) -> None:
    file = tmp_path / "kernel"
    file.write_bytes(data)
    assert arch_of(file) == arch
    assert arch_of(tmp_path) is None
