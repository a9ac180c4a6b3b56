"""Frames a second through the switch, and from card to card.

The switch: one process sends as fast as it is let, another one counts what comes out, both over real
sockets. A sender that is faster than the receiver would measure drops. So the receiver grants frames
as it gets them, as TCP does, and none may be lost.

The cards: two drivers of `vmlab.testing` in one interpreter with both cards and the switch, which is
the worst case: machines have processes of their own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import struct
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from figures import Figure, median, plain
from vmlab.net.stream import BUFFER, LENGTH, connect
from vmlab.testing import Driver
from vmlab.virtio import Nic, Switch

__all__ = ["measure"]

SIZE = 1500
#: frames under way at most: less than the switch's queue and the sockets hold
WINDOW = 512
BURST = 64
SENDER = b"\x02VM\0\0\1"
#: two stations behind the receiving port: frames that take turns between them go on one by one
RECEIVERS = (b"\x02VM\0\0\2", b"\x02VM\0\0\3")
TARGET = 50_000


def measure(rounds: int, frames: int) -> list[Figure]:
    """Microseconds a frame; `frames` frames in each of `rounds` rounds."""
    one, two, captured, cards = [], [], [], []
    for _ in range(rounds):
        one.append(1e6 / through(frames, RECEIVERS[:1]))
        two.append(1e6 / through(frames, RECEIVERS))
        captured.append(1e6 / through(frames, RECEIVERS, capture="/dev/null"))
        cards.append(1e6 / between_cards(frames // 8))
    return [
        per_frame("net switch: a frame of 1.5 KB", one, 1e6 / TARGET),
        per_frame("  each for another station than the one before", two, 1e6 / TARGET),
        per_frame("  and all of them captured", captured, None),
        per_frame("  virtio-net to virtio-net, all in one interpreter", cards, None),
    ]


def per_frame(name: str, samples: Sequence[float], target: float | None) -> Figure:
    figure = plain(name, samples, "us", target)
    figure.of["frames/s"] = 1e6 / median(samples)
    return figure


def through(frames: int, receivers: Sequence[bytes], capture: str | None = None) -> float:
    """Frames a second through the switch."""
    spawn = multiprocessing.get_context("spawn")
    with Switch(pcap=capture) as switch, contextlib.ExitStack() as stack:
        grants, granted = (stack.enter_context(end) for end in socket.socketpair())
        told, tell = (stack.enter_context(end) for end in multiprocessing.Pipe(duplex=False))
        receiver = spawn.Process(target=receive, args=(switch.path, frames, grants, tell))
        receiver.start()
        # it is heard of before the first frame to it, which would be flooded otherwise
        assert told.poll(30), "the receiver does not start"
        told.recv()
        sender = spawn.Process(target=send, args=(switch.path, frames, receivers, granted))
        sender.start()
        assert told.poll(120), "frames were lost"
        rate: float = told.recv()
        drops = sum(row.drops for row in switch.ports)
        assert not drops, f"{drops} frames were dropped"
        for process in (sender, receiver):
            process.kill()
            process.join()
        return rate


def send(path: str, frames: int, receivers: Sequence[bytes], granted: socket.socket) -> None:
    rest = SENDER + b"\x88\xb5" + bytes(SIZE - 14)
    several = b"".join(LENGTH.pack(SIZE) + one + rest for one in receivers)
    burst = several * (BURST // len(receivers))
    with connect(path) as connected:
        credit = WINDOW
        for _ in range(frames // BURST):
            while credit < BURST:
                data = granted.recv(4096)
                credit += sum(struct.unpack(f"{len(data) // 4}I", data))
            connected.sendall(burst)
            credit -= BURST
        time.sleep(60)  # the connection stays until all has arrived, and we are ended


def receive(path: str, frames: int, grants: socket.socket, tell: Connection) -> None:
    total = frames // BURST * BURST * (SIZE + 4)
    with connect(path) as connected:
        for one in RECEIVERS:
            connected.sendall(LENGTH.pack(60) + SENDER + one + bytes(48))
        time.sleep(0.1)
        tell.send(None)
        view = memoryview(bytearray(BUFFER))
        got = seen = 0
        start = 0.0
        while got < total:
            got += connected.recv_into(view)
            start = start or time.perf_counter()
            fresh = got // (SIZE + 4) - seen
            if fresh:
                seen += fresh
                grants.send(struct.pack("I", fresh))
        tell.send(seen / (time.perf_counter() - start))
        time.sleep(60)


def between_cards(frames: int) -> float:
    """Frames a second from one driver's queue into another's buffers."""
    data = bytes(12) + RECEIVERS[0] + SENDER + b"\x88\xb5" + bytes(SIZE - 14)
    with (
        Switch() as switch,
        Driver(Nic(switch), event_idx=True) as sender,
        Driver(Nic(switch), event_idx=True) as receiver,
    ):
        while len(switch.ports) < 2:
            time.sleep(0.001)
        for _ in range(256):
            receiver.submit(0, in_=1526, kick=False)
        receiver.kick(0)
        start = time.perf_counter()
        for _ in range(BURST):
            sender.submit(1, out=data, kick=False)
        sender.kick(1)
        for _ in range(frames // BURST - 1):
            again(receiver, 0)
            again(sender, 1)
        receiver.collect(0, BURST)
        return frames // BURST * BURST / (time.perf_counter() - start)


def again(driver: Driver, queue: int) -> None:
    """Wait for a burst, and offer its buffers anew."""
    ring = driver.rings[queue]
    for request in driver.collect(queue, BURST, release=False):
        ring.offer(request)
    ring.publish()
    driver.kick(queue)


if __name__ == "__main__":
    from figures import show

    for row in measure(5, 200_000):
        print(show(row))
