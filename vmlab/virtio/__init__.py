"""virtio devices (virtio 1.2), to be plugged into a machine: `vm.hot_add(Rng(seed=7))`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmlab.net.switch import Switch
    from vmlab.virtio.console import Console
    from vmlab.virtio.disk import Disk
    from vmlab.virtio.nic import Nic
    from vmlab.virtio.rng import Rng

__all__ = ["Console", "Disk", "Nic", "Rng", "Switch"]

_HOME = {name: f"vmlab.virtio.{name.lower()}" for name in __all__} | {"Switch": "vmlab.net.switch"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vmlab.virtio' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
