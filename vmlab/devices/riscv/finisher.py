"""The test finisher of SiFive's machines: a guest ends the run, or resets the machine, by one word."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.device import Device, on_write
from vmlab.regs import Registers, bits, wo

__all__ = ["FAIL", "PASS", "RESET", "Finisher"]

FAIL, PASS, RESET = 0x3333, 0x5555, 0x7777


def _nothing(*_: object) -> None:
    """For what nobody waits for."""


class Finisher(Device):
    """Calls `on_off()` for a pass, `on_reset()` for a reset, `on_fail(code)` for a failure, 0 to 0xFFFF."""

    type = "finisher"
    size = 0x1000
    wants_irq = False
    compatible = "sifive,test1"

    class regs(Registers):
        FINISH = wo(
            0,
            "how the run ends",
            STATUS=bits(0, 16, "the result", values={FAIL: "fail", PASS: "pass", RESET: "reset"}),
            CODE=bits(16, 16, "of a failure"),
        )

    def __init__(
        self,
        on_off: Callable[[], None] = _nothing,
        on_reset: Callable[[], None] = _nothing,
        on_fail: Callable[[int], None] = _nothing,
    ) -> None:
        self._on_off, self._on_reset, self._on_fail = on_off, on_reset, on_fail

    @on_write("FINISH")
    def _finish(self, value: int) -> None:
        status = self.regs.FINISH.STATUS.of(value)
        if status == PASS:
            self._on_off()
        elif status == RESET:
            self._on_reset()
        elif status == FAIL:
            self._on_fail(self.regs.FINISH.CODE.of(value))
        else:
            self.mistake(f"status {status:#x}: there are pass 0x5555, fail 0x3333, reset 0x7777")
