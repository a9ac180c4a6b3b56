"""A window without a device (virtio 1.2 §4.2.2: DeviceID 0)."""

from __future__ import annotations

from vmlab.virtio.device import VirtioDevice

__all__ = ["Placeholder"]


class Placeholder(VirtioDevice):
    """Drivers see that nothing is here and say nothing (§4.2.2.2). `vm.replace` cannot put another
    device into its place, since that one is of another type; remove it first."""

    type = "virtio-placeholder"
    device_id = 0
