"""Valid images of every format, damaged: each is a kernel or a KernelError, soon, in the guest's memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boot.images import CODE, LOAD, bzimage, elf64, flat, multiboot_elf, pvh_note
from tests.support import kernel_image
from vmlab.boot.x86_64.load import check, parse, place
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import VmlabError
from vmlab.machine.board import pc_description as tables

MIB = 1 << 20
VMLINUX = elf64(note=b"", segments=[(2 * MIB, CODE * 64, 0x1000)], entry=2 * MIB)
IMAGES = {
    "pvh": elf64(memory=0x3000),
    "pvh, 8 bytes": elf64(note=pvh_note(size=8)),
    "hello": kernel_image("hello").read_bytes()[:0x2000] + bytes(0x8000),
    "plain": elf64(note=b""),
    "multiboot": multiboot_elf(),
    "multiboot, every field": multiboot_elf(0x1_0007, LOAD + 120, LOAD, 0, 0, LOAD, 1, 80, 25, 0),
    "flat": flat(before=bytes(64), end=LOAD + 96, bss=LOAD + 0x2000),
    "bzImage, gzip": bzimage(gzip.compress(VMLINUX)),
    "bzImage, xz": bzimage(lzma.compress(VMLINUX, check=lzma.CHECK_CRC32)),
    "bzImage, bzip2": bzimage(bz2.compress(VMLINUX)),
    "bzImage, its own": bzimage(b"??"),
    "bzImage, none": bzimage(b""),
    "bzImage, 32 bits": bzimage(b"??", xloadflags=0),
    "gzip": gzip.compress(elf64()),
    "xz": lzma.compress(multiboot_elf()),
    "bzip2": bz2.compress(flat()),
}
#: where headers are: most changes go there
_HEADERS = 0x300
CHANGES = st.lists(
    st.tuples(
        st.integers(0, _HEADERS) | st.integers(0, 0x2000),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from([0, 1, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, (1 << 64) - 1])
        | st.integers(0, (1 << 64) - 1),
    ),
    max_size=5,
)


@pytest.fixture(scope="module")
def memory() -> Iterator[GuestMemory]:
    made = GuestMemory.allocate(4 * MIB)
    yield made
    made.close()


@pytest.mark.parametrize("name", IMAGES)
def test_they_are_good_before(name: str, memory: GuestMemory) -> None:
    memory.clear()
    place(memory, parse(IMAGES[name], name), Cmdline(), b"initrd", tables.told(2, linux=False))


def told_of(use: Callable[[], object]) -> str:
    """What an image is refused with; "" when it is not."""
    try:
        use()
    except VmlabError as error:
        return str(error)
    return ""


@settings(max_examples=600, deadline=None)
@given(
    name=st.sampled_from(sorted(IMAGES)),
    changes=CHANGES,
    cut=st.none() | st.integers(0, 0x1000),
    more=st.binary(max_size=64),
)
def test_damaged_ones(
    name: str,
    changes: list[tuple[int, int, int]],
    cut: int | None,
    more: bytes,
    memory: GuestMemory,
) -> None:
    image = bytearray(IMAGES[name])
    for at, size, value in changes:
        if at + size <= len(image):
            image[at : at + size] = value.to_bytes(8, "little")[:size]
    data = bytes(image[:cut]) + more
    memory.clear()
    began = time.process_time()
    for use in (
        lambda: check(data, "k"),
        lambda: place(memory, parse(data, "k", memory.size), Cmdline(text="a=1"), b"initrd"),
    ):
        assert "\n" not in told_of(use)
    assert time.process_time() - began < 2


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from(sorted(IMAGES)), size=st.integers(0, 0x280), data=st.binary(max_size=3000)
)
def test_beginnings_of_images(head: str, size: int, data: bytes, memory: GuestMemory) -> None:
    memory.clear()
    image = IMAGES[head][:size] + data
    assert "\n" not in told_of(lambda: place(memory, parse(image, "k", memory.size), Cmdline()))
