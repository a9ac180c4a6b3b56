"""Exceptions and interrupts through the guest's IDT (Intel SDM vol 3 chapter 6).

Unicorn executes instructions and reports exceptions; it delivers nothing. `deliver` does what the
processor does between an event and the first instruction of its handler: gate, privilege change,
stack switch, frame, flags. A fault on the way becomes that fault, a double fault or a shutdown as
SDM vol 3 table 6-5 says, so the recursion has at most three levels however hostile the tables are.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from vmlab.engine.soft.x86_64 import registers as r
from vmlab.engine.soft.x86_64.physical import Fault, Paging, Physical
from vmlab.engine.soft.x86_64.registers import Context, Segment

__all__ = ["WITH_ERROR", "Event", "deliver"]

#: exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC #CP
WITH_ERROR = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
_CONTRIBUTORY = frozenset((0, 10, 11, 12, 13))
#: #DB #BP #OF #DF #MC
_NO_FAULTS = frozenset((1, 3, 4, 8, 18))
_DF, _TS, _NP, _SS, _GP, _PF = 8, 10, 11, 12, 13, 14
_CLEARED = r.TF | r.NT | r.RF | r.VM
_EFER_LMA = 0x400
_TRAP_GATE_BIT = 1
_IDT_ERROR = 2
_EXPAND_DOWN = 1 << 10


class Event(NamedTuple):
    """What is to be delivered. "software" is INT n, INT3, INTO; `error` None: no error code."""

    vector: int
    error: int | None = None
    kind: Literal["exception", "software", "external"] = "exception"
    #: of the instruction that RIP is behind: should it fault, it is to run again
    length: int = 0


def deliver(context: Context, flags: int, memory: Physical, event: Event) -> bool:
    """Change `context` to the first instruction of the handler; False: triple fault.

    `context` is loaded before and stored after by the caller; `flags` is all of RFLAGS.
    """
    for _ in range(4):
        try:
            _Delivery(context, _saved(event, flags), memory, event).run()
        except Fault as fault:
            context.rip -= event.length
            if fault.address is not None:
                context.set_cr(2, fault.address)
            following = _after(event, fault)
            if following is None:
                return False
            event = following
        else:
            context.clear_exception()
            return True
    return False


def _saved(event: Event, flags: int) -> int:
    """RFLAGS as the frame gets them: a fault's have RF, so that what caught it runs again without meeting
    its breakpoint again (SDM vol 3 §18.3.1.1). #DB, #BP and #OF are traps here, #DF and #MC aborts."""
    fault = event.kind == "exception" and event.vector not in _NO_FAULTS
    return flags | r.RF if fault else flags


def _after(event: Event, fault: Fault) -> Event | None:
    """What a fault during the delivery of `event` leads to; None is a shutdown."""
    if event.kind == "exception":
        if event.vector == _DF:
            return None
        contributory = fault.vector in _CONTRIBUTORY
        if event.vector in _CONTRIBUTORY and contributory:
            return Event(_DF, 0)
        if event.vector == _PF and (contributory or fault.vector == _PF):
            return Event(_DF, 0)
    return Event(fault.vector, fault.error)


