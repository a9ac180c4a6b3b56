"""The Linux boot protocol: what a kernel finds where, and which images are refused in which words."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boot.images import CODE, bzimage, elf64, pvh_note
from tests.support import require_module
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot import payload
from vmlab.boot.x86_64.layout import BOOT_INFO, FIRMWARE, TABLES, memory_map
from vmlab.boot.x86_64.linux import RESET_VECTOR
from vmlab.boot.x86_64.load import Told, check, load, parse, place
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import KernelError

MIB = 1 << 20
LOAD = 0x20_0000
KERNEL_MAP = 0xFFFF_FFFF_8000_0000


@pytest.fixture(autouse=True)
def _clean(memory: GuestMemory) -> None:
    memory.clear()


def vmlinux(note: bytes = b"", size: int = 0x1000) -> bytes:
    """An ELF file that is linked where Linux lives."""
    image = bytearray(elf64(note=note, segments=[(LOAD, CODE, size)], entry=LOAD))
    header = 64 + (56 if note else 0)
    struct.pack_into("<Q", image, header + 16, KERNEL_MAP + LOAD)
    return bytes(image)


def whole(_: bytes | bytearray, __: str) -> None:
    """All of it is needed (`payload.Plan`)."""


def start(
    memory: GuestMemory, image: bytes, text: str = "", initrd: bytes | None = None
) -> CpuState:
    return load(memory, image, "k", Cmdline(text=text), initrd)


def target(memory: GuestMemory) -> int:
    """Where the firmware's jump goes."""
    code = memory.read(FIRMWARE, 11)
    assert code[:7] == bytes.fromhex("b0ff e621 e6a1 e9")
    return FIRMWARE + 11 + int(struct.unpack("<i", code[7:])[0])


# --- the 64-bit entry ---------------------------------------------------------------------------------


def test_a_vmlinux_without_a_note_starts_at_its_64_bit_entry(memory: GuestMemory) -> None:
    state = start(memory, vmlinux(), "a=1", b"initrd" * 99)
    assert (state.mode, state.rip, dict(state.regs)) == ("long", FIRMWARE, {"rsi": BOOT_INFO})
    assert target(memory) == LOAD
    page = memory.read(BOOT_INFO, 0x1000)
    assert page[0x1FE:0x200] == b"\x55\xaa"
    assert page[0x202:0x206] == b"HdrS"
    at, size = struct.unpack_from("<II", page, 0x218)
    assert memory.read(at, size) == b"initrd" * 99
    assert memory.read(struct.unpack_from("<I", page, 0x228)[0], 4) == b"a=1\0"
    told = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * n) for n in range(page[0x1E8])]
    assert told == [tuple(one) for one in memory_map(memory)]


def test_its_page_tables_map_memory_onto_itself(memory: GuestMemory) -> None:
    state = start(memory, vmlinux())

    def walk(address: int) -> int:
        table = state.cr3
        for shift in (39, 30, 21):
            (entry,) = struct.unpack("<Q", memory.read(table + (address >> shift & 511) * 8, 8))
            assert entry & 1
            table = entry & ~0xFFF
        assert entry & 0x80
        return table | address & 0x1F_FFFF

    for address in (0, 0x1234, LOAD, 0x7FFF_F123, 0xFFFF_FFFF):
        assert walk(address) == address


def test_its_segments_are_as_the_protocol_wants(memory: GuestMemory) -> None:
    base, limit = start(memory, vmlinux()).gdt
    table = struct.unpack("<4Q", memory.read(base, limit + 1))
    assert table[2:] == (0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)


def test_a_vmlinux_with_the_note_starts_there(memory: GuestMemory) -> None:
    state = start(memory, vmlinux(pvh_note(LOAD + 1)))
    assert (state.mode, target(memory)) == ("protected", LOAD + 1)


