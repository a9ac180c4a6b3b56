"""Registers: from `CpuState` to KVM's structures, and from those to names."""

from __future__ import annotations

from collections.abc import Mapping

from vmlab.arch.x86_64 import ARCH
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.engine.kvm import abi
from vmlab.errors import EngineError

__all__ = ["GENERAL", "apply", "as_dict", "start_regs", "start_sregs"]

#: the registers that `set_regs` and `CpuState.regs` may name
GENERAL = tuple(field[0] for field in abi.Regs._fields_)
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")

_MASK64 = (1 << 64) - 1
RFLAGS_FIXED = 2  # bit 1 always reads one (Intel SDM vol. 1, 3.4.3)

CR0_PE, CR0_MP, CR0_ET, CR0_NE, CR0_PG = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 31
CR4_PAE = 1 << 5
EFER_LME, EFER_LMA = 1 << 8, 1 << 10

CODE, DATA, BUSY_TSS = 0xB, 0x3, 0xB  # descriptor types, accessed/busy


def start_regs(state: CpuState) -> abi.Regs:
    """The general registers that `state` asks for. EngineError for a name that is none."""
    regs = abi.Regs(rflags=RFLAGS_FIXED)
    apply(regs, state.regs)
    regs.rip = state.rip & 0xFFFF if state.mode == "real" else state.rip
    return regs


def apply(regs: abi.Regs, values: Mapping[str, int]) -> None:
    """Put `values` into `regs`; nothing is changed when a name is unknown."""
    unknown = [name for name in values if name not in GENERAL]
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise EngineError(f"no general register is called {names}; there are {', '.join(GENERAL)}")
    for name, value in values.items():
        setattr(regs, name, value & _MASK64)
    regs.rflags |= RFLAGS_FIXED


def start_sregs(sregs: abi.Sregs, state: CpuState) -> None:
    """Change the reset state `sregs` to what `state` asks for."""
    sregs.gdt.base, sregs.gdt.limit = state.gdt
    if state.mode == "real":
        base = state.rip & ~0xFFFF
        sregs.cs.base, sregs.cs.selector = base, (base >> 4) & 0xFFFF
        return
    long = state.mode == "long"
    code, data = state.selectors
    _flat(sregs.cs, code, CODE, long)
    for name in ("ds", "es", "fs", "gs", "ss"):
        _flat(getattr(sregs, name), data, DATA, False)
    # VM entry wants a busy TSS in TR; PVH names its limit (Xen pvh.pandoc: base 0, limit 0x67)
    tr = sregs.tr
    tr.base, tr.limit, tr.selector, tr.type, tr.present, tr.s = 0, 0x67, 0, BUSY_TSS, 1, 0
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = CR0_PE | CR0_ET, state.cr3, 0, 0
    if long:
        sregs.cr0 |= CR0_PG | CR0_MP | CR0_NE
        sregs.cr4 = CR4_PAE
        sregs.efer = EFER_LME | EFER_LMA


def _flat(segment: abi.Segment, selector: int, kind: int, long: bool) -> None:
    segment.base, segment.limit, segment.selector = 0, 0xFFFF_FFFF, selector
    segment.type, segment.present, segment.dpl, segment.s, segment.g = kind, 1, 0, 1, 1
    segment.l, segment.db, segment.unusable = int(long), int(not long), 0


def as_dict(regs: abi.Regs, sregs: abi.Sregs) -> dict[str, int]:
    """The names and the order of `Engine.get_regs`."""
    named = {name: int(getattr(regs, name)) for name in GENERAL}
    named.update((name, int(getattr(sregs, name).selector)) for name in _SEGMENTS)
    named.update((name, int(getattr(sregs, name))) for name in _CONTROL)
    return {name: named[name] for name in ARCH.registers}
