"""Windows that a guest's drivers have not done with, though their devices are gone: for Linux.

Such a guest keeps a driver bound to the window of a device that was taken out by force, and looks at none
that comes there until somebody in the guest unbinds it, and binds it again. Until then the driver is
answered there (`virtio.gone`), and other devices go elsewhere.
"""

from __future__ import annotations

import time

from vmlab.core.device import Device
from vmlab.core.log import Log
from vmlab.core.manager import DeviceType, MMIODeviceManager
from vmlab.devices.hotplug import HotPlug
from vmlab.errors import IrqsExhausted, StateError, WindowsExhausted
from vmlab.machine.wires import drives_level
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.window import MmioWindow

__all__ = ["StaleWindows", "driver_bound", "prepare_surprise_removal", "retired"]

log = Log(__name__)

#: seconds that its driver has for the last change of a device that is taken out by force
WEANING = 1.0


class StaleWindows:
    """The owner holds its lock at each call."""

    def __init__(self, manager: MMIODeviceManager, hotplug: HotPlug) -> None:
        self._manager, self._hotplug = manager, hotplug
        #: how the manager knows what is left in a slot
        self._known: dict[int, tuple[DeviceType, str]] = {}

    def keep(self, slot: int, device: MmioWindow, kind: DeviceType, id: str) -> None:
        """`device` goes from `slot`; its transport stays."""
        device.mark_removed()
        self._known[slot] = (kind, f"left{slot}")
        self._manager.rename(kind, id, f"left{slot}")

    def register(
        self,
        device: Device,
        kind: DeviceType,
        id: str,
        size: int,
        at: int | None = None,
        irq: bool | int = True,
    ) -> tuple[int, int | None]:
        """As the manager's, but in a left window only where a driver can be bound anew; and rather where
        the guest does that by itself."""
        self._give_up([slot for slot in self._known if not self._hotplug.is_left(slot)])
        try:
            return self._manager.register_device(
                device, kind, id, size, irq, at, drives_level(device)
            )
        except (IrqsExhausted, WindowsExhausted) as error:
            self._give_up([slot for slot in self._known if not self._hotplug.is_held(slot)])
            try:
                return self._manager.register_device(
                    device, kind, id, size, irq, at, drives_level(device)
                )
            except (IrqsExhausted, WindowsExhausted):
                if not self._known:
                    raise
                raise StateError(
                    f"the guest's drivers hold {len(self._known)} windows whose devices were taken out by"
                    " force, and no other is free: unbind them in the guest (LNRO0005:"
                    f"{min(self._known):02X} in /sys/bus/platform/drivers/virtio-mmio), or reset it"
                ) from error

    def clear(self) -> None:
        """The machine is reset: no driver holds anything."""
        self._give_up(list(self._known))

    def _give_up(self, slots: list[int]) -> None:
        for slot in slots:
            self._manager.unregister(*self._known.pop(slot))


def driver_bound(device: Device) -> bool:
    """Whether a guest's driver has begun with a virtio device and not ended."""
    return isinstance(device, MmioWindow) and bool(device.peek()["Status"])


def prepare_surprise_removal(device: Device) -> None:
    """Before a device is taken out under its driver: what uses it is to fail, not to wait for ever. The
    driver has a moment to see how the device has changed."""
    before = last = device.counters.counts().traps
    try:
        if not retired(device):
            return
    except BaseException:  # it is the user's code, and must not keep the device in
        log.exception("a device could not be retired")
    end = time.monotonic() + WEANING
    while time.monotonic() < end:
        time.sleep(WEANING / 20)
        now = device.counters.counts().traps
        if now == last and now != before:
            return
        last = now


def retired(device: Device) -> str:
    """What can be done about a device that its driver keeps, done and in words."""
    inner = device.device if isinstance(device, MmioWindow) else device
    done = inner.retire() if isinstance(inner, VirtioDevice) else ""
    return f"{done}; " if done else ""