def test_at_the_reset_vector_is_the_keyboard_controllers_reset(memory: GuestMemory) -> None:
    start(memory, vmlinux())
    assert memory.read(RESET_VECTOR, 5) == bytes.fromhex("b0fe e664 f4")


@pytest.mark.parametrize("note", [b"", pvh_note(LOAD)])
def test_the_tables_are_named_to_the_kernel(memory: GuestMemory, note: bytes) -> None:
    place(memory, parse(vmlinux(note), "k"), Cmdline(), None, Told(b"RSD PTR and more"))
    assert memory.read(TABLES, 7) == b"RSD PTR"
    assert struct.pack("<Q", TABLES) in memory.read(BOOT_INFO, 0x78)


# --- bzImage --------------------------------------------------------------------------------------------

PACKERS = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "uncompressed": bytes,
}


def lz4_legacy(data: bytes) -> bytes:
    block = require_module("lz4.block")
    packed = block.compress(data, store_size=False)
    return struct.pack("<II", 0x184C_2102, len(packed)) + packed  # type: ignore[no-any-return]


def zstd(data: bytes) -> bytes:
    found: bytes = require_module("zstandard").ZstdCompressor().compress(data)
    return found


@pytest.mark.parametrize("form", [*PACKERS, "bzip2", "lz4", "zstd"])
def test_each_compressor(memory: GuestMemory, form: str) -> None:
    import bz2

    pack = {**PACKERS, "bzip2": bz2.compress, "lz4": lz4_legacy, "zstd": zstd}[form]
    inside = vmlinux(pvh_note(LOAD))
    # the kernel's build appends the size
    packed = pack(inside) + struct.pack("<I", len(inside))
    assert payload.format_of(packed) == form
    assert payload.unpack(memoryview(packed), "k", whole)[: len(inside)] == inside
    state = start(memory, bzimage(packed))
    assert (state.mode, target(memory)) == ("protected", LOAD)
    assert memory.read(LOAD, 4) == CODE


def test_a_vmlinux_inside_without_a_note_starts_at_its_64_bit_entry(memory: GuestMemory) -> None:
    image = bzimage(gzip.compress(vmlinux()))
    state = start(memory, image)
    assert (state.mode, target(memory)) == ("long", LOAD)
    assert memory.read(BOOT_INFO + 0x1F1, 0x1F) == image[0x1F1:0x210]


@pytest.mark.parametrize("body", [b"\x89LZO unknown", b"??" * 99])
def test_what_cannot_be_unpacked_starts_at_the_images_own_entry(
    memory: GuestMemory, body: bytes
) -> None:
    image = bzimage(body, initrd_max=0x5F_FFFF)
    state = start(memory, image, "x", b"disk")
    assert (state.mode, target(memory)) == ("long", LOAD + 0x200)
    assert memory.read(LOAD, 0x400) == b"\xf4" * 0x400
    page = memory.read(BOOT_INFO, 0x1000)
    assert page[0x1F1:0x210] == image[0x1F1:0x210]
    assert page[0x210] == 0xFF
    at, size = struct.unpack_from("<II", page, 0x218)
    assert (size, memory.read(at, 4)) == (4, b"disk")
    assert at + size <= 0x60_0000


def test_a_missing_module_is_no_error_when_the_image_can_start_itself(
    memory: GuestMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = b"\x28\xb5\x2f\xfd" + bytes(99)
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(payload.NoDecompressor, match=r"vmlab\[linux\]"):
        payload.unpack(memoryview(packed), "k", whole)
    assert start(memory, bzimage(packed)).mode == "long"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (bzimage(b"x")[:0x250], "truncated"),
        (bzimage(b"x" * 99)[:-50], "truncated: its payload"),
        (bzimage(b"x", version=0x201), "a bzImage of boot protocol 2.01 that starts in real mode"),
        (bzimage(b"x", xloadflags=0, loadflags=0), "needs a BIOS"),
        (
            bzimage(gzip.compress(vmlinux(), mtime=0)[:-40]),
            "gzip payload is damaged: it ends early",
        ),
        (bzimage(b"\xfd7zXZ\0 nonsense"), "xz payload is damaged"),
        (bzimage(gzip.compress(b"no ELF file", mtime=0)), "holds no ELF file"),
    ],
)
def test_bad_images(memory: GuestMemory, image: bytes, words: str) -> None:
    with pytest.raises(KernelError, match="k: ") as caught:
        start(memory, image)
    assert words in str(caught.value)


