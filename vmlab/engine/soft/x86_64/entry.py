"""How a vCPU starts: after INIT/SIPI or power-on, at a 32-bit entry, at a 64-bit entry."""

from __future__ import annotations

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.engine.soft.x86_64 import registers as r
from vmlab.engine.soft.x86_64.registers import Context, Segment

__all__ = ["set_start", "set_startup_ipi"]

#: CR0 after INIT: CD, NW, ET (Intel SDM vol 3 table 10-1)
_CR0_RESET = 0x6000_0010
_CR0_PE_ET = 0x11
_CR0_LONG = 0x8000_0011
_CR4_PAE = 0x20
_EFER_LONG = 0x500
#: family, model and stepping in EDX, as CPUID leaf 1 of this CPU model says
_SIGNATURE = 0x206C1

_P_S_A = r.D_P | r.D_S | r.D_ACCESSED
_DATA = _P_S_A | 1 << 9
_CODE = _P_S_A | r.D_CODE | 1 << 9
_FLAT = 0xFFFF_FFFF
_TSS_BUSY = r.D_P | 11 << 8
_LDT = r.D_P | 2 << 8


def set_start(context: Context, state: CpuState) -> None:
    """Make `context` the start state that `CpuState` describes."""
    if state.mode == "real":
        _real(context, state.rip >> 4 & 0xF000, state.rip & ~0xFFFF, state.rip & 0xFFFF)
    else:
        long_mode = state.mode == "long"
        _common(context, state.rip)
        wide = r.D_L if long_mode else r.D_B
        context.set_segment(r.CS, Segment(state.selectors[0], 0, _FLAT, _CODE | r.D_G | wide))
        data = Segment(state.selectors[1], 0, _FLAT, _DATA | r.D_G | r.D_B)
        for number in (r.ES, r.SS, r.DS, r.FS, r.GS):
            context.set_segment(number, data)
        context.gdt = state.gdt
        context.set_cr(0, _CR0_LONG if long_mode else _CR0_PE_ET)
        context.set_cr(3, state.cr3)
        context.set_cr(4, _CR4_PAE if long_mode else 0)
        context.efer = _EFER_LONG if long_mode else 0
        context.set_cpl(0)
    for name, value in state.regs.items():
        if name in r.NAMES:
            context.q[r.NAMES.index(name)] = value & r.MASK64
        elif name == "rflags":
            context.set_flags(value | 2)


def set_startup_ipi(context: Context, vector: int) -> None:
    """Real mode at `vector` << 12, as a start-up IPI leaves a CPU (Intel SDM vol 3 §8.4.3)."""
    _real(context, vector << 8, vector << 12, 0)


def _real(context: Context, selector: int, base: int, ip: int) -> None:
    """The state of Intel SDM vol 3 table 10-1 but for CS:IP."""
    _common(context, ip)
    context.set_segment(r.CS, Segment(selector, base, 0xFFFF, _CODE))
    for number in (r.ES, r.SS, r.DS, r.FS, r.GS):
        context.set_segment(number, Segment(0, 0, 0xFFFF, _DATA))
    context.gdt = (0, 0xFFFF)
    context.set_cr(0, _CR0_RESET)
    context.set_cr(3, 0)
    context.set_cr(4, 0)
    context.efer = 0
    context.q[r.RDX] = _SIGNATURE
    context.set_cpl(0)


def _common(context: Context, rip: int) -> None:
    context.reset()
    context.q[0:16] = memoryview(bytes(128)).cast("Q")
    context.rip = rip
    context.set_flags(2)
    context.set_cr(2, 0)
    context.idt = (0, 0xFFFF)
    context.tr = Segment(0, 0, 0xFFFF, _TSS_BUSY)
    context.set_ldt(Segment(0, 0, 0xFFFF, _LDT))
    context.hflags &= ~r.H_SHADOW
    context.clear_exception()
