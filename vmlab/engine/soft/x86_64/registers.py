"""The CPU's whole state as one block of bytes, hidden parts included.

Unicorn's register calls reach what a program can name. Delivering an exception and starting a CPU in
any mode also needs the error code, the interrupt shadow, the CPL and the hidden part of the segment
registers. `uc_context_save` copies Unicorn's CPU structure out and `uc_context_restore` back in
(0.4 us each); the places of the fields in it are found at start-up by writing known values through
the register calls, so that another build of the library is noticed instead of misread.

The layout follows QEMU 5's `CPUX86State` (target/i386/cpu.h), from which Unicorn 2 derives.
"""

from __future__ import annotations

import ctypes
import struct
from typing import NamedTuple

from vmlab.engine.soft import uclib
from vmlab.engine.soft.uclib import Uc
from vmlab.errors import EngineError

__all__ = ["MASK64", "Context", "Segment"]

MASK64 = (1 << 64) - 1
MASK32 = (1 << 32) - 1

#: general registers in the order of the structure (and of ModRM)
NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
RAX, RCX, RDX, RBX, RSP = 0, 1, 2, 3, 4
R11 = 11
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
ES, CS, SS, DS, FS, GS = range(6)

#: UC_X86_REG_RBP of unicorn/x86.h
_REG_RBP = 36
#: bytes before the data in struct uc_context (include/uc_priv.h)
_HEADER = 40
# indices of 64-bit words, relative to the general registers
_EIP, _EFLAGS, _CC_SRC = 16, 17, 19
_SEG, _LDT, _TR, _GDT, _IDT, _CR = 23, 41, 44, 47, 50, 53
# indices of 32-bit words
_CC_OP, _DF, _HFLAGS = 42, 43, 44
#: QEMU's CC_OP_EFLAGS: the arithmetic flags are in cc_src as they are
_CC_OP_EFLAGS = 1
_ARITHMETIC = 0x8D5

IF, TF, DF, IOPL, NT, RF, VM = 0x200, 0x100, 0x400, 0x3000, 0x4000, 0x10000, 0x20000

# hflags bits (QEMU's HF_*): what translated code depends on
H_CPL, H_SHADOW, H_CS32, H_SS32, H_ADDSEG, H_PE = 3, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
H_CR0, H_LMA, H_CS64, H_OSFXSR, H_SMAP = 7 << 9, 1 << 14, 1 << 15, 1 << 22, 1 << 23
_H_COMPUTED = H_CPL | H_CS32 | H_SS32 | H_ADDSEG | H_PE | H_CR0 | H_LMA | H_CS64 | H_OSFXSR | H_SMAP

# the second word of a segment descriptor, Intel SDM vol 3 §3.4.5
D_ACCESSED, D_CODE, D_S, D_P, D_L, D_B, D_G = (
    1 << 8,
    1 << 11,
    1 << 12,
    1 << 15,
    1 << 21,
    1 << 22,
    1 << 23,
)

MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK = 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP = 0x174, 0x175, 0x176
MSR_EFER = 0xC0000080
_EFER_LMA = 0x400


class Segment(NamedTuple):
    """A segment register, hidden part included; `flags` is the descriptor's second word."""

    selector: int
    base: int
    limit: int
    flags: int


class _Layout(NamedTuple):
    """Byte offsets inside a context; those of MSRs by name."""

    registers: int
    debug: int
    efer: int
    msrs: dict[int, int]


#: the one layout of this process, once it is known
_layout: list[_Layout] = []