def test_limits_of_the_header(memory: GuestMemory) -> None:
    image = bzimage(b"??", cmdline=255)
    start(memory, image, "x" * 255)
    with pytest.raises(KernelError, match="takes a command line of 255 bytes; this one has 256"):
        start(memory, image, "x" * 256)
    with pytest.raises(KernelError, match="2047 bytes"):
        start(memory, vmlinux(), "x" * 2048)
    with pytest.raises(KernelError, match=r"initrd of .* does not fit"):
        start(memory, bzimage(b"??", initrd_max=0x30_FFFF), "", bytes(0x20_0000))
    with pytest.raises(KernelError, match="does not fit the guest's memory"):
        start(memory, vmlinux(size=32 * MIB))


def test_a_quick_check_unpacks_nothing() -> None:
    check(bzimage(gzip.compress(b"no ELF file")), "k")
    with pytest.raises(KernelError):
        check(bzimage(b"x")[:0x250], "k")


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0x1F0, 0x280), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 3000),
)
def test_corrupted_headers(changes: list[tuple[int, int]], cut: int, memory: GuestMemory) -> None:
    image = bytearray(bzimage(gzip.compress(vmlinux(pvh_note(LOAD)))))
    for at, value in changes:
        image[at] = value
    for one in (bytes(image), bytes(image[: max(cut, 1)])):
        memory.clear()
        try:
            start(memory, one)
        except KernelError:
            pass


# --- 32-bit, plain and other kernels --------------------------------------------------------------------


def vmlinux32() -> bytes:
    """What a 32-bit bzImage carries: linked at 3 GiB, loaded at LOAD, entered at its physical address."""
    head = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, LOAD, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 84, 0xC000_0000 + LOAD, LOAD, 4, 0x1000, 7, 4096)
    return head + segment + CODE


@pytest.mark.parametrize("version", [0x202, 0x207, 0x20B, 0x20F])
def test_a_32_bit_bzimage_unpacks_itself_at_1_mib(memory: GuestMemory, version: int) -> None:
    image = bzimage(b"\x89LZO unknown", version=version, xloadflags=0, load=0x30_0000)
    state = start(memory, image, "x", b"disk")
    assert (state.mode, target(memory)) == ("protected", 0x10_0000)
    assert state.regs["rsi"] == BOOT_INFO
    base, limit = state.gdt
    descriptors = struct.unpack("<4Q", memory.read(base, limit + 1))
    assert descriptors[2:] == (0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
    page = memory.read(BOOT_INFO, 0x1000)
    assert page[0x1F1:0x210] == image[0x1F1:0x210]
    (at,) = struct.unpack_from("<I", page, 0x218)
    assert at >= 0x40_0000 if version >= 0x20A else at > 0x10_0000


def test_a_32_bit_vmlinux_inside_is_entered_in_32_bit_code(memory: GuestMemory) -> None:
    state = start(memory, bzimage(gzip.compress(vmlinux32()), xloadflags=0))
    assert (state.mode, target(memory)) == ("protected", LOAD)
    assert memory.read(LOAD, 4) == CODE


def test_a_32_bit_bzimage_needs_the_memory_that_it_unpacks_to(memory: GuestMemory) -> None:
    image = bzimage(b"\x89LZO unknown", xloadflags=0, load=0xFF_0000)
    with pytest.raises(KernelError, match="does not fit the guest's memory"):
        start(memory, image)


def test_a_bzimage_without_a_payload_is_entered_and_is_no_linux(memory: GuestMemory) -> None:
    kernel = parse(bzimage(b""), "k")
    assert not kernel.linux
    state = start(memory, bzimage(b""))
    assert (state.mode, state.rip) == ("long", LOAD + 0x200)
    assert parse(bzimage(b"??"), "k").linux


def test_a_plain_64_bit_kernel_is_entered_as_linux_is(memory: GuestMemory) -> None:
    image = elf64(note=b"")
    assert not parse(image, "k").linux
    state = start(memory, image, "a=1")
    assert (state.mode, state.rip, state.regs["rsi"]) == ("long", 0x10_0000, BOOT_INFO)
    page = memory.read(BOOT_INFO, 0x1000)
    assert page[0x1FE:0x206] == b"\x55\xaa\xeb\x6a"[:2] + bytes(2) + b"HdrS"
    stack = state.regs["rsp"]
    taken = [(BOOT_INFO, 0x1000), (0x9000, 0x6000), (0x500, 0x200)]
    assert all(not start < stack <= start + size for start, size in taken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": 3}, "a shared library or a program that can lie anywhere"),
        ({"machine": 3}, "32-bit code"),
    ],
)
def test_an_elf_file_without_a_way_in(change: dict[str, int], words: str) -> None:
    with pytest.raises(KernelError, match=words):
        check(elf64(note=b"", **change), "k")  # type: ignore[arg-type]


