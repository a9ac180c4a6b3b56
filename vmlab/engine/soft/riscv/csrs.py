"""CSRs that Unicorn's harts have not, emulated where their instructions turn out to be illegal: the time
where it cannot be had in place, the supervisor timer (Sstc), and what kernels set and nothing heeds."""

from __future__ import annotations

from typing import Final, Protocol

from vmlab.engine.soft.riscv.registers import State

__all__ = ["Hart", "emulate"]

_SYSTEM: Final = 0x73
STIMECMP, STIMECMPH, MENVCFG, MENVCFGH = 0x14D, 0x15D, 0x30A, 0x31A
TIME, TIMEH = 0xC01, 0xC81
#: written and read as 0: senvcfg, mcountinhibit
_IGNORED: Final = frozenset((0x10A, 0x320))
_M32: Final = (1 << 32) - 1


class Hart(Protocol):
    """What the CSRs are of."""

    def time(self) -> int: ...
    @property
    def stimecmp(self) -> int: ...
    @property
    def menvcfg(self) -> int: ...
    @property
    def sstc(self) -> bool:
        """Whether S mode may use stimecmp."""
        ...

    def set_stimecmp(self, value: int) -> None: ...
    def set_menvcfg(self, value: int) -> None: ...


def emulate(hart: Hart, state: State, instruction: int) -> bool:
    """Whether the instruction at pc was a CSR instruction of one of them: it is done with then."""
    kind = instruction >> 12 & 7
    if instruction & 0x7F != _SYSTEM or not kind & 3:
        return False
    number, field, target = instruction >> 20, instruction >> 15 & 31, instruction >> 7 & 31
    # bits 9:8 are the lowest privilege, bits 11:10 both set: read-only
    writes = kind & 3 == 1 or bool(field)
    if number >> 8 & 3 > state["priv"] or (writes and number >> 10 == 3):
        return False
    old = _read(hart, state, number)
    if old is None:
        return False
    source = field if kind & 4 else int(state.x[field])
    if writes:
        new = (source, old | source, old & ~source)[(kind & 3) - 1]
        _write(hart, state.bits, number, new & (1 << state.bits) - 1)
    if target:
        state.x[target] = old
    state["pc"] += 4
    return True


def _read(hart: Hart, state: State, number: int) -> int | None:
    """None: there is no such CSR, or not in this mode."""
    mask, narrow = (1 << state.bits) - 1, state.bits == 32
    if number in (STIMECMP, STIMECMPH):
        if state["priv"] < 3 and not hart.sstc:
            return None
        value = hart.stimecmp
    elif number in (MENVCFG, MENVCFGH):
        value = hart.menvcfg
    elif number in (TIME, TIMEH):
        value = hart.time()
    else:
        return 0 if number in _IGNORED else None
    if number in (STIMECMPH, MENVCFGH, TIMEH):
        return value >> 32 if narrow else None
    return value & mask


def _write(hart: Hart, bits: int, number: int, value: int) -> None:
    def whole(before: int) -> int:
        if bits == 64:
            return value
        high = number in (STIMECMPH, MENVCFGH)
        return before & _M32 | value << 32 if high else before & ~_M32 | value

    if number in (STIMECMP, STIMECMPH):
        hart.set_stimecmp(whole(hart.stimecmp))
    elif number in (MENVCFG, MENVCFGH):
        hart.set_menvcfg(whole(hart.menvcfg))
