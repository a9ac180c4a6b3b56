"""Modes, exceptions, privilege changes and system calls."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.soft import cpu_guests as c
from tests.engine.soft import guests as g
from tests.engine.soft.lab import (
    CODE,
    GDT,
    IDT,
    KCODE,
    RESULTS,
    STACK,
    TSS,
    UCODE,
    UCODE32,
    UDATA,
    Lab,
    bench,
)
from vmlab.arch.x86_64.cpu_state import CpuState

pytestmark = pytest.mark.usefixtures("no_leaks")

TRAP_FOR_USER = 0xEF


@pytest.fixture
def lab() -> Iterator[Any]:
    with bench() as lab:
        yield lab


def test_protected_mode_switches_to_long(lab: Lab) -> None:
    lab.run(c.PROTECTED_TO_LONG, "protected")
    assert lab.code == 1
    assert lab.u64(RESULTS) == 0x1122334455667788
    registers = lab.engine.get_regs()
    assert registers["efer"] & 0x500 == 0x500
    assert registers["cr0"] >> 31 == 1


def test_real_mode_switches_to_long(lab: Lab) -> None:
    lab.load(c.REAL_TO_LONG, "real", rip=0xC000)
    # a real-mode start has its base at rip & ~0xffff; the code computes with CS, so start it as SIPI would
    lab.engine.set_regs(0, {"rip": 0xC000})
    code = bytearray(c.REAL_TO_LONG.code)
    at = code.index(struct.pack("<H", len(code) - 6))
    code[at : at + 2] = struct.pack("<H", 0xC000 + len(code) - 6)
    lab.memory.write(0xC000, bytes(code))
    lab.engine.start()
    lab.finish()
    assert lab.code == 0
    assert lab.u64(RESULTS + 0x100) == 1


def test_start_states(lab: Lab) -> None:
    regs = {"rbx": 0x6000, "rax": 1 << 63}
    lab.engine.load(CpuState("protected", 0x1234, regs))
    seen = lab.engine.get_regs()
    assert (seen["rip"], seen["rbx"], seen["rax"], seen["rflags"]) == (0x1234, 0x6000, 1 << 63, 2)
    assert (seen["cr0"] & 0x8000_0001, seen["cr4"], seen["efer"]) == (1, 0, 0)
    lab.engine.load(CpuState("real", 0xFFFF_FFF0))
    seen = lab.engine.get_regs()
    assert (seen["rip"], seen["cs"], seen["cr0"] & 1) == (0xFFF0, 0xF000, 0)
    lab.engine.load(CpuState("long", CODE, cr3=0x1000, gdt=(0x8000, 79)))
    seen = lab.engine.get_regs()
    assert (seen["cs"], seen["ss"], seen["cr3"]) == (0x10, 0x18, 0x1000)
    assert seen["efer"] == 0x500


def test_exceptions_in_long_mode(lab: Lab) -> None:
    for vector, offset in ((0, 0x100), (14, 0x140), (6, 0x180), (0x80, 0x1C0), (13, 0x200)):
        lab.gate(vector, CODE + offset)
    lab.run(c.EXCEPTIONS)
    code = c.EXCEPTIONS.code
    divide, undefined, interrupt = (
        CODE + code.index(pattern) for pattern in (b"\xf7\xf1", b"\x0f\x0b", b"\xcd\x80")
    )
    results = lab.results(7)
    assert results[0] == divide
    assert results[1] == 2  # a write by the supervisor to a page that is not there
    assert results[2] == 0x123456789000 + 16
    assert results[3] == undefined
    assert results[4] == interrupt + 2
    assert results[5] == 6  # #DE, #PF twice, #UD, INT and the rest of the code
    assert results[6] == 0x1234  # #GP's selector


def test_user_to_kernel(lab: Lab) -> None:
    lab.gate(13, CODE + 0x100)
    lab.gate(0x80, CODE + 0x180, kind=0xEE)
    lab.run(c.USER)
    error, rip, cs, flags, rsp, ss = lab.results(6)
    hlt = CODE + c.USER.code.index(b"\xf4\xcd\x80")
    assert (error, rip, cs, flags & 0x202, rsp, ss) == (
        0,
        hlt,
        UCODE | 3,
        0x202,
        0x50000,
        UDATA | 3,
    )
    assert lab.u64(RESULTS + 0x38) == 0x60000 - 48
    rip, cs, _flags, rsp, ss = (lab.u64(RESULTS + 0x40 + 8 * n) for n in range(5))
    assert (rip, cs, rsp, ss) == (hlt + 3, UCODE | 3, 0x50000, UDATA | 3)
    assert lab.u64(RESULTS + 0x70) == KCODE
    assert lab.u64(RESULTS + 0x78) == 0x60000 - 40


def test_int_from_user_through_a_kernel_gate_is_gp(lab: Lab) -> None:
    lab.gate(13, CODE + 0x180)
    code = c.USER.code.replace(b"\xf4\xcd\x80", b"\x90\xcd\x80")
    lab.run(code)
    # the frame has an error code: vector 0x80 in the IDT
    assert lab.u64(RESULTS + 0x40) == 0x80 * 8 + 2


def test_syscall_sysret_sysenter(lab: Lab) -> None:
    lab.run(c.SYSCALL)
    rcx, r11, count, cs, rsp, cs2, rbp, flags = lab.results(8)
    second = c.SYSCALL.code.rindex(b"\x0f\x05")
    assert rcx == CODE + second + 2
    assert (r11 & 0x200, count, cs, rbp) == (0x200, 2, KCODE, 6)
    assert flags & 0x200 == 0  # FMASK
    assert (rsp, cs2) == (0x61000, KCODE)


def test_double_fault_on_its_own_stack(lab: Lab) -> None:
    lab.gate(14, CODE + 0x1C0)
    lab.gate(8, CODE + 0x100, ist=1)
    lab.run(c.DOUBLE_FAULT)
    error, rsp, cr2 = lab.results(3)
    assert error == 0
    assert rsp == 0x70000 - 48
    assert 0x123456788FC0 <= cr2 < 0x123456789000


def test_triple_fault_stops_the_cpu(lab: Lab) -> None:
    lab.run(c.TRIPLE_FAULT)
    (stopped,) = lab.stops
    cpu, stop = stopped
    assert (cpu, stop.kind) == (0, "shutdown")
    assert hex(CODE + 8) in stop.text
    assert "0f 0b" in stop.text
    assert stop.registers["rip"] == CODE + 8


def test_exceptions_in_protected_mode(lab: Lab) -> None:
    lab.memory.write(TSS + 4, struct.pack("<II", 0x60000, 0x18))
    lab.memory.write(GDT + 0x10, struct.pack("<Q", 0x00CF9B000000FFFF))  # 32-bit code
    lab.gate32(0, CODE + 0x100)
    lab.gate32(0x80, CODE + 0x180, kind=0xEE)
    lab.load(c.PROTECTED, "protected")
    lab.engine.start()
    lab.finish()
    assert lab.u64(RESULTS) & 0xFFFF_FFFF == CODE + c.PROTECTED.code.index(b"\xf7\xf1")
    frame = struct.unpack("<5I", lab.memory.read(RESULTS + 0x40, 20))
    interrupt = CODE + c.PROTECTED.code.index(b"\xcd\x80")
    assert (frame[0], frame[1], frame[3], frame[4]) == (
        interrupt + 2,
        UCODE32 | 3,
        0x50000,
        UDATA | 3,
    )
    assert lab.u64(RESULTS + 0x78) & 0xFFFF_FFFF == 0x60000 - 20


def test_interrupt_in_real_mode(lab: Lab) -> None:
    lab.load(c.REAL_INT, "real", rip=0x8000)
    lab.engine.start()
    lab.finish()
    ip, flags, ax = struct.unpack("<HHH", lab.memory.read(0x500, 6))
    assert ip == 0x8000 + c.REAL_INT.code.index(b"\xcd\x21") + 2
    assert flags & 1 == 1
    assert ax == 0x55AA


def test_executing_device_space_is_an_internal_error(lab: Lab) -> None:
    lab.run(bytes.fromhex("b8000000d0 ffe0"))  # mov eax,0xd0000000; jmp rax
    ((_, stop),) = lab.stops
    assert stop.kind == "internal-error"
    assert "0xd0000000" in stop.text
    assert lab.mmio.log == []


@pytest.mark.parametrize("vector", [8, 13, 14])
@pytest.mark.parametrize("low", [0, 0x8E << 40, 0x8E << 40 | 0xFFFF << 16, (1 << 64) - 1])
def test_hostile_idt_ends_in_shutdown(lab: Lab, vector: int, low: int) -> None:
    lab.memory.write(IDT + 16 * vector, struct.pack("<QQ", low, (1 << 64) - 1))
    lab.run(bytes.fromhex("0f011c2500700000 0f0b"))  # lidt [0x7000]; ud2
    assert lab.stops[0][1].kind == "shutdown"


def test_stack_after_start(lab: Lab) -> None:
    lab.load(g.EXIT)
    assert lab.engine.get_regs()["rsp"] == STACK