class Context:
    """A copy of the state of one CPU. `load()` fetches it, `store()` puts it back."""

    def __init__(self, uc: Uc) -> None:
        self._uc = uc
        self.handle = uc.handle
        self._save = uc.lib.uc_context_save
        self._restore = uc.lib.uc_context_restore
        handle = ctypes.c_size_t()
        if uc.lib.uc_context_alloc(uc.handle, ctypes.byref(handle)):
            raise EngineError("unicorn: cannot allocate a context")
        self._block = handle.value
        # struct uc_context starts with the size of its data; the data is the last member
        size = ctypes.c_size_t.from_address(self._block).value + _HEADER
        self._bytes = memoryview((ctypes.c_char * size).from_address(self._block)).cast("B")
        self.load()
        if not _layout:
            _layout.append(_find_layout(uc, self, self._bytes))
        layout = _layout[0]
        base = layout.registers
        end = base + (size - base) // 8 * 8
        self.q = self._bytes[base:end].cast("Q")
        self.i = self._bytes[base:end].cast("I")
        self._efer = (layout.efer - base) // 8
        self._msr = {number: (at - base) // 4 for number, at in layout.msrs.items()}
        # error_code, exception_is_int and old_exception lie at fixed distances from dr[0]
        self._error = (layout.debug - 16 - base) // 4
        self._is_int = self._error + 1
        self._old = (layout.debug + 96 - base) // 4
        self._pristine = bytes(self._bytes[base:end])

    def close(self) -> None:
        if self._block:
            self.q.release()
            self.i.release()
            self._bytes.release()
            self._uc.lib.uc_context_free(self._block)
            self._block = 0

    def load(self) -> None:
        self._save(self._uc.handle, self._block)

    def store(self) -> None:
        self._restore(self._uc.handle, self._block)

    def live_flags(self, env: int) -> tuple[int, int] | None:
        """Where Unicorn itself has RFLAGS' system flags and hflags, if `env` is its CPU structure."""
        registers = env + _layout[0].registers - _HEADER
        mark = 0x1B0A_D0B1_5EED_0006
        before = self._uc.read_register(_REG_RBP)
        self._uc.write_register(_REG_RBP, mark)
        found = ctypes.c_uint64.from_address(registers + 8 * NAMES.index("rbp")).value
        self._uc.write_register(_REG_RBP, before)
        return (registers + 8 * _EFLAGS, registers + 4 * _HFLAGS) if found == mark else None

    def reset(self) -> None:
        """The state as the library made it: FPU, MSRs and debug registers after power-on."""
        self.q.cast("B")[:] = self._pristine

    # -- named parts -------------------------------------------------------------------------------

    @property
    def rip(self) -> int:
        return self.q[_EIP]

    @rip.setter
    def rip(self, value: int) -> None:
        self.q[_EIP] = value & MASK64

    @property
    def stored_flags(self) -> int:
        """RFLAGS but for the arithmetic flags and DF, which Unicorn keeps elsewhere."""
        return self.q[_EFLAGS]

    def set_flags(self, value: int) -> None:
        """All of RFLAGS."""
        self.q[_EFLAGS] = value & 0xFFFF_FFFF & ~(_ARITHMETIC | DF) | 2
        self.q[_CC_SRC] = value & _ARITHMETIC
        self.i[_CC_OP] = _CC_OP_EFLAGS
        self.i[_DF] = MASK32 if value & DF else 1

    @property
    def hflags(self) -> int:
        return self.i[_HFLAGS]

    @hflags.setter
    def hflags(self, value: int) -> None:
        self.i[_HFLAGS] = value

    @property
    def hflags2(self) -> int:
        return self.i[_HFLAGS + 1]

    @hflags2.setter
    def hflags2(self, value: int) -> None:
        self.i[_HFLAGS + 1] = value

    @property
    def cpl(self) -> int:
        return self.i[_HFLAGS] & H_CPL

    def cr(self, number: int) -> int:
        return self.q[_CR + number]

    def set_cr(self, number: int, value: int) -> None:
        self.q[_CR + number] = value

    @property
    def efer(self) -> int:
        return self.q[self._efer]

    @efer.setter
    def efer(self, value: int) -> None:
        self.q[self._efer] = value

    def msr(self, number: int) -> int:
        at = self._msr[number]
        if number == MSR_SYSENTER_CS:
            return self.i[at]
        return self.i[at] | self.i[at + 1] << 32

    @property
    def error(self) -> int:
        return self.i[self._error]

    @property
    def by_instruction(self) -> bool:
        """The last exception was INT n, INT3 or INTO (RIP is then after it)."""
        return self.i[self._is_int] != 0

    def clear_exception(self) -> None:
        """Otherwise Unicorn takes the next page fault for a double fault: it never clears this."""
        self.i[self._old] = MASK32

    def segment(self, number: int) -> Segment:
        return self._segment(_SEG + 3 * number)

    def set_segment(self, number: int, value: Segment) -> None:
        self._set_segment(_SEG + 3 * number, value)

    def selector(self, number: int) -> int:
        return self.q[_SEG + 3 * number] & 0xFFFF

    @property
    def tr(self) -> Segment:
        return self._segment(_TR)

    @tr.setter
    def tr(self, value: Segment) -> None:
        self._set_segment(_TR, value)

    def set_ldt(self, value: Segment) -> None:
        self._set_segment(_LDT, value)

    @property
    def gdt(self) -> tuple[int, int]:
        return self.q[_GDT + 1], self.i[2 * _GDT + 4]

    @gdt.setter
    def gdt(self, value: tuple[int, int]) -> None:
        self.q[_GDT + 1], self.i[2 * _GDT + 4] = value

    @property
    def idt(self) -> tuple[int, int]:
        return self.q[_IDT + 1], self.i[2 * _IDT + 4]

    @idt.setter
    def idt(self, value: tuple[int, int]) -> None:
        self.q[_IDT + 1], self.i[2 * _IDT + 4] = value

    def ldt(self) -> Segment:
        return self._segment(_LDT)

    def _segment(self, at: int) -> Segment:
        words = self.i
        return Segment(words[2 * at] & 0xFFFF, self.q[at + 1], words[2 * at + 4], words[2 * at + 5])

    def _set_segment(self, at: int, value: Segment) -> None:
        words = self.i
        words[2 * at], words[2 * at + 4], words[2 * at + 5] = (
            value.selector,
            value.limit,
            value.flags,
        )
        self.q[at + 1] = value.base & MASK64

    def set_cpl(self, cpl: int) -> None:
        """Set the CPL and recompute what translated code depends on, from the registers here."""
        cr0, cr4, cs, ss = self.cr(0), self.cr(4), self.segment(CS), self.segment(SS)
        flags = self.hflags & ~_H_COMPUTED | cpl
        flags |= (cr0 & 1) * H_PE | cr0 << 8 & H_CR0
        flags |= (cr4 >> 9 & 1) * H_OSFXSR | (cr4 >> 21 & 1) * H_SMAP
        long_mode = bool(self.efer & _EFER_LMA)
        flags |= long_mode * H_LMA
        if long_mode and cs.flags & D_L:
            flags |= H_CS32 | H_SS32 | H_CS64
        else:
            virtual = self.stored_flags & VM
            code32 = bool(cs.flags & D_B)
            flags |= code32 * H_CS32 | bool(ss.flags & D_B) * H_SS32
            based = ss.base or self.segment(DS).base or self.segment(ES).base
            if not cr0 & 1 or virtual or not code32 or based:
                flags |= H_ADDSEG
        self.hflags = flags


def _find_layout(uc: Uc, context: Context, raw: memoryview) -> _Layout:
    """Write known values through the register calls and look where they turn up."""
    # UC_X86_REG_RAX, RCX; DR0, DR1 of unicorn/x86.h
    marks = {35: 0x1B0A_D0B1_5EED_0001, 38: 0x1B0A_D0B1_5EED_0002}
    debug_marks = {66: 0x1B0A_D0B1_5EED_0003, 67: 0x1B0A_D0B1_5EED_0004}
    for number, value in (marks | debug_marks).items():
        uc.write_register(number, value)
    names = (MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP)
    for number in names:
        uc.write_msr(number, 0x1B0A_D0B1_0000_0000 | number)
    uc.write_msr(MSR_SYSENTER_CS, 0x6A5B)
    efer_before = 0x500
    uc.write_msr(MSR_EFER, efer_before)
    context.load()
    before = bytes(raw)
    uc.write_msr(MSR_EFER, efer_before | 1)
    context.load()
    after = bytes(raw)
    efer = [at for at in range(len(after) - 7) if before[at] != after[at]]
    places = {n: _only(after, struct.pack("<Q", 0x1B0A_D0B1_0000_0000 | n)) for n in names}
    esp = places[MSR_SYSENTER_ESP]
    places[MSR_SYSENTER_CS] = after.index(struct.pack("<I", 0x6A5B), esp - 8, esp)
    registers = _only(after, struct.pack("<QQ", *marks.values()))
    debug = _only(after, struct.pack("<QQ", *debug_marks.values()))
    if len(efer) != 1 or efer[0] % 8 != registers % 8:
        raise EngineError("unicorn: the CPU state has an unknown layout (EFER)")
    uc.write_msr(MSR_EFER, efer_before)
    for number in (*marks, *debug_marks):
        uc.write_register(number, 0)
    for number in (*names, MSR_SYSENTER_CS):
        uc.write_msr(number, 0)
    context.load()
    return _Layout(registers, debug, efer[0], places)


def _only(raw: bytes, pattern: bytes) -> int:
    at = raw.find(pattern)
    if at < 0 or raw.find(pattern, at + 1) >= 0:
        raise EngineError("unicorn: the CPU state has an unknown layout")
    return at


def read_flags(uc: Uc) -> int:
    """RFLAGS, the lazily computed flags included."""
    return uc.read_register(uclib.REG_EFLAGS) & MASK32
