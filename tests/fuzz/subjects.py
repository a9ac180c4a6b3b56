"""The virtio devices that are fuzzed, and a request of each that must succeed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from vmlab import catalogue, virtio
from vmlab.testing import Driver
from vmlab.virtio.device import VirtioDevice

__all__ = ["FACTORIES", "Subject", "names", "subject"]


@dataclass
class Subject:
    """good: uses a driver that is ready, and raises when the device does not work. stir: something
    happens to the device on the host's side. headers: beginnings of plausible requests."""

    device: VirtioDevice
    good: Callable[[Driver], object]
    stir: Callable[[], object] = lambda: None
    headers: tuple[bytes, ...] = ()


@contextmanager
def rng() -> Iterator[Subject]:
    def good(driver: Driver) -> None:
        assert len(driver.request(0, in_=16)) == 16

    yield Subject(virtio.Rng(seed=1), good)


@contextmanager
def disk() -> Iterator[Subject]:
    device = virtio.Disk(size="64K")

    def good(driver: Driver) -> None:
        answer = driver.request(0, struct.pack("<IIQ", 0, 0, 1), [512, 1])
        assert len(answer) == 513
        assert answer[-1] == 0

    kinds = (
        0,
        1,
        4,
        8,
        11,
        13,
        14,
        99,
    )  # in, out, flush, get id, discard, write zeroes, erase, none
    headers = [
        struct.pack("<IIQ", kind, 0, at) for kind in kinds for at in (0, 1, 127, 128, 1 << 55)
    ]
    headers += [
        struct.pack("<QII", at, count, flag) for at, count, flag in ((0, 8, 0), (120, 9, 1))
    ]
    sizes = iter(range(1 << 60))
    yield Subject(
        device, good, lambda: device.resize(0x8000 if next(sizes) % 2 else 0x10000), tuple(headers)
    )


@contextmanager
def nic() -> Iterator[Subject]:
    frame = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + b"\x08\x00" + bytes(46)
    header = bytes(12)
    switch = virtio.Switch()
    with Driver(virtio.Nic(switch)) as peer:
        yield Subject(
            virtio.Nic(switch),
            lambda driver: driver.request(1, header + frame) and None,
            lambda: peer.request(1, header + frame) and None,
            (
                header + frame,
                b"\x00\x00\x01",
                b"\x00\x03\x01",
                b"\x01\x00" + bytes(12),
                b"\x04\x00\x01\x00",
            ),
        )
    switch.close()


@contextmanager
def console() -> Iterator[Subject]:
    device = virtio.Console()

    def good(driver: Driver) -> None:
        driver.request(1, b"hello")

    headers = tuple(
        struct.pack("<IHH", port, event, 1) for port in (0, 1, 99) for event in range(9)
    )
    yield Subject(device, good, partial(device.resize, 80, 25), headers)


@contextmanager
def any_other(name: str) -> Iterator[Subject]:
    """A device that is only listed: it takes a request and answers what it likes."""
    device, _ = catalogue.make(name)

    def good(driver: Driver) -> None:
        driver.request(0, b"hello", in_=64)

    yield Subject(device, good)


#: name in the catalogue -> how to make one for a test
FACTORIES = {"rng": rng, "disk": disk, "net": nic, "console": console}


def names() -> list[str]:
    """The virtio devices that can be asked for by name: to be listed is to be tested."""
    return [
        name for name, place in catalogue.CATALOGUE.items() if place.startswith("vmlab.virtio.")
    ]


@contextmanager
def subject(name: str) -> Iterator[Subject]:
    with FACTORIES[name]() if name in FACTORIES else any_other(name) as made:
        yield made
