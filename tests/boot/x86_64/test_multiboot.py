"""Multiboot 1: where the header's address fields put an image, what it may ask for, what it is told."""

from __future__ import annotations

import struct

import pytest

from tests.boot.images import CODE, LOAD, elf64, flat, multiboot_elf, multiboot_header
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot.x86_64.layout import BOOT_INFO, CMDLINE
from vmlab.boot.x86_64.load import check, load
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import KernelError

MIB = 1 << 20
VIDEO, ADDRESSES = 4, 0x1_0000
TEXT, LINEAR = 1, 0


def boot(
    memory: GuestMemory, image: bytes, text: str = "", name: str = "/images/k.elf"
) -> CpuState:
    memory.clear()
    return load(memory, image, name, Cmdline(text=text))


def refused(memory: GuestMemory, image: bytes) -> str:
    with pytest.raises(KernelError) as caught:
        boot(memory, image)
    return str(caught.value)


# --- bit 16, the address fields (§3.1.3) ------------------------------------------------------------


def test_a_flat_image_lies_where_its_header_says(memory: GuestMemory) -> None:
    state = boot(memory, flat(before=b"before" * 6))
    assert (state.mode, state.rip) == ("protected", LOAD + 36 + 32)
    assert memory.read(LOAD, 6) == b"before"
    assert memory.read(state.rip, 4) == CODE


def test_what_lies_before_load_addr_in_the_file_is_not_loaded(memory: GuestMemory) -> None:
    image = b"not this" + multiboot_header(ADDRESSES, LOAD, LOAD, 0, 0, LOAD + 32) + CODE
    state = boot(memory, image)
    assert memory.read(LOAD, 4) == b"\x02\xb0\xad\x1b"
    assert memory.read(state.rip, 4) == CODE


def test_the_fields_of_an_elf_file_come_before_its_segments(memory: GuestMemory) -> None:
    """As QEMU has it: the entry and the place are the header's, whatever the ELF headers say."""
    at = 64 + 56  # where the segment's bytes lie in the file
    image = multiboot_elf(ADDRESSES, 2 * MIB + at, 2 * MIB, 0, 0, 2 * MIB + at + 32)
    state = boot(memory, image)
    assert state.rip == 2 * MIB + at + 32
    assert memory.read(state.rip, 4) == CODE
    assert memory.read(2 * MIB, 4) == b"\x7fELF"
    assert memory.read(LOAD, 4) == bytes(4)


def test_load_end_and_bss_end(memory: GuestMemory) -> None:
    memory.clear()
    boot(memory, flat(code=CODE + b"debug", end=LOAD + 36, bss=LOAD + 0x5000))
    assert memory.read(LOAD + 32, 9) == CODE + bytes(5)
    text = refused(memory, flat(bss=64 * MIB))
    assert "0x100000-0x3ffffff does not fit the guest's memory" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((LOAD, LOAD + 4, 0, 0, LOAD), "load_addr 0x100004 does not fit its header_addr 0x100000"),
        ((LOAD + 64, LOAD, 0, 0, LOAD), "the header lies 0x0 into the file"),
        ((LOAD, LOAD, LOAD + 99, 0, LOAD), "asks for 0x63 bytes; the file has 0x24"),
        ((LOAD, LOAD, LOAD - 1, 0, LOAD), "asks for -0x1 bytes"),
        ((LOAD, LOAD, 0, LOAD + 8, LOAD), "bss_end_addr 0x100008 is below the end"),
        ((LOAD, LOAD, 0, 0, LOAD - 1), "its entry 0xfffff lies outside what it loads"),
        ((0x9_F000, 0x9_F000, 0, 0xA_1000, 0x9_F000), "is a ROM segment: at 0xa0000-0xfffff"),
        ((0xFFFF_0000, 0xFFFF_0000, 0, 0, 0xFFFF_0000), "is a ROM segment: at 0xc0000000-"),
    ],
)
def test_fields_that_make_no_sense(
    memory: GuestMemory, fields: tuple[int, ...], words: str
) -> None:
    assert words in refused(memory, multiboot_header(ADDRESSES, *fields) + CODE)


