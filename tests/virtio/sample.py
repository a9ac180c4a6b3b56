"""A device of the tests' own, behind the virtio-mmio transport."""

from __future__ import annotations

from vmlab.regs.packed import Packed, u8, u32, u64
from vmlab.testing import Driver
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain
from vmlab.virtio.registers import DRIVER_OK, FEATURES_OK

OK = 1 | 2 | FEATURES_OK | DRIVER_OK


class Config(Packed):
    capacity = u64("sectors")
    columns = u32("of the screen")
    mode = u8("writable")


class Sample(VirtioDevice):
    """Counts what is asked of it."""

    type, device_id, queue_sizes = "sample", 42, (256, 4)
    features = 1 | 2 | 1 << 50
    feature_needs = {2: 1}

    def __init__(self) -> None:
        self.config = Config(capacity=0x1_0000_0002, columns=80)
        self.seen: list[str] = []

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(chain.read() or b"\1" * chain.writable_size)

    def activate(self) -> None:
        self.seen.append("activate")

    def reset(self) -> None:
        self.seen.append("reset")

    def queue_reset(self, index: int) -> None:
        self.seen.append(f"queue {index}")


def sample(driver: Driver) -> Sample:
    assert isinstance(driver.device, Sample)
    return driver.device
