"""A device with all that a machine would give it, and no machine.

harness = DeviceHarness(MyDevice())
harness.device.write(0x04, 4, 7)        # what a bus would call
assert harness.irq_count == 1
harness.close()
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from vmlab.core.clock import Clock
from vmlab.core.counters import Block
from vmlab.core.device import Device
from vmlab.core.irq import IrqLine
from vmlab.core.memory import GuestMemory

__all__ = ["DeviceHarness"]


class _Edges:
    """The other end of the interrupt line: remembers edges and wakes whoever waits for one."""

    def __init__(self) -> None:
        self.level = False
        self.heard = threading.Event()

    def set(self, level: bool) -> bool:
        self.level = level
        if level:
            self.heard.set()
        return level

    def pulse(self) -> bool:
        self.heard.set()
        return True

    def close(self) -> None:
        """Nothing to let go of."""


class DeviceHarness:
    """Plugs `device` in: an interrupt line, a running clock, `memory`, counters, doorbells.

    mistakes: what the device said that its guest did wrong, in order. outputs: what it has put out, by
    port (`Device.output`).
    """

    def __init__(
        self, device: Device, memory: GuestMemory | None = None, clock: Clock | None = None
    ) -> None:
        self.device = device
        self.mistakes: list[str] = []
        self.outputs: dict[int, bytearray] = {}
        self._edges = _Edges()
        self._own_clock = clock is None
        self.clock = clock or Clock()
        self.clock.resume()
        self.line = IrqLine(0, self._edges)
        device.irq, device.clock, device.memory = self.line, self.clock, memory
        device._wire(Block.private([row.name for row in device.regs.table]))
        device.on_mistake = lambda _, text: self.mistakes.append(text)
        device.on_output = self._collect
        try:
            device.attached()
        except BaseException:
            self._strip()
            raise
        #: (offset, size, value) of the writes that need not trap, and what to call instead
        self.bells: dict[tuple[int, int, int | None], Callable[[int], None]] = {
            (offset, size, value): ring for offset, size, value, ring in device.doorbells()
        }

    def _collect(self, data: bytes, port: int) -> None:
        self.outputs.setdefault(port, bytearray()).extend(data)

    @property
    def irq_count(self) -> int:
        """How often the device has interrupted: edges of its line."""
        return self.line.raised

    @property
    def heard(self) -> threading.Event:
        """Set by each edge; cleared by whoever waits for one."""
        return self._edges.heard

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write: it rings a doorbell where there is one, else it traps."""
        ring = self.bells.get((offset, size, value)) or self.bells.get((offset, size, None))
        if ring is not None:
            ring(1)
        else:
            self.device.write(offset, size, value)

    def close(self) -> None:
        """Unplug: the device's threads end, its files are closed."""
        if self.device.irq is not self.line:
            return
        self.bells.clear()
        try:
            self.device.detached()
        finally:
            self._strip()

    def _strip(self) -> None:
        device = self.device
        device.irq, device.clock, device.memory = IrqLine(), Clock(), None
        device.on_mistake = None
        device.on_output = None
        device._rewire()
        if self._own_clock:
            self.clock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