def test_programs_of_an_operating_system_are_no_kernels() -> None:
    with pytest.raises(KernelError, match="it names an interpreter"):
        check(Path("/bin/sh").read_bytes(), "sh")
    image = bytearray(elf64(note=b""))
    image[7] = 3  # EI_OSABI: Linux
    with pytest.raises(KernelError, match="a program for Linux"):
        check(bytes(image), "k")


def test_page_tables_are_not_overwritten_by_a_plain_kernel(memory: GuestMemory) -> None:
    image = elf64(note=b"", segments=[(0x10_0000, CODE, 4), (0xA000, b"x", 1)])
    with pytest.raises(KernelError, match="would overwrite the boot data at 0x9000"):
        start(memory, image)


# --- high entries -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Iterator[GuestMemory]:
    made = GuestMemory.allocate(5 << 30)
    yield made
    made.close()


@pytest.mark.parametrize("address", [0x7FFF_F000, 0x8000_0000, 0xBFFF_F000])
@pytest.mark.parametrize("note", [True, False])
def test_a_linux_high_in_memory(large: GuestMemory, address: int, note: bool) -> None:
    large.clear()
    image = high(address, pvh_note(address) if note else b"")
    state = place(large, parse(image, "k"), Cmdline())
    code = large.read(FIRMWARE, 24)
    if code[6] == 0xE9:
        found = FIRMWARE + 11 + int(struct.unpack("<i", code[7:11])[0])
        found &= 0xFFFF_FFFF if state.mode == "protected" else (1 << 64) - 1
    else:
        assert code[6:8] == b"\x48\xb8"
        assert code[16:18] == b"\xff\xe0"
        found = int.from_bytes(code[8:16], "little")
    assert found == address


def high(address: int, note: bytes) -> bytes:
    image = bytearray(elf64(note=note, segments=[(address, CODE, 0x1000)], entry=address))
    struct.pack_into("<Q", image, 64 + (56 if note else 0) + 16, KERNEL_MAP + LOAD)
    return bytes(image)


@pytest.mark.parametrize("map_it", [high, lambda at, note: elf64(note=note, address=at, entry=at)])
def test_an_entry_above_4_gib(large: GuestMemory, map_it: Any) -> None:
    with pytest.raises(KernelError, match="its entry 0x100000000 is above 4 GiB"):
        place(large, parse(map_it(1 << 32, b""), "k"), Cmdline())
