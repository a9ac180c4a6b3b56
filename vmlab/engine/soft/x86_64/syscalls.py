"""SYSCALL and SYSENTER, which Unicorn only reports (Intel SDM vol 2, the instructions' pages)."""

from __future__ import annotations

from vmlab.engine.soft.x86_64 import registers as r
from vmlab.engine.soft.x86_64.delivery import Event
from vmlab.engine.soft.x86_64.registers import Context, Segment

__all__ = ["enter"]

_EFER_SCE, _EFER_LMA = 1, 0x400
_LENGTH = 2
_UD, _GP = 6, 13
_FLAT = 0xFFFF_FFFF
_CODE = r.D_G | r.D_P | r.D_S | r.D_CODE | 1 << 9 | r.D_ACCESSED
_DATA = r.D_G | r.D_B | r.D_P | r.D_S | 1 << 9 | r.D_ACCESSED


def enter(context: Context, flags: int, sysenter: bool) -> Event | None:
    """Do it in `context`, whose RIP is after the instruction; an Event is what happens instead."""
    event = _sysenter(context, flags) if sysenter else _syscall(context, flags)
    if event is not None:
        context.rip -= _LENGTH  # a fault's RIP is the instruction's
    return event


def _syscall(context: Context, flags: int) -> Event | None:
    if not context.efer & _EFER_SCE or not context.hflags & r.H_CS64:
        return Event(_UD)
    star = context.msr(r.MSR_STAR)
    context.q[r.RCX] = context.rip
    context.q[r.R11] = flags & ~r.RF
    _ring0(context, star >> 32 & 0xFFFC, wide=True)
    context.rip = context.msr(r.MSR_LSTAR)
    context.set_flags(flags & ~context.msr(r.MSR_FMASK) & ~r.RF)
    return None


def _sysenter(context: Context, flags: int) -> Event | None:
    selector = context.msr(r.MSR_SYSENTER_CS) & 0xFFFC
    if not context.cr(0) & 1 or not selector:
        return Event(_GP, 0 if context.cr(0) & 1 else None)
    wide = bool(context.efer & _EFER_LMA)
    mask = r.MASK64 if wide else 0xFFFF_FFFF
    context.q[r.RSP] = context.msr(r.MSR_SYSENTER_ESP) & mask
    _ring0(context, selector, wide)
    context.rip = context.msr(r.MSR_SYSENTER_EIP) & mask
    context.set_flags(flags & ~(r.IF | r.VM | r.RF))
    return None


def _ring0(context: Context, selector: int, wide: bool) -> None:
    """Flat code and stack segments at CPL 0; the descriptors themselves are not read."""
    context.set_segment(r.CS, Segment(selector, 0, _FLAT, _CODE | (r.D_L if wide else r.D_B)))
    context.set_segment(r.SS, Segment(selector + 8, 0, _FLAT, _DATA))
    context.set_cpl(0)