class _Delivery:
    """One attempt. Nothing in the context changes before the last step that can fault is done."""

    def __init__(self, context: Context, flags: int, memory: Physical, event: Event) -> None:
        self.context, self.flags, self.event = context, flags, event
        self.paging = Paging(memory, context.cr(0), context.cr(3), context.cr(4), context.efer)
        self.cpl = context.cpl
        #: the EXT bit of error codes: the event did not come from the program
        self.ext = int(event.kind != "software")

    def run(self) -> None:
        if not self.context.cr(0) & 1:
            self._real()
        elif self.context.efer & _EFER_LMA:
            self._long()
        else:
            self._protected()

    # -- real mode: SDM vol 3 §20.1.4 --------------------------------------------------------------

    def _real(self) -> None:
        context, vector = self.context, self.event.vector
        base, limit = context.idt
        if vector * 4 + 3 > limit:
            raise Fault(_GP, None)
        ip, selector = struct.unpack("<HH", self.paging.read(base + vector * 4, 4))
        frame = struct.pack(
            "<HHH", context.rip & 0xFFFF, context.selector(r.CS), self.flags & 0xFFFF
        )
        sp = context.q[r.RSP]
        top = (sp - 6) & 0xFFFF
        self.paging.write(context.segment(r.SS).base + top, frame)
        context.q[r.RSP] = sp & ~0xFFFF | top
        old = context.segment(r.CS)
        context.set_segment(r.CS, Segment(selector, selector << 4, 0xFFFF, old.flags))
        self._enter(ip, self.flags & ~(r.IF | r.TF | r.RF | 1 << 18), 0)

    # -- parts that both protected modes share -----------------------------------------------------

    def _gate(self, size: int) -> tuple[int, int]:
        """-> (the gate's first 8 bytes, the rest) after the checks of SDM vol 3 §6.12.1."""
        vector = self.event.vector
        base, limit = self.context.idt
        wrong = vector * 8 + _IDT_ERROR
        if vector * size + size - 1 > limit:
            raise Fault(_GP, wrong + self.ext)
        raw = self.paging.read(base + vector * size, size)
        low, high = struct.unpack("<QQ", raw.ljust(16, b"\0"))
        kind = low >> 40 & 0x1F
        if kind not in ((0xE, 0xF) if size == 16 else (6, 7, 0xE, 0xF)):
            # a task gate (5) is not followed: no guest of this century needs one
            raise Fault(_GP, wrong + self.ext)
        if self.event.kind == "software" and (low >> 45 & 3) < self.cpl:
            raise Fault(_GP, wrong)
        if not low >> 47 & 1:
            raise Fault(_NP, wrong + self.ext)
        return low, high

    def _descriptor(self, selector: int, fault: int) -> int:
        """The 8 bytes that `selector` names; Fault(`fault`) when there are none."""
        error = selector & 0xFFFC | self.ext
        if not selector & 0xFFFC:
            raise Fault(fault, self.ext)
        if selector & 4:
            table = self.context.ldt()
            base, limit = table.base, table.limit if table.selector & 0xFFFC else -1
        else:
            base, limit = self.context.gdt
        if (selector & ~7) + 7 > limit:
            raise Fault(fault, error)
        value: int = struct.unpack("<Q", self.paging.read(base + (selector & ~7), 8))[0]
        return value

    def _code(self, selector: int) -> tuple[Segment, int]:
        """The handler's code segment and the privilege level it runs at."""
        raw = self._descriptor(selector, _GP)
        error = selector & 0xFFFC | self.ext
        flags = raw >> 32
        dpl = flags >> 13 & 3
        if not flags & r.D_S or not flags & r.D_CODE or dpl > self.cpl:
            raise Fault(_GP, error)
        long_mode = self.context.efer & _EFER_LMA
        if long_mode and (not flags & r.D_L or flags & r.D_B):
            raise Fault(_GP, error)
        if not flags & r.D_P:
            raise Fault(_NP, error)
        level = self.cpl if flags & 1 << 10 else dpl  # a conforming segment keeps the level
        return _segment(selector & ~3 | level, raw), level

    def _enter(self, rip: int, flags: int, cpl: int) -> None:
        context = self.context
        context.rip = rip
        context.set_flags(flags)
        context.set_cpl(cpl)
        context.hflags &= ~r.H_SHADOW

    # -- long mode: SDM vol 3 §6.14 ----------------------------------------------------------------

    def _long(self) -> None:
        context = self.context
        low, high = self._gate(16)
        offset = low & 0xFFFF | low >> 32 & 0xFFFF_0000 | (high & 0xFFFF_FFFF) << 32
        code, level = self._code(low >> 16 & 0xFFFF)
        if (offset + (1 << 47)) >> 48 & 0xFFFF:
            raise Fault(_GP, self.ext)  # not canonical
        ist = low >> 32 & 7
        if ist:
            stack = self._tss_stack(36 + 8 * (ist - 1))
        elif level < self.cpl:
            stack = self._tss_stack(4 + 8 * level)
        else:
            stack = context.q[r.RSP]
        words = [context.rip, context.selector(r.CS), self.flags]
        words += [context.q[r.RSP], context.selector(r.SS)]
        if self.event.error is not None:
            words.insert(0, self.event.error)
        stack = ((stack & ~0xF) - 8 * len(words)) & r.MASK64
        self._push(stack, struct.pack(f"<{len(words)}Q", *words))
        context.q[r.RSP] = stack
        context.set_segment(r.CS, code)
        if level != self.cpl:
            context.set_segment(r.SS, Segment(level, 0, 0, level << 13))
        self._enter(offset, self._new_flags(low), level)

    def _tss_stack(self, offset: int) -> int:
        tr = self.context.tr
        if offset + 7 > tr.limit:
            raise Fault(_TS, tr.selector & 0xFFFC | self.ext)
        value: int = struct.unpack("<Q", self.paging.read(tr.base + offset, 8))[0]
        return value

    def _new_flags(self, gate: int) -> int:
        """An interrupt gate (even type) masks interrupts, a trap gate does not (SDM §6.12.1.3)."""
        trap = gate >> 40 & _TRAP_GATE_BIT
        return self.flags & ~(_CLEARED if trap else _CLEARED | r.IF)

    def _push(self, address: int, frame: bytes) -> None:
        try:
            self.paging.write(address, frame)
        except Fault as fault:
            if fault.vector == _GP:  # a stack address that is not canonical
                raise Fault(_SS, self.ext) from fault
            raise

    # -- 32-bit protected mode: SDM vol 3 §6.12 ----------------------------------------------------

    def _protected(self) -> None:
        context = self.context
        low, _ = self._gate(8)
        wide = bool(low >> 40 & 8)
        offset = low & 0xFFFF | (low >> 32 & 0xFFFF_0000 if wide else 0)
        code, level = self._code(low >> 16 & 0xFFFF)
        virtual = bool(self.flags & r.VM)
        old_ss = context.segment(r.SS)
        words = [context.rip, context.selector(r.CS), self.flags]
        if self.event.error is not None:
            words.insert(0, self.event.error)
        if virtual and level:
            raise Fault(_GP, code.selector & 0xFFFC | self.ext)
        if level < self.cpl or virtual:
            ss, stack = self._inner_stack(level)
            words += [context.q[r.RSP], old_ss.selector]
            if virtual:
                words += [context.selector(n) for n in (r.ES, r.DS, r.FS, r.GS)]
        else:
            ss, stack = old_ss, context.q[r.RSP]
        kept = 0 if ss.flags & r.D_B else stack & 0xFFFF_0000
        mask = 0xFFFF_FFFF if ss.flags & r.D_B else 0xFFFF
        unit, letter = (4, "I") if wide else (2, "H")
        top = (stack - unit * len(words)) & mask
        self._check_room(
            ss, top, unit * len(words), ss.selector & 0xFFFC if ss is not old_ss else 0
        )
        low_bits = (1 << 8 * unit) - 1
        frame = struct.pack(f"<{len(words)}{letter}", *(w & low_bits for w in words))
        self.paging.write(ss.base + top & 0xFFFF_FFFF, frame)
        context.q[r.RSP] = kept | top
        if ss is not old_ss:
            context.set_segment(r.SS, ss)
        if virtual:
            for number in (r.ES, r.DS, r.FS, r.GS):
                context.set_segment(number, Segment(0, 0, 0, 0))
        context.set_segment(r.CS, code)
        self._enter(offset, self._new_flags(low), level)

    def _check_room(self, ss: Segment, start: int, size: int, selector: int) -> None:
        """#SS unless [start, start + size) lies inside the limit (SDM vol 3 §5.3)."""
        if ss.flags & _EXPAND_DOWN:
            most = 0xFFFF_FFFF if ss.flags & r.D_B else 0xFFFF
            inside = ss.limit < start and start + size - 1 <= most
        else:
            inside = start + size - 1 <= ss.limit
        if not inside:
            raise Fault(_SS, selector | self.ext)

    def _inner_stack(self, level: int) -> tuple[Segment, int]:
        """SS:ESP for `level` out of the TSS."""
        tr = self.context.tr
        wide = bool(tr.flags >> 8 & 8)
        offset, size = (4 + 8 * level, 6) if wide else (2 + 4 * level, 4)
        if offset + size - 1 > tr.limit:
            raise Fault(_TS, tr.selector & 0xFFFC | self.ext)
        raw = self.paging.read(tr.base + offset, size)
        stack, selector = struct.unpack("<IH" if wide else "<HH", raw)
        descriptor = self._descriptor(selector, _TS)
        flags = descriptor >> 32
        error = selector & 0xFFFC | self.ext
        writable_data = flags & (r.D_S | r.D_CODE | 1 << 9) == r.D_S | 1 << 9
        if (selector & 3) != level or (flags >> 13 & 3) != level or not writable_data:
            raise Fault(_TS, error)
        if not flags & r.D_P:
            raise Fault(_SS, error)
        return _segment(selector, descriptor), stack


def _segment(selector: int, raw: int) -> Segment:
    """Unpack a descriptor (SDM vol 3 §3.4.5)."""
    flags = raw >> 32
    limit = raw & 0xFFFF | flags & 0xF0000
    if flags & r.D_G:
        limit = limit << 12 | 0xFFF
    base = raw >> 16 & 0xFF_FFFF | flags & 0xFF00_0000
    return Segment(selector, base, limit, flags & 0xF0_FF00 | r.D_ACCESSED)
