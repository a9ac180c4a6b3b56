"""The other end of a network card, for tests: frames, peers, and waiting."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.waiting import until
from vmlab.net.stream import LENGTH, cut
from vmlab.testing import Driver
from vmlab.virtio.nic import Nic

__all__ = [
    "BROADCAST",
    "CONTROL",
    "HEADER",
    "OWN",
    "RX",
    "TX",
    "Peer",
    "Plug",
    "buffers",
    "frame",
    "mac",
    "nic_of",
    "received",
    "soon",
]

RX, TX, CONTROL = range(3)
HEADER = bytes(12)
BROADCAST = b"\xff" * 6
#: the address of the card that the fixture `plug` makes
OWN = "02:00:00:00:00:01"

Plug = Callable[..., Driver]


def mac(number: int) -> bytes:
    """The switch's addresses, in its order."""
    return b"\x02VM" + number.to_bytes(3, "big")


def frame(target: bytes, source: bytes, payload: bytes = b"", size: int = 0) -> bytes:
    """An experimental Ethernet frame, filled up to `size`."""
    return (target + source + struct.pack(">H", 0x88B5) + payload).ljust(size, b"\0")


def soon(what: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait until `what()` holds."""
    until(what, "it came true", timeout)


class Peer:
    """A listener at `path` as passt is one, and the one connection to it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self.socket: socket.socket | None = None
        self._data = b""

    def accept(self) -> Self:
        self._listener.settimeout(5)
        self.socket, _ = self._listener.accept()
        self.socket.settimeout(5)
        return self

    def send(self, *frames: bytes) -> None:
        assert self.socket is not None
        self.socket.sendall(b"".join(LENGTH.pack(len(one)) + one for one in frames))

    def receive(self, count: int = 1) -> list[bytes]:
        assert self.socket is not None
        frames: list[bytes] = []
        while len(frames) < count:
            found, at = cut(self._data)
            frames += found
            self._data = self._data[at:]
            if len(frames) < count:
                data = self.socket.recv(1 << 20)
                assert data, "the card hung up"
                self._data += data
        assert len(frames) == count
        return frames

    def hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


def buffers(driver: Driver, count: int = 16, size: int = 1526) -> None:
    """Receive buffers for the card (§5.1.6.3)."""
    for _ in range(count):
        driver.submit(RX, in_=size, kick=False)
    driver.kick(RX)


def received(driver: Driver, count: int = 1) -> list[bytes]:
    """The next `count` frames; their headers are checked."""
    frames = []
    for request in driver.collect(RX, count):
        assert request.result[:12] == bytes(10) + b"\1\0"  # §5.1.6.4.1: no offloads, one buffer
        frames.append(request.result[12:])
    return frames


def nic_of(driver: Driver) -> Nic:
    assert isinstance(driver.device, Nic)
    return driver.device
