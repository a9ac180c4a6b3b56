"""What a disk costs, driven by the mock: no guest, the device's own thread, files in the page cache."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from pathlib import Path

from figures import Figure, plain, ratio
from vmlab.testing.driver import Driver
from vmlab.testing.rings import Request
from vmlab.virtio import Disk

__all__ = ["measure"]

BLOCK = 1 << 20
#: blocks of the file: it fits the page cache of a small host
BLOCKS = 128
#: 1 MiB reads under way, as a guest's read-ahead has them
AHEAD = 8
DEPTH = 32
SMALL = 4096


def measure(rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk.img"
        path.write_bytes(os.urandom(BLOCK) * BLOCKS)
        with Driver(Disk(path, readonly=True), "64M") as driver:
            large = [request(driver, BLOCK) for _ in range(AHEAD)]
            loops, disks = [], []
            for _ in range(rounds):
                loops.append(loop(path))
                disks.append(sequential(driver, large))
            for one in large:
                driver.rings[0].release(one)
            small = [request(driver, SMALL) for _ in range(DEPTH)]
            times = [deep(driver, small, 300) for _ in range(rounds)]
    return [
        ratio(
            "block: 1 MiB reads in a row / a preadv loop",
            {"disk us": disks},
            {"preadv us": loops},
            2.0,
        ),
        plain("block: a 4 KiB read, 32 under way", times, "us", 25.0),
    ]


def loop(path: Path) -> float:
    """Microseconds of one block, read the plain way."""
    buffer = memoryview(bytearray(BLOCK))
    fd = os.open(path, os.O_RDONLY)
    try:
        began = time.perf_counter()
        for at in range(BLOCKS):
            os.preadv(fd, [buffer], at * BLOCK)
        return (time.perf_counter() - began) / BLOCKS * 1e6
    finally:
        os.close(fd)


def request(driver: Driver, size: int) -> Request:
    """Buffers for a read, used once so that their pages are there."""
    one = driver.submit(0, [struct.pack("<IIQ", 0, 0, 0)], [size, 1])
    driver.collect(0, release=False)
    return one


def sequential(driver: Driver, requests: list[Request]) -> float:
    """Microseconds of one block, read through the device."""
    done, began = requests, time.perf_counter()
    for at in range(0, BLOCKS, len(requests)):
        for number, one in enumerate(done):
            sector = (at + number) * (BLOCK // 512)
            driver.memory.write(one.out[0][0], struct.pack("<IIQ", 0, 0, sector))
        done = again(driver, done)
    return (time.perf_counter() - began) / BLOCKS * 1e6


def deep(driver: Driver, requests: list[Request], times: int) -> float:
    """Microseconds of one small read."""
    done, began = requests, time.perf_counter()
    for _ in range(times):
        done = again(driver, done)
    return (time.perf_counter() - began) / times / len(requests) * 1e6


def again(driver: Driver, requests: list[Request]) -> list[Request]:
    ring = driver.rings[0]
    for one in requests:
        ring.offer(one)
    ring.publish()
    driver.kick(0)
    return driver.collect(0, len(requests), release=False)
