"""What virtio costs before any device does its work, driven by the mock of `vmlab.testing`: no guest, no
KVM. The driver shares the interpreter with the device, so a guest's figures are better.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Callable

from figures import Figure, plain, ratio
from vmlab.testing import Driver
from vmlab.virtio import Rng
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain

__all__ = ["measure"]

DEPTH = 32
BLOCK = 4096
IMAGE = 1024 * BLOCK


def measure(rounds: int, seconds: float) -> list[Figure]:
    """Each side of each round takes about `seconds`."""
    with tempfile.TemporaryFile(prefix="vmlab-bench-") as image:
        image.write(os.urandom(IMAGE))
        image.flush()
        fd = image.fileno()
        turns = [(reads(fd, seconds), loop(fd, seconds)) for _ in range(rounds)]
    through, bare = zip(*turns, strict=True)
    alone = [round_trip(seconds) for _ in range(rounds)]
    return [
        plain(f"virtio: 4 KiB preadv into a request, {DEPTH} in flight", through, "us", 25),
        ratio("the same / a preadv loop", {"virtio us": through}, {"loop us": bare}, None),
        plain("virtio: one request, there and back", alone, "us", None),
        Figure("virtio-rng: notifications for 64 KiB", refill(), "", 1),
    ]


class Bare(VirtioDevice):
    """The least that a disk can be: what is left is the queue's and the transport's."""

    type, device_id, queue_sizes = "bare-disk", 2, (256,)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def handle(self, index: int, chain: Chain) -> int:
        _, _, sector = struct.unpack_from("<IIQ", chain.readable[0])
        *data, status = chain.writable
        size = os.preadv(self._fd, data, sector * 512)
        status[0] = 0
        return size + 1


class Echo(VirtioDevice):
    type, device_id, queue_sizes = "echo", 63, (16,)

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(chain.readable[0])


def reads(fd: int, seconds: float) -> float:
    """Microseconds a read of 4 KiB through a queue, DEPTH of them in flight."""
    with Driver(Bare(fd), event_idx=True) as driver:
        for at in range(DEPTH):
            driver.submit(0, struct.pack("<IIQ", 0, 0, at * BLOCK // 512), [BLOCK, 1], kick=False)
        driver.kick(0)

        def again() -> int:
            done = driver.collect(0, max(driver.poll(0), 1), release=False)
            for request in done:
                driver.resubmit(0, request, kick=False)
            driver.kick(0)
            return len(done)

        return timed(again, seconds)


def loop(fd: int, seconds: float) -> float:
    """The same reads without anything around them."""
    buffers = [[memoryview(bytearray(BLOCK))] for _ in range(DEPTH)]

    def again() -> int:
        for at, buffer in enumerate(buffers):
            os.preadv(fd, buffer, at * BLOCK)
        return DEPTH

    return timed(again, seconds)


def round_trip(seconds: float) -> float:
    """Microseconds a request that is waited for before the next one: two threads wake one another."""
    with Driver(Echo()) as driver:
        request = driver.rings[0].lay_out([b"ping"], [4])

        def again() -> int:
            driver.resubmit(0, request)
            driver.wait(0, request)
            return 1

        return timed(again, seconds)


def refill() -> float:
    """Notifications, trapped or not, that 64 KiB of entropy take."""
    with Driver(Rng()) as driver:
        assert len(driver.request(0, in_=65536)) == 65536
        counts = driver.counts
        return float(counts.registers["QueueNotify"].writes + counts.kicks)


def timed(step: Callable[[], int], seconds: float) -> float:
    """Microseconds for each of what `step` says it did."""
    for _ in range(3):
        step()
    done, began = 0, time.perf_counter()
    end = began + seconds
    while (now := time.perf_counter()) < end:
        done += step()
    return (now - began) / done * 1e6
