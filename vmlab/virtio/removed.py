"""What is left of a device that was taken out under its driver."""

from __future__ import annotations

from vmlab.virtio import blk
from vmlab.virtio.device import VirtioDevice

__all__ = ["RemovedDevice"]

_BLOCK = 2


class RemovedDevice(VirtioDevice):
    """Looks to the driver as `device` did. A disk's requests fail at once, for who waits for one cannot be
    killed; other devices' are not answered. After a reset no device is here (§4.2.2)."""

    def __init__(self, device: VirtioDevice) -> None:
        self.type = device.type  # type: ignore[misc]  # an instance is as its device was
        self.device_id = device.device_id  # type: ignore[misc]
        self.queue_sizes = device.queue_sizes  # type: ignore[misc]
        self.notify, self.features, self.config = device.notify, device.features, device.config
        self.transport = device.transport

    def process(self, index: int) -> bool:
        queue = self.transport.queues.get(index)
        chain = queue.pop() if queue is not None and self.device_id == _BLOCK else None
        if queue is None or chain is None:
            return False
        queue.push(chain, blk.Request(queue, chain).finish(blk.IOERR))
        return True

    def reset(self) -> None:
        self.device_id = 0  # type: ignore[misc]
