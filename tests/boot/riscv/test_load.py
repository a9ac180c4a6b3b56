"""RISC-V images: taken apart, placed, and refused."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.boot.images import bzimage, elf64
from vmlab.arch import machine
from vmlab.boot import fdt
from vmlab.boot.riscv.load import Kernel, RiscvLoader
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import KernelError

RAM, MIB = 0x8000_0000, 1 << 20
RISCV = 243
#: wfi; jump back
CODE = struct.pack("<2I", 0x1050_0073, 0xFFDF_F06F)


def image(
    offset: int = 0x20_0000, size: int = 0x3000, magic: bytes = b"RISCV\0\0\0RSC\x05"
) -> bytes:
    """A Linux Image (Documentation/arch/riscv/boot-image-header.rst)."""
    head = struct.pack("<2I3Q2I", 0x6F, 0, offset, size, 0, 2, 0) + bytes(8)
    return (head + magic + bytes(4)).ljust(0x1000, b"\0")


def elf(address: int = RAM, **options: object) -> bytes:
    made: dict[str, object] = {"address": address, "entry": address, "machine": RISCV, "note": b""}
    return elf64(CODE, **(made | options))  # type: ignore[arg-type]


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    made = GuestMemory.allocate(16 * MIB, arch=machine("riscv64"))
    yield made
    made.close()


def placed(
    memory: GuestMemory, data: bytes, initrd: bytes | None = None, cmdline: str = ""
) -> object:
    loader = RiscvLoader(64)
    return loader.place(memory, loader.parse(data, "k", memory.size), Cmdline(text=cmdline), initrd)


@pytest.mark.parametrize(
    ("data", "pc", "supervisor"),
    [
        (elf(), RAM, False),
        (elf(RAM + 0x1000), RAM + 0x1000, False),
        (elf(RAM + 0x20_0000), RAM + 0x20_0000, True),
        # a linker put the file's own headers on the page before
        (elf(RAM + 0x1F_F000, entry=RAM + 0x20_0010, memory=0x2000), RAM + 0x20_0010, True),
        (elf(entry=RAM + 0x20_0000, memory=0x30_0000), RAM + 0x20_0000, False),
        (image(), RAM + 0x20_0000, True),
    ],
)
def test_where_it_lies_says_in_which_mode(
    memory: GuestMemory, data: bytes, pc: int, supervisor: bool
) -> None:
    state = placed(memory, data, cmdline="quiet")
    assert (state.pc, state.supervisor) == (pc, supervisor)  # type: ignore[attr-defined]
    tree = fdt.parse(bytes(memory.read(state.regs["x11"], 0x1000)))  # type: ignore[attr-defined]
    chosen, ram = tree.child("chosen"), tree.child("memory")
    assert chosen is not None
    assert ram is not None
    assert chosen.properties["bootargs"] == b"quiet\0"
    assert ram.properties["reg"] == fdt.reg(RAM, 16 * MIB)


def test_an_initrd(memory: GuestMemory) -> None:
    state = placed(memory, image(), b"x" * 5000)
    tree = fdt.parse(bytes(memory.read(state.regs["x11"], 0x1000)))  # type: ignore[attr-defined]
    chosen = tree.child("chosen")
    assert chosen is not None
    start, end = (
        int.from_bytes(chosen.properties[f"linux,initrd-{what}"], "big")
        for what in ("start", "end")
    )
    assert bytes(memory.read(start, end - start)) == b"x" * 5000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bzimage(b""), "a bzImage"),
        (elf64(), "made for x86_64"),
        (b"\x7fELF\x01\x01\x01" + elf()[7:], "nothing to load"),
        (elf(kind=3), "without a way in"),
        (elf(kind=1), "link it first"),
        (b"#!/bin/sh\n", "a script"),
        (b"MZ" + bytes(100), "PE/EFI"),
        (bytes(100), "neither a Linux Image nor an ELF file"),
        (elf()[:124], "truncated"),
    ],
)
def test_what_is_no_kernel(data: bytes, words: str) -> None:
    with pytest.raises(KernelError, match=words):
        RiscvLoader(64).parse(data, "k", 16 * MIB)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (elf(0x10_0000), "below RAM"),
        (elf(RAM, memory=64 * MIB), "does not fit"),
        (elf(RAM + 14 * MIB), "overwrite the device tree"),
        (
            elf(segments=[(RAM, CODE, 0x2000), (RAM + 0x1000, CODE, 8)]),
            "overlap",
        ),
        (image(size=15 * MIB), "does not fit|device tree"),
    ],
)
def test_what_has_no_place(memory: GuestMemory, data: bytes, words: str) -> None:
    with pytest.raises(KernelError, match=words):
        placed(memory, data)


def test_a_harts_width() -> None:
    with pytest.raises(
        KernelError, match=r"made for riscv64; this machine is riscv32; arch='riscv64'"
    ):
        RiscvLoader(32).parse(elf(), "k", 16 * MIB)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=16), st.booleans())
def test_mutations(at: int, noise: bytes, linux: bool) -> None:
    """A kernel, or words that say why not."""
    data = bytearray(image() if linux else elf())
    data[at : at + len(noise)] = noise
    with contextlib.suppress(KernelError):
        assert isinstance(RiscvLoader(64).parse(bytes(data), "k", 16 * MIB), Kernel)
