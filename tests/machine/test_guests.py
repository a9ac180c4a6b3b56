"""Small guests of each boot protocol, run from their first byte to their end on both engines."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from tests.boot.images import LOAD, bzimage, elf64, flat, multiboot_elf
from tests.support import require_module
from tests.vms import PATIENCE
from vmlab import VM
from vmlab.machine.config import Exit

pytestmark = pytest.mark.usefixtures("no_leaks")

#: mov dx, 0x3f8; out dx, al
SAY = bytes.fromhex("66ba f803 ee")
#: mov dx, 0x600; mov al, 0x34; out dx, al; cli; 1: hlt; jmp 1b
OFF = bytes.fromhex("66ba 0006 b034 ee fa f4 ebfd")
ADDRESSES, VIDEO = 0x1_0000, 4
#: bytes of an ELF file's headers before its one segment
HEADERS = 64 + 56


def letter(text: str) -> bytes:
    """Code, the same in 32 and 64 bits: prints it."""
    return b"".join(b"\xb0" + bytes([one]) + SAY for one in text.encode())


def run(
    folder: Path, engine: str, image: bytes, cmdline: str = "", cpus: int = 1
) -> tuple[str, Exit]:
    file = folder / "guest"
    file.write_bytes(image)
    with VM(file, engine=engine, memory="8M", cmdline=cmdline, cpus=cpus, debug_exit=False) as vm:
        ended = vm.wait(PATIENCE)
        assert ended is not None, vm.cpus[0].regs
        return vm.console.text, ended


#: a word at [rsi + 0x1fe] is 0xaa55: prints F, else n; with a call, which needs a stack
BOOT_PARAMS = bytes.fromhex("e800000000 58 0fb786fe010000 3d55aa0000 b046 7402 b06e") + SAY + OFF
BAD, GOOD = letter("b") + OFF, letter("G") + OFF

GUESTS = {
    "flat multiboot": (flat(GOOD), "G"),
    "flat multiboot, gzip": (gzip.compress(flat(GOOD)), "G"),
    "multiboot": (multiboot_elf(code=GOOD), "G"),
    "multiboot, gzip": (gzip.compress(multiboot_elf(code=GOOD)), "G"),
    # the ELF file's entry is BAD, the header's GOOD; it places the file's first byte at LOAD
    "multiboot, address fields": (
        multiboot_elf(
            *(ADDRESSES, LOAD + HEADERS, LOAD, 0, 0, LOAD + HEADERS + 32 + len(BAD)),
            code=BAD + GOOD,
        ),
        "G",
    ),
    "multiboot, text mode": (
        multiboot_elf(3 | VIDEO, 0, 0, 0, 0, 0, 1, 80, 25, 0, code=GOOD),
        "G",
    ),
    "multiboot, graphics": (
        multiboot_elf(3 | VIDEO, 0, 0, 0, 0, 0, 0, 1024, 768, 32, code=GOOD),
        "G",
    ),
    "plain": (elf64(BOOT_PARAMS, note=b""), "F"),
    "bzImage without a payload": (bzimage(b"", code=b"\xf4" * 0x200 + BOOT_PARAMS), "F"),
    "bzImage, 32 bits": (bzimage(b"", xloadflags=0, load=LOAD, code=BOOT_PARAMS), "F"),
}


@pytest.mark.parametrize("name", GUESTS)
def test_it_is_entered_where_it_should_be(name: str, engine: str, tmp_path: Path) -> None:
    image, words = GUESTS[name]
    text, ended = run(tmp_path, engine, image)
    assert text == words
    assert (ended.reason, ended.code) == ("poweroff", 0)
    assert str(ended) == "the guest switched itself off"


def test_a_kernel_prints_its_command_line(engine: str, tmp_path: Path) -> None:
    """mov esi, [ebx + 16]; 1: lodsb; test al, al; jz 2f; SAY; jmp 1b; 2: OFF"""
    code = bytes.fromhex("8b7310 ac 84c0 7407") + SAY + bytes.fromhex("ebf4") + OFF
    text, _ = run(tmp_path, engine, multiboot_elf(code=code), "a=1 b")
    assert text == f"{tmp_path}/guest a=1 b"


def test_multiboots_selectors_are_those_of_other_loaders(engine: str, tmp_path: Path) -> None:
    """A kernel loads a GDT of its own and goes on with the selectors that it was entered with, as many do."""
    table = struct.pack("<3Q", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
    at = LOAD + 12 + 256
    code = b"\x0f\x01\x15" + struct.pack("<I", at)  # lgdt [at]
    code += b"\xbc" + struct.pack("<I", LOAD + 0x1000)  # mov esp, ...
    # push cs; call 1f; 1: add [esp], 5; retf, to what follows: CS is looked up anew
    code += bytes.fromhex("0e e800000000 83042405 cb")
    code += bytes.fromhex("8cc8 0430") + SAY + bytes.fromhex("8cd8 0430") + SAY + OFF
    pointer = struct.pack("<HI", len(table) - 1, at + 8) + bytes(2)
    image = multiboot_elf(code=code.ljust(256, b"\x90") + pointer + table + bytes(0x1000))
    text, ended = run(tmp_path, engine, image)
    assert text == "8@", ended


def test_multiboots_selectors_can_be_loaded_anew(engine: str, tmp_path: Path) -> None:
    """A kernel with an IDT and no GDT of its own, as tutorials have: interrupts look CS up."""
    code = b"\xbc" + struct.pack("<I", LOAD + 0x1000)  # mov esp, ...
    # push cs; call 1f; 1: add [esp], 5; retf, to what follows; and the same with ss
    code += bytes.fromhex("0e e800000000 83042405 cb 8cd0 8ed0 8cc8 0430") + SAY + OFF
    image = multiboot_elf(code=code + bytes(0x1000))
    text, ended = run(tmp_path, engine, image)
    assert text == "8", ended


def test_int_6_goes_on_behind_it(tmp_path: Path) -> None:
    """As any INT n, though its vector is that of an instruction which is unknown. (KVM leaves it to the CPU;
    one that emulates this knows no INT n.)"""
    require_module("unicorn")
    at = LOAD + 12 + 256
    code = b"\xbc" + struct.pack("<I", LOAD + 0x1000)  # mov esp, ...
    code += b"\x0f\x01\x1d" + struct.pack("<I", at)  # lidt [at]
    code += b"\xcd\x06"
    behind = LOAD + 12 + len(code)
    # the handler: pop eax; sub eax, behind; add al, "0"
    handler = b"\x58\x2d" + struct.pack("<I", behind) + bytes.fromhex("0430") + SAY + OFF
    code += b"\xf4" + handler
    entry = behind + 1
    gate = struct.pack("<HHHH", entry & 0xFFFF, 0x08, 0x8E00, entry >> 16)
    tail = struct.pack("<HI", 8 * 7 - 1, at + 8) + bytes(2) + bytes(8 * 6) + gate
    image = multiboot_elf(code=code.ljust(256, b"\x90") + tail + bytes(0x1000))
    text, ended = run(tmp_path, "soft", image)
    assert text == "0", ended


def test_a_warning_is_given_once_and_early(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: str
) -> None:
    image, _ = GUESTS["multiboot, graphics"]
    run(tmp_path, engine, image)
    (one,) = caplog.records
    assert "asks for the video mode 1024x768x32; this machine has no graphics" in one.getMessage()


#: counts the CPUs of the MP table, whose floating pointer it looks for in the EBDA: prints their number
COUNT_CPUS = bytes.fromhex(
    "0fb705 0e040000 c1e004"  # movzx eax, word [0x40e]; shl eax, 4
    "8138 5f4d505f 7405 83c010 ebf3"  # 1: cmp dword [eax], "_MP_"; je 2f; add eax, 16; jmp 1b
    "8b7004 0fb74e22 83c62c 31db"  # 2: esi = table; ecx = entries; esi += 44; ebx = 0
    "803e00 7506 43 83c614 eb03 83c608"  # 3: a processor: ebx++, esi += 20; else esi += 8
    "e2f0 88d8 0430"  # loop 3b; al = '0' + bl
)


@pytest.mark.parametrize("cpus", [1, 3])
def test_a_guest_without_acpi_counts_its_cpus(cpus: int, engine: str, tmp_path: Path) -> None:
    text, _ = run(tmp_path, engine, multiboot_elf(code=COUNT_CPUS + SAY + OFF), cpus=cpus)
    assert text == str(cpus)


def test_every_guest_has_a_power_switch(engine: str) -> None:
    with VM("monitor", engine=engine, memory="8M") as vm:
        vm.console.expect("vmlab> ", timeout=PATIENCE)
        assert (vm.devices["power"].type, vm.devices["power"].base) == ("power", 0x600)
        vm.console.send("out 0x600 0x34\n")
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert (ended.reason, ended.code) == ("poweroff", 0)


def test_a_guest_resets_by_acpis_register(engine: str) -> None:
    with VM("monitor", engine=engine, memory="8M") as vm:
        vm.console.expect("vmlab> ", timeout=PATIENCE)
        vm.console.send("out 0x602 0x42\n")
        vm.console.expect("vmlab> ", timeout=PATIENCE)
        assert vm.state == "running"


@pytest.mark.parametrize("name", ["hello", "irqlab", "smp"])
def test_bundled_kernels_end_well_without_a_debug_exit_port(name: str, engine: str) -> None:
    with VM(name, engine=engine, memory="8M", cmdline="ticks=1", debug_exit=False) as vm:
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert (ended.reason, ended.code) == ("poweroff", 0)


def test_a_failure_is_never_status_0(engine: str) -> None:
    with VM("smp", engine=engine, memory="8M", cmdline="cpus=2") as vm:
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert (ended.reason, ended.code) == ("debug-exit", 3)
