"""Kernels and initrds: what boots, and in which words the rest is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boot.images import LOAD, elf64, multiboot_elf, pvh_note
from tests.support import kernel_image
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot.x86_64.layout import BOOT_INFO, CMDLINE, memory_map
from vmlab.boot.x86_64.load import check, load, read_image
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError, KernelError

MIB = 1 << 20


def boot(
    memory: GuestMemory, image: bytes, text: str = "", initrd: bytes | None = None
) -> CpuState:
    memory.clear()
    return load(memory, image, "k", Cmdline(text=text), initrd)


def refused(memory: GuestMemory, image: bytes, initrd: bytes | None = None) -> str:
    with pytest.raises(KernelError) as caught:
        boot(memory, image, initrd=initrd)
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


# --- what boots -----------------------------------------------------------------------------------


def test_a_pvh_image_starts_at_its_note(memory: GuestMemory) -> None:
    state = boot(memory, elf64(), "a=1 b")
    assert state == CpuState("protected", LOAD, {"rbx": BOOT_INFO})
    assert memory.read(LOAD, 4) == b"\xfa\xf4\xeb\xfd"
    magic, version, _, modules, _, cmdline, _, table, entries, _ = struct.unpack(
        "<IIIIQQQQII", memory.read(BOOT_INFO, 56)
    )
    assert (magic, version, modules, cmdline) == (0x336E_C578, 1, 0, CMDLINE)
    assert memory.read(CMDLINE, 6) == b"a=1 b\0"
    told = [
        struct.unpack_from("<QQII", memory.read(table, 24 * entries), 24 * n)
        for n in range(entries)
    ]
    assert [tuple(one[:3]) for one in told] == [tuple(one) for one in memory_map(memory)]


def test_an_entry_note_may_be_eight_bytes_long(memory: GuestMemory) -> None:
    assert boot(memory, elf64(note=pvh_note(size=8))).rip == LOAD


def test_a_multiboot_image(memory: GuestMemory) -> None:
    state = boot(memory, multiboot_elf(), "x")
    assert (state.rip, state.regs) == (LOAD + 12, {"rax": 0x2BAD_B002, "rbx": BOOT_INFO})
    flags, lower, upper = struct.unpack("<III", memory.read(BOOT_INFO, 12))
    assert (lower, upper) == (639, 15 * 1024)
    assert flags & 0b1000101 == 0b1000101


def test_memory_past_the_files_bytes_is_zero(memory: GuestMemory) -> None:
    boot(memory, elf64(memory=0x2000))
    assert memory.read(LOAD + 4, 0x2000 - 4) == bytes(0x2000 - 4)


@pytest.mark.parametrize("make", [elf64, multiboot_elf])
def test_an_initrd_lies_on_a_page_at_the_top(memory: GuestMemory, make: object) -> None:
    image = make()  # type: ignore[operator]
    data = bytes(range(256)) * 17
    boot(memory, image, initrd=data)
    start = (16 * MIB - len(data)) & ~0xFFF
    assert memory.read(start, len(data)) == data
    assert struct.pack("<I", start) in memory.read(BOOT_INFO, 256)


def test_the_bundled_images_are_good() -> None:
    for name in ("hello", "irqlab", "monitor", "smp"):
        check(read_image(kernel_image(name)), name)


# --- what does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"\x7fELF", "truncated"),
        (elf64(machine=183), "made for arm64"),
        (elf64(machine=243), "made for riscv"),
        (elf64(machine=9999), "made for machine 9999"),
        (elf64(kind=1), "relocatable object"),
        (elf64(kind=4), "core dump"),
        (elf64(note=b"", kind=3), "neither a PVH note"),
        (elf64(note=pvh_note(owner=b"GNU\0"), kind=3), "neither a PVH note"),
        (elf64(note=pvh_note(size=2)), "entry is 4 or 8"),
        (elf64(note=pvh_note(entry=1 << 32, size=8)), "above 4 GiB"),
        (elf64(note=pvh_note(entry=0x50_0000)), "outside what it loads"),
        (multiboot_elf(flags=0x8003), "features 0x8000"),
        (b"#!/bin/sh\n" + bytes(600), "a script"),
        (b"MZ" + bytes(600), "PE/EFI"),
        (b"\x1f\x8b\x08" + bytes(600), "gzip"),
        (bytes(0x202) + b"HdrS" + bytes(600), "bzImage"),
        (bytes(0x38) + b"ARMd" + bytes(600), "arm64"),
        (b"hello there" * 99, "not an ELF"),
    ],
)
def test_what_is_no_kernel_is_told_apart(memory: GuestMemory, image: bytes, words: str) -> None:
    assert words in refused(memory, image)


def test_big_endian_and_odd_classes_are_refused(memory: GuestMemory) -> None:
    good = bytearray(elf64())
    for at, value in ((4, 0), (4, 3), (5, 2), (5, 0)):
        bad = bytearray(good)
        bad[at] = value
        assert "little-endian" in refused(memory, bytes(bad))


def test_an_image_that_does_not_fit(memory: GuestMemory) -> None:
    text = refused(memory, elf64(memory=32 * MIB))
    assert "does not fit the guest's memory of 16 MiB" in text
    assert "0x100000-" in text
    assert "does not fit" in refused(
        memory, elf64(segments=[(1 << 63, b"x", 1), (LOAD, b"\xf4", 1)])
    )
    assert "does not fit" in refused(
        memory, elf64(segments=[(LOAD, b"\xf4", 1), (0xFFFF_FFFF_FFFF_F000, b"x", 0x1000)])
    )


@pytest.mark.parametrize("address", [BOOT_INFO, BOOT_INFO - 8, CMDLINE, CMDLINE + 0xFFF])
def test_an_image_over_the_boot_data(memory: GuestMemory, address: int) -> None:
    text = refused(memory, elf64(segments=[(LOAD, b"\xf4", 1), (address, b"0123456789", 10)]))
    assert "would overwrite the boot data" in text


@pytest.mark.parametrize("size", [15 * MIB + 1, 16 * MIB, 17 * MIB])
def test_an_initrd_that_does_not_fit(memory: GuestMemory, size: int) -> None:
    assert "initrd" in refused(memory, elf64(), bytes(size))


def test_overlapping_segments_are_refused(memory: GuestMemory) -> None:
    text = refused(memory, elf64(segments=[(LOAD, b"ab" * 8, 16), (LOAD + 8, b"cd" * 8, 16)]))
    assert "overlap" in text


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path, words in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "directory"),
        (empty, "is empty"),
    ):
        with pytest.raises(KernelError, match=words):
            read_image(path)


# --- what happens to a file on its way -------------------------------------------------------------

GOOD = elf64(memory=0x3000)
HELLO = read_image(kernel_image("hello"))


@pytest.mark.parametrize(
    "image", [GOOD, HELLO, multiboot_elf()], ids=["made", "hello", "multiboot"]
)
def test_truncated_anywhere(memory: GuestMemory, image: bytes) -> None:
    """Each length loads, for bytes at the end that nothing needs, or is a KernelError."""
    for length in [*range(min(len(image), 700)), *range(700, len(image), 97)]:
        try:
            boot(memory, image[:length])
        except KernelError:
            pass


@settings(max_examples=400, deadline=None)
@given(
    image=st.sampled_from([GOOD, HELLO, multiboot_elf()]),
    changes=st.lists(
        st.tuples(
            st.integers(0, 400), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1)
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_corrupted_anywhere(
    image: bytes, changes: list[tuple[int, int, int]], memory: GuestMemory
) -> None:
    bad = bytearray(image)
    for at, size, value in changes:
        if at + size <= len(bad):
            bad[at : at + size] = value.to_bytes(8, "little")[:size]
    try:
        boot(memory, bytes(bad))
    except KernelError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_garbage(memory: GuestMemory, data: bytes) -> None:
    for image in (data, GOOD[:64] + data, GOOD[:20] + data):
        try:
            boot(memory, image)
        except KernelError:
            pass


# --- memory sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "larger than zero"),
        (-4096, "larger than zero"),
        (64 * MIB + 1, "not a multiple of the page"),
        (4096, "too small"),
        (1 << 50, "more than this host has"),
    ],
)
def test_memory_sizes_that_no_machine_has(size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GuestMemory.allocate(size)


def test_the_smallest_machine_has_no_room_for_a_kernel_at_1_mib() -> None:
    small = GuestMemory.allocate(MIB)
    try:
        assert "does not fit" in refused(small, elf64())
    finally:
        small.close()
