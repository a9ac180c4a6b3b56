"""Windows that a guest knows before they hold a device: those of a board that has them always, and for Linux
kernels without ACPI.

Such a kernel knows the windows that its command line or its device tree names, and no others. Those without
a device show a placeholder, which its driver passes over (virtio 1.2 §4.2.2.2) and can be told to look at
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmlab.core.cmdline import Cmdline
from vmlab.core.device import Device
from vmlab.core.manager import MMIO_LEN, DeviceType, MMIODeviceManager
from vmlab.errors import IrqsExhausted, WindowsExhausted
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.placeholder import Placeholder

__all__ = ["Placeholders"]

_KIND = DeviceType.virtio(Placeholder.device_id)


class Placeholders:
    """The first `count` windows of `manager`, each with a line of its own; the owner holds its lock.

    carry: makes the transport of a device. kept: the guest's drivers keep a window until they are unbound, as
    Linux' do."""

    def __init__(
        self,
        manager: MMIODeviceManager,
        count: int = 0,
        carry: Callable[[VirtioDevice], Device] = MmioTransport,
        kept: bool = True,
    ) -> None:
        self._manager, self._carry = manager, carry
        self.count = count
        self.kept = kept and bool(count)
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
                self._manager.register_mmio_device(self._carry(Placeholder()), _KIND.number, id)
            except (IrqsExhausted, WindowsExhausted):
                return
            self._ids.append(id)

    def add_to_cmdline(self, line: Cmdline) -> None:
        """The windows, as `virtio_mmio.device=` elements."""
        for number in range(self.count):
            base = self._manager.mmio_base + number * MMIO_LEN
            irq = self._manager.irq_interval[0] + number
            self._manager.add_device_to_cmdline(line, base, irq)
