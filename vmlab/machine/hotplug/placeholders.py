"""Windows that a guest is told of before they hold a device: for Linux kernels without ACPI.

Such a kernel knows the windows that its command line names, and no others. Those without a device show a
placeholder, which its driver passes over (virtio 1.2 §4.2.2.2) and can be told to look at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vmlab.core.cmdline import Cmdline
from vmlab.core.manager import MMIO_LEN, DeviceType, MMIODeviceManager
from vmlab.errors import IrqsExhausted, WindowsExhausted
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.placeholder import Placeholder

__all__ = ["Placeholders"]

_KIND = DeviceType.virtio(Placeholder.device_id)


class Placeholders:
    """The first `count` windows of `manager`, each with a line of its own; the owner holds its lock."""

    def __init__(self, manager: MMIODeviceManager, count: int = 0) -> None:
        self._manager = manager
        self.count = count
        manager.paired = manager.paired or bool(count)
        self._ids: list[str] = []
        self._fill()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """No placeholder is in the way; afterwards what is free has one again."""
        for id in self._ids:
            self._manager.unregister(_KIND, id)
        self._ids.clear()
        try:
            yield
        finally:
            self._fill()

    def _fill(self) -> None:
        end = self._manager.mmio_base + self.count * MMIO_LEN
        while (window := self._manager.next_window) is not None and window < end:
            id = f"placeholder{len(self._ids)}"
            try:
                self._manager.register_mmio_device(MmioTransport(Placeholder()), _KIND.number, id)
            except (IrqsExhausted, WindowsExhausted):
                return
            self._ids.append(id)

    def add_to_cmdline(self, line: Cmdline) -> None:
        """The windows, as `virtio_mmio.device=` elements."""
        for number in range(self.count):
            base = self._manager.mmio_base + number * MMIO_LEN
            irq = self._manager.irq_interval[0] + number
            self._manager.add_device_to_cmdline(line, base, irq)
