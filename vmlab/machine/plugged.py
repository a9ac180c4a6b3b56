"""A device in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vmlab.core.device import Device
from vmlab.core.manager import DeviceType
from vmlab.errors import DeviceNotFound
from vmlab.hints import unknown
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.window import MmioWindow

__all__ = ["Plugged", "find"]


class Plugged(NamedTuple):
    """A device in its place. kind: how the manager knows it; None: part of the machine. shows: (address,
    size) of RAM that it puts on a screen."""

    device: Device
    space: str
    base: int
    size: int
    irq: int | None
    kind: DeviceType | None
    shows: tuple[int, int] | None = None

    @property
    def fixed(self) -> bool:
        return self.kind is None

    @property
    def made(self) -> Device | VirtioDevice:
        """What somebody made: a virtio device without its transport."""
        return self.device.device if isinstance(self.device, MmioWindow) else self.device


def find(devices: Mapping[str, Plugged], id: str) -> Plugged:
    """The one called `id`; DeviceNotFound says which there are."""
    found = devices.get(id)
    if found is None:
        raise DeviceNotFound(unknown("device", id, devices))
    return found
