"""A PL061 GPIO block (ARM DDI 0190B; cited by section): eight pins, each an input or an output, each with an
interrupt by edge or by level. The power key is wired to one of them."""

from __future__ import annotations

from typing import Any

from vmlab.core import clock
from vmlab.core.device import Device, command, on_peek, on_read, on_write
from vmlab.devices.arm.primecell import CELL_ID, peripheral_id
from vmlab.errors import ConfigError
from vmlab.regs import Registers, bits, block, reserved, ro, rw, wo

__all__ = ["POWER_KEY", "Pl061"]

PINS = 8
#: the pin of the power key, as on libkrun's and QEMU's machines
POWER_KEY = 3
#: nanoseconds for which it is held down: longer than a driver takes a bounce for
PRESS = 100_000_000


def _pins(doc: str) -> dict[str, Any]:
    return {"PINS": bits(0, PINS, doc), "ZERO": reserved(PINS, 32 - PINS)}


class Pl061(Device):
    """Pins are numbered from 0. What a guest puts out at a pin, `peek("DATA")` shows."""

    type = "pl061"
    compatible = "arm,pl061"

    class regs(Registers):
        DATA = block(
            0x000, 0x400, "the pins: address bits 9 to 2 say which an access is for", spec="§3.3.1"
        )
        DIR = rw(0x400, "direction", spec="§3.3.2", **_pins("outputs"))
        IS = rw(0x404, "interrupt sense", spec="§3.3.3", **_pins("by level; else by edge"))
        IBE = rw(0x408, "interrupt both edges", spec="§3.3.4", **_pins("by either edge"))
        IEV = rw(0x40C, "interrupt event", spec="§3.3.5", **_pins("rising, or high"))
        IE = rw(0x410, "interrupt mask", spec="§3.3.6", **_pins("enabled"))
        RIS = ro(0x414, "raw interrupt status", spec="§3.3.7", **_pins("pending"))
        MIS = ro(0x418, "masked interrupt status", spec="§3.3.8", **_pins("pending and enabled"))
        IC = wo(0x41C, "interrupt clear", spec="§3.3.9", **_pins("forget the edge"))
        AFSEL = rw(0x420, "mode control select, kept", spec="§3.3.10", **_pins("by hardware"))
        PERIPH_ID0, PERIPH_ID1, PERIPH_ID2, PERIPH_ID3 = peripheral_id(0x061, 0)
        PRIMECELL_ID0, PRIMECELL_ID1, PRIMECELL_ID2, PRIMECELL_ID3 = CELL_ID

    def __init__(self) -> None:
        self._wake: clock.Timer | None = None
        #: levels that the outside drives, those that the guest does, and edges that nobody has cleared
        self._outside = self._output = self._edges = 0

    def reset(self) -> None:
        """What the outside drives stays."""
        with self.lock:
            super().reset()
            self._output = self._edges = 0

    def detached(self) -> None:
        with self.lock:
            self._release()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_wake": None}

    # --- the outside ----------------------------------------------------------------------------

    @command
    def drive(self, pin: int, level: bool) -> None:
        """Drive a pin from outside: 0 to 7, high or low. An output pin does not mind."""
        if not 0 <= pin < PINS:
            raise ConfigError(f"pin {pin!r}: there are 0 to {PINS - 1}")
        before = self._levels()
        self._outside = self._outside & ~(1 << pin) | bool(level) << pin
        self._notice(before)

    @command
    def press(self) -> None:
        """Press the power key, and let it go."""
        self.drive(POWER_KEY, True)
        if self._wake is None:
            self._wake = self.clock.call_at(self.clock.now() + PRESS, self._up)

    def _up(self) -> None:
        """On the clock's thread."""
        with self.lock:
            if self._wake is not None:
                self._release()
                self.drive(POWER_KEY, False)
                self.update()

    def _release(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    # --- the pins -------------------------------------------------------------------------------

    def _levels(self) -> int:
        levels: int = self._output & self.r.DIR | self._outside & ~self.r.DIR
        return levels

    def _notice(self, before: int) -> None:
        """The edges from the levels `before` to those of now, which inputs by edge wait for."""
        now, r = self._levels(), self.r
        wanted = (now & ~before) & (r.IBE | r.IEV) | (before & ~now) & (r.IBE | ~r.IEV)
        self._edges |= wanted & ~r.IS & ~r.DIR & 0xFF

    @on_peek("DATA")
    def _shown(self, offset: int, size: int) -> int:
        return self._levels() & offset >> 2

    @on_read("DATA")
    def _read(self, offset: int, size: int) -> int:
        return self._levels() & offset >> 2 if not offset & 3 else 0

    @on_write("DATA")
    def _write(self, offset: int, size: int, value: int) -> None:
        mask = (offset >> 2 if not offset & 3 else 0) & self.r.DIR
        self._output = self._output & ~mask | value & mask

    @on_write("DIR")
    def _turn(self, value: int) -> None:
        """An output interrupts nobody."""
        self._edges &= ~value

    # --- interrupts -----------------------------------------------------------------------------

    def irq_level(self) -> bool:
        return bool(self._pending() & self.r.IE)

    @on_peek("RIS")
    def _pending(self) -> int:
        r = self.r
        steady: int = ~(self._levels() ^ r.IEV) & r.IS & ~r.DIR & 0xFF
        return steady | self._edges

    @on_peek("MIS")
    def _masked(self) -> int:
        masked: int = self._pending() & self.r.IE
        return masked

    @on_write("IC")
    def _clear(self, value: int) -> None:
        self._edges &= ~value

    @on_write("IS")
    def _sense(self, value: int) -> None:
        self._edges &= ~value
