"""Frames a second through the switch: one process sends as fast as it is let, another one counts what
comes out. Both speak over real sockets; neither does anything with a frame but count it.

A sender that is faster than the switch or the receiver would measure drops. So the receiver grants
frames as it gets them, as TCP does, and none may be lost.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import struct
import sys
import time
from multiprocessing.connection import Connection

from figures import Figure, median
from vmlab.virtio.stream import BUFFER, LENGTH, connect
from vmlab.virtio.switch import Switch

__all__ = ["measure"]

SIZE = 1500
#: frames under way at most: less than the switch's queue and the sockets hold
WINDOW = 512
BURST = 64
SENDER, RECEIVER = b"\x02VM\0\0\1", b"\x02VM\0\0\2"
TARGET = 50_000


def measure(rounds: int, frames: int) -> list[Figure]:
    """Two figures; `frames` frames in each of `rounds` rounds."""
    plain = [through(frames, watched=False) for _ in range(rounds)]
    captured = [through(frames, watched=True) for _ in range(rounds)]
    per_frame = [1e6 / one for one in plain]
    with_pcap = [1e6 / one for one in captured]
    return [
        figure("switch, one frame of 1.5 KB", per_frame, 1e6 / TARGET),
        figure("  the same while it is captured", with_pcap, None),
    ]


def figure(name: str, samples: list[float], target: float | None) -> Figure:
    middle = median(samples)
    apart = max(samples) - min(samples)
    return Figure(name, middle, "us", target, {"frames/s": 1e6 / middle}, len(samples), apart)


def through(frames: int, watched: bool) -> float:
    """Frames a second."""
    with Switch() as switch, contextlib.ExitStack() as stack:
        if watched:
            stack.enter_context(switch.capture("/dev/null"))
        grants, granted = socket.socketpair()
        told, tell = multiprocessing.Pipe(duplex=False)
        spawn = multiprocessing.get_context("spawn")
        receiver = spawn.Process(target=receive, args=(switch.path, frames, grants, tell))
        receiver.start()
        # the receiver is heard of before the first frame to it, which would be flooded otherwise
        assert told.poll(10)
        told.recv()
        sender = spawn.Process(target=send, args=(switch.path, frames, granted))
        sender.start()
        assert told.poll(120), "frames were lost"
        rate: float = told.recv()
        for one in (sender, receiver):
            one.join()
        grants.close()
        granted.close()
        told.close()
        tell.close()
        drops = sum(row.drops for row in switch.ports)
        assert not drops, f"{drops} frames were dropped"
        return rate


def send(path: str, frames: int, granted: socket.socket) -> None:
    one = LENGTH.pack(SIZE) + RECEIVER + SENDER + b"\x88\xb5" + bytes(SIZE - 14)
    burst = one * BURST
    with connect(path) as connected:
        credit = WINDOW
        for _ in range(frames // BURST):
            while credit < BURST:
                data = granted.recv(4096)
                credit += sum(struct.unpack(f"{len(data) // 4}I", data))
            connected.sendall(burst)
            credit -= BURST
        # the connection stays until all has arrived
        granted.recv(1)
        while granted.recv(4096):
            pass


def receive(path: str, frames: int, grants: socket.socket, tell: Connection) -> None:
    total = frames // BURST * BURST * (SIZE + 4)
    with connect(path) as connected:
        connected.sendall(LENGTH.pack(60) + SENDER + RECEIVER + bytes(48))
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
        grants.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    from figures import show

    for row in measure(5, int(sys.argv[1]) if len(sys.argv) > 1 else 200_000):
        print(show(row))
