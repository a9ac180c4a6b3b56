"""A port that ends the run: what QEMU calls isa-debug-exit, so that one guest image serves both."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.device import Device, on_write
from vmlab.regs import Registers, wo

__all__ = ["DebugExit"]


class DebugExit(Device):
    """Calls `on_exit(v)` when the guest writes v; the run then ends with status (v << 1) | 1."""

    type = "debug-exit"
    size = 4
    wants_irq = False

    class regs(Registers):
        CODE = wo(0, "the value to end with; a narrower write leaves the other bytes zero")

    def __init__(self, on_exit: Callable[[int], None] = lambda value: None) -> None:
        self._on_exit = on_exit

    @on_write("CODE")
    def _end(self, value: int) -> None:
        self._on_exit(value)