def test_a_header_that_is_cut_off(memory: GuestMemory) -> None:
    assert "multiboot header" in refused(memory, multiboot_header(ADDRESSES, LOAD) + CODE)


# --- bit 2, the video mode (§3.1.4) -----------------------------------------------------------------


def wants(mode: int, width: int, height: int, depth: int) -> bytes:
    return multiboot_elf(3 | VIDEO, 0, 0, 0, 0, 0, mode, width, height, depth)


def test_text_mode_is_told_where_the_screen_is(memory: GuestMemory) -> None:
    image = wants(TEXT, 80, 25, 0)
    assert check(image, "k") == ""
    boot(memory, image)
    info = memory.read(BOOT_INFO, 116)
    assert struct.unpack_from("<I", info)[0] & 1 << 12
    assert struct.unpack_from("<QIIIBB", info, 88) == (0xB_8000, 160, 80, 25, 16, 2)


def test_a_graphics_mode_is_not_there_and_the_kernel_starts(memory: GuestMemory) -> None:
    image = wants(LINEAR, 1024, 768, 32)
    assert "asks for the video mode 1024x768x32" in check(image, "k")
    state = boot(memory, image)
    assert memory.read(state.rip, 4) == CODE
    assert not struct.unpack("<I", memory.read(BOOT_INFO, 4))[0] & 1 << 12


def test_a_header_without_the_bit_has_no_such_fields(memory: GuestMemory) -> None:
    image = multiboot_elf(3, 0, 0, 0, 0, 0, LINEAR, 1024, 768, 32)
    assert check(image, "k") == ""


# --- what it is told ----------------------------------------------------------------------------------


def command_line(memory: GuestMemory) -> bytes:
    (at,) = struct.unpack("<I", memory.read(BOOT_INFO + 16, 4))
    return memory.read(at, 4096).partition(b"\0")[0]


@pytest.mark.parametrize(
    ("text", "line"), [("a=1 b", b"/images/k.elf a=1 b"), ("", b"/images/k.elf ")]
)
def test_the_images_name_precedes_the_command_line(
    memory: GuestMemory, text: str, line: bytes
) -> None:
    boot(memory, multiboot_elf(), text)
    assert command_line(memory) == line


def test_other_protocols_have_the_command_line_alone(memory: GuestMemory) -> None:
    boot(memory, elf64(), "a=1")
    assert memory.read(CMDLINE, 4) == b"a=1\0"


def test_a_name_without_room_is_shortened_and_then_left_out(memory: GuestMemory) -> None:
    boot(memory, multiboot_elf(), "x" * 4000, name="/" + "d" * 200 + "/k.elf")
    assert command_line(memory) == b"k.elf " + b"x" * 4000
    boot(memory, multiboot_elf(), "x" * 4000, name="/" + "k" * 200)
    assert command_line(memory) == b"x" * 4000
    boot(memory, multiboot_elf(), "x", name="/ümlaut/k\udcff")
    assert command_line(memory) == "/ümlaut/k".encode() + b"\xff x"


def test_the_loader_has_a_name(memory: GuestMemory) -> None:
    boot(memory, multiboot_elf())
    (flags,) = struct.unpack("<I", memory.read(BOOT_INFO, 4))
    (at,) = struct.unpack("<I", memory.read(BOOT_INFO + 64, 4))
    assert flags & 1 << 9
    assert memory.read(at, 6) == b"vmlab\0"


# --- multiboot 2 --------------------------------------------------------------------------------------


def second_header() -> bytes:
    return struct.pack("<IIII", 0xE852_50D6, 0, 24, -(0xE852_50D6 + 24) & 0xFFFF_FFFF)


@pytest.mark.parametrize("image", [second_header(), elf64(bytes(8) + second_header(), note=b"")])
def test_an_image_for_multiboot_2_is_called_that(memory: GuestMemory, image: bytes) -> None:
    assert "an image for multiboot 2; this machine boots" in refused(memory, image + bytes(600))
