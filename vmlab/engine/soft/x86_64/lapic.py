"""The local APIC of one vCPU (Intel SDM vol 3 chapter 10), xAPIC mode at 0xFEE00000.

Not modelled: x2APIC, TSC-deadline (Unicorn has no hook for WRMSR, so CPUID offers neither), the
performance, thermal and error interrupts (their LVT entries hold what is written).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["ADDRESSING", "BASE", "BUS_HZ", "Ipi", "LocalApic"]

BASE = 0xFEE0_0000
#: the timer's input clock, the same as KVM's (APIC_BUS_CYCLE_NS = 1)
BUS_HZ = 1_000_000_000

FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
_VERSION = 0x0005_0014  # six LVT entries
_MASKED = 1 << 16
_ENABLED = 1 << 8
_PERIODIC = 1 << 17

_ID, _VER, _TPR, _APR, _PPR, _EOI, _LDR, _DFR, _SVR = 2, 3, 8, 9, 10, 11, 13, 14, 15
_ISR, _TMR, _IRR, _ESR, _ICR_LOW, _ICR_HIGH = 0x10, 0x18, 0x20, 0x28, 0x30, 0x31
_LVT_TIMER, _LINT0, _LINT1, _LVT_ERROR = 0x32, 0x35, 0x36, 0x37
_INITIAL, _CURRENT, _DIVIDE = 0x38, 0x39, 0x3E
#: offsets of the registers that say which messages the local APIC takes: ID, LDR, DFR, SVR
ADDRESSING = frozenset(index << 4 for index in (_ID, _LDR, _DFR, _SVR))
#: writable bits of each LVT entry (§10.5.1): timer, thermal, performance, LINT0, LINT1, error
_LVT_BITS = {
    0x32: 0x3_00FF, 0x33: 0x1_07FF, 0x34: 0x1_07FF, 0x35: 0x1_A7FF, 0x36: 0x1_A7FF, 0x37: 0x1_00FF,
}  # fmt: skip


class Ipi(NamedTuple):
    """What a write to the interrupt command register asks for (§10.6.1)."""

    vector: int
    mode: int
    logical: bool
    level: bool
    assert_: bool
    #: 0 none, 1 self, 2 all, 3 all but self
    shorthand: int
    destination: int


class LocalApic:
    """Times are nanoseconds of `clock`. The owner holds the lock and reacts to the callbacks.

    send(ipi): an interrupt command; eoi(vector): a level-triggered vector was served;
    arm(deadline or None): when `timer_expired` is to be called next.
    """

    def __init__(
        self,
        number: int,
        clock: Callable[[], int],
        send: Callable[[Ipi], None],
        eoi: Callable[[int], None],
        arm: Callable[[int | None], None],
    ) -> None:
        self.number = number
        self._clock, self._send, self._eoi, self._arm = clock, send, eoi, arm
        #: told of each vector that was served
        self.ended: Callable[[int], None] | None = None
        self.reset()

    def reset(self) -> None:
        """After power-on or INIT (§10.4.7)."""
        self.id = self.number
        self.irr = self.isr = self.tmr = 0
        self.tpr = self.ldr = 0
        self.dfr = 0xFFFF_FFFF
        self.svr = 0xFF
        self.icr_low = self.icr_high = 0
        self.lvt = dict.fromkeys(_LVT_BITS, _MASKED)
        if self.number == 0:
            # virtual wire: the boot CPU takes the 8259A's INT through LINT0 from the start
            self.lvt[_LINT0] = EXTINT << 8
        self.divide = 0
        self.initial = 0
        self._started = 0
        #: a one-shot count that has not come to its interrupt yet, be it due or not
        self._counting = False
        self.esr = 0
        self._arm(None)

    # -- interrupts in and out ---------------------------------------------------------------------

    @property
    def ppr(self) -> int:
        """Processor priority (§10.8.3.1)."""
        served = self.isr.bit_length() - 1 if self.isr else 0
        return self.tpr if self.tpr >> 4 >= served >> 4 else served & 0xF0

    def accept(self, vector: int, level: bool) -> bool:
        """A fixed interrupt arrives. False: it is lost here."""
        if vector < 16 or not self.svr & _ENABLED:
            return False
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level else self.tmr & ~bit
        return True

    def pending(self) -> int | None:
        """The vector to be delivered now, or None."""
        irr = self.irr
        if not irr:
            return None
        vector = irr.bit_length() - 1
        return vector if vector >> 4 > self.ppr >> 4 else None

    @property
    def takes_extint(self) -> bool:
        """LINT0 is the 8259A's way to this CPU."""
        return self.lvt[_LINT0] & (_MASKED | 7 << 8) == EXTINT << 8

    def acknowledge(self) -> int:
        """The CPU takes an interrupt -> its vector; the spurious one when it is gone (§10.9)."""
        vector = self.pending()
        if vector is None:
            return self.svr & 0xFF
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        return vector

    def matches(self, destination: int, logical: bool) -> bool:
        """Is this CPU addressed (§10.6.2)?"""
        if not logical:
            return destination in (0xFF, self.id)
        if destination == 0xFF:
            return True
        own = self.ldr >> 24
        if self.dfr >> 28 == 0xF:
            return bool(own & destination)
        return own >> 4 == destination >> 4 and bool(own & destination & 0xF)

    def _end_of_interrupt(self) -> None:
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        self.isr &= ~(1 << vector)
        if self.ended is not None:
            self.ended(vector)
        if self.tmr >> vector & 1:
            self._eoi(vector)

    # -- timer (§10.5.4) ---------------------------------------------------------------------------

    @property
    def _tick_ns(self) -> int:
        shift = (self.divide & 3 | self.divide >> 1 & 4) + 1 & 7
        return (1 << shift) * (1_000_000_000 // BUS_HZ)

    @property
    def _is_periodic(self) -> bool:
        return bool(self.lvt[_LVT_TIMER] & _PERIODIC)

    def _current(self) -> int:
        if not self.initial:
            return 0
        ticks = (self._clock() - self._started) // self._tick_ns
        if self._is_periodic:
            return self.initial - ticks % self.initial
        return max(self.initial - ticks, 0)

    def _rearm(self) -> None:
        """Ask to be called at the next expiry; not at all while nobody would notice."""
        if not self.initial or self.lvt[_LVT_TIMER] & _MASKED:
            self._arm(None)
            return
        period = self.initial * self._tick_ns
        elapsed = self._clock() - self._started
        if self._is_periodic:
            # periods missed while the host was busy are dropped, not made up in a burst
            self._arm(self._started + (max(elapsed, 0) // period + 1) * period)
        else:
            # a deadline that is over already, as very short ones are, is one all the same
            self._arm(self._started + period if self._counting else None)

    def timer_expired(self) -> None:
        """The deadline given to `arm` has come."""
        entry = self.lvt[_LVT_TIMER]
        self._counting = False
        if self.initial and not entry & _MASKED:
            self.accept(entry & 0xFF, False)
        if self._is_periodic:
            self._rearm()

    # -- registers ---------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """The 32-bit register at `offset` (a multiple of 16)."""
        index = offset >> 4
        if index in self.lvt:
            return self.lvt[index]
        for first, bits in ((_ISR, self.isr), (_TMR, self.tmr), (_IRR, self.irr)):
            if first <= index < first + 8:
                return bits >> 32 * (index - first) & 0xFFFF_FFFF
        if index == _CURRENT:
            return self._current()
        values = {
            _ID: self.id << 24, _VER: _VERSION, _TPR: self.tpr, _APR: self.ppr, _PPR: self.ppr,
            _LDR: self.ldr, _DFR: self.dfr, _SVR: self.svr, _ESR: self.esr,
            _ICR_LOW: self.icr_low, _ICR_HIGH: self.icr_high,
            _INITIAL: self.initial, _DIVIDE: self.divide,
        }  # fmt: skip
        return values.get(index, 0)

    def write(self, offset: int, value: int) -> None:
        index = offset >> 4
        if index == _EOI:
            self._end_of_interrupt()
        elif index == _TPR:
            self.tpr = value & 0xFF
        elif index == _ICR_LOW:
            self.icr_low = value & 0xC_CFFF
            self._send(self._command())
        elif index == _ICR_HIGH:
            self.icr_high = value & 0xFF00_0000
        elif index in self.lvt:
            self._write_lvt(index, value)
        elif index in (_INITIAL, _DIVIDE):
            self._write_timer(index, value)
        else:
            self._write_setup(index, value)

    def _command(self) -> Ipi:
        low = self.icr_low
        return Ipi(
            vector=low & 0xFF,
            mode=low >> 8 & 7,
            logical=bool(low & 1 << 11),
            level=bool(low & 1 << 15),
            assert_=bool(low & 1 << 14),
            shorthand=low >> 18 & 3,
            destination=self.icr_high >> 24,
        )

    def _write_lvt(self, index: int, value: int) -> None:
        value &= _LVT_BITS[index]
        if not self.svr & _ENABLED:
            value |= _MASKED  # §10.4.7.2: the mask cannot be cleared while software-disabled
        if index == _LVT_TIMER and self.lvt[index] & _MASKED and not self._current():
            self._counting = False  # it came to its end while nobody was to be told
        self.lvt[index] = value
        if index == _LVT_TIMER:
            self._rearm()

    def _write_timer(self, index: int, value: int) -> None:
        if index == _DIVIDE:
            left = self._current()
            self.divide = value & 0xB
            if self.initial:  # what is left goes on at the new rate
                self._started = self._clock() - (self.initial - left) * self._tick_ns
        else:
            self.initial = value
            self._started = self._clock()
            self._counting = value != 0
        self._rearm()

    def _write_setup(self, index: int, value: int) -> None:
        if index == _ID:
            self.id = value >> 24
        elif index == _LDR:
            self.ldr = value & 0xFF00_0000
        elif index == _DFR:
            self.dfr = value | 0x0FFF_FFFF
        elif index == _SVR:
            self.svr = value & 0x1FF
            if not value & _ENABLED:
                for entry in self.lvt:
                    self.lvt[entry] |= _MASKED
                self._rearm()
        elif index == _ESR:
            self.esr = 0
