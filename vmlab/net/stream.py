"""Ethernet frames over Unix stream sockets: each after its length, 4 bytes, big endian. QEMU's
`-netdev stream` and passt speak the same."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from vmlab.core.units import parse_path
from vmlab.errors import ConfigError
from vmlab.net.packets import MIN_FRAME

__all__ = [
    "BUFFER",
    "LENGTH",
    "MAX_FRAME",
    "BadPeer",
    "FrameSocket",
    "Link",
    "Outgoing",
    "StreamPlace",
    "check_path",
    "connect",
    "cut",
    "widen",
]

LENGTH = struct.Struct(">I")
#: an IP packet of 65,535 bytes and an Ethernet header, with one byte to be even: QEMU's and passt's bound
MAX_FRAME = 65550
#: bytes of one look at a socket: many frames a system call
BUFFER = 256 << 10
#: what a socket should hold for a peer that is slow for a moment; the system may allow less
SOCKET_BUFFER = 1 << 20
#: the longest path of a Unix socket, the closing NUL left out (macOS; Linux has 107)
MAX_PATH = 103
#: seconds that `send` waits for room before it drops: a reset of the device waits as long
PATIENCE = 0.05
#: seconds between two attempts to reach a peer that went
RETRY = 0.25

#: (bytes of the frame, the pieces of it)
Outgoing = tuple[int, Sequence[bytes | memoryview]]


class BadPeer(Exception):
    """The other side does not speak the format; the message says how."""


def check_path(path: str | os.PathLike[str]) -> str:
    text = parse_path("path", path)
    if not 0 < len(os.fsencode(text)) <= MAX_PATH:
        raise ConfigError(f"{text!r} is no path of a Unix socket: 1 to {MAX_PATH} bytes")
    return text


def widen(one: socket.socket) -> socket.socket:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    return one


def connect(path: str) -> socket.socket:
    """OSError when nobody listens there."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.connect(path)
        return widen(one)
    except BaseException:
        one.close()
        raise


def cut(data: bytes) -> tuple[list[bytes], int]:
    """(the whole frames in `data`, where the first incomplete one begins). Frames too short to have
    addresses are left out."""
    frames = []
    at, end, unpack = 0, len(data), LENGTH.unpack_from
    while at + 4 <= end:
        (size,) = unpack(data, at)
        if not 0 < size <= MAX_FRAME:
            raise BadPeer(f"a frame of {size} bytes; there are 1 to {MAX_FRAME}")
        after = at + 4 + size
        if after > end:
            break
        if size >= MIN_FRAME:
            frames.append(data[at + 4 : after])
        at = after
    return frames, at


class FrameSocket:
    """Frames over a connected blocking socket; one thread reads, any thread sends."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._view = memoryview(bytearray(BUFFER))
        self._kept = 0
        self._sending = threading.Lock()
        #: the end of a frame of which a part was sent: it has to go first
        self._tail = b""

    def read(self) -> list[bytes] | None:
        """Wait for frames; None when the other side is gone."""
        view = self._view
        frames: list[bytes] = []
        while not frames:
            try:
                got = self._socket.recv_into(view[self._kept :])
            except OSError:
                got = 0
            if not got:
                return None
            data = bytes(view[: self._kept + got])
            frames, at = cut(data)
            self._kept = len(data) - at
            view[: self._kept] = data[at:]
        return frames

    def send(self, frames: Sequence[Outgoing]) -> int:
        """How many frames were taken. The others are to be dropped: the other side makes no room, or
        is gone."""
        with self._sending:
            pieces: list[bytes | memoryview] = [self._tail] if self._tail else []
            for size, parts in frames:
                pieces.append(LENGTH.pack(size))
                pieces += parts
            total = len(self._tail) + sum(size + 4 for size, _ in frames)
            try:
                sent = self._socket.sendmsg(pieces, [], socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            except OSError:
                return 0
            if sent == total:
                self._tail = b""
                return len(frames)
            return self._finish(b"".join(pieces), sent, frames)

    def _finish(self, data: bytes, sent: int, frames: Sequence[Outgoing]) -> int:
        """Wait a little for room, then keep the end of the frame that is half out."""
        deadline = time.monotonic() + PATIENCE
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        while sent < len(data) and (left := deadline - time.monotonic()) > 0:
            if not room.poll(left * 1000):
                break
            try:
                sent += self._socket.send(memoryview(data)[sent:], socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                return 0
        taken, end = 0, len(self._tail)
        for size, _ in frames:
            if end >= sent:
                break
            taken, end = taken + 1, end + size + 4
        self._tail = data[sent:end]
        return taken

    def hang_up(self) -> None:
        """Wakes the reader, which then finds the other side gone; it has to close."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """For the thread that reads, or when there is none: nobody may wait on a closed descriptor."""
        self.hang_up()
        with self._sending:
            self._socket.close()


class Link:
    """A way for frames to the outside, open. `close` ends its thread."""

    def send(self, frames: Sequence[Outgoing]) -> int:
        """How many were taken; never blocks for long."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class StreamPlace(Struct, frozen=True):
    """Where a stream socket is: a switch's, passt's, QEMU's. Travels between processes."""

    path: str
    label: str

    def open(
        self, deliver: Callable[[list[bytes]], None], link: Callable[[bool], None]
    ) -> StreamLink:
        """`link(True)` is called now; `deliver(frames)` and `link(up)` then on the link's thread."""
        return StreamLink(self, deliver, link)


class StreamLink(Link):
    """Connected to a StreamPlace; when the other side goes, it is looked for until it is back."""

    def __init__(
        self,
        place: StreamPlace,
        deliver: Callable[[list[bytes]], None],
        link: Callable[[bool], None],
    ) -> None:
        self._place, self._deliver, self._link = place, deliver, link
        #: peers that broke the format
        self.bad_peers = 0
        try:
            self._frames: FrameSocket | None = FrameSocket(connect(place.path))
        except OSError as error:
            raise ConfigError(
                f"{place.label}: nobody answers at {place.path}: {error.strerror}"
            ) from error
        self._closing = threading.Event()
        self._lock = threading.Lock()
        link(True)
        self._thread = threading.Thread(target=self._run, name="vmlab-net", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        frames = self._frames
        while frames is not None:
            self._read(frames)
            with self._lock:
                self._frames = None
            frames.close()
            if not self._closing.is_set():
                self._link(False)
            frames = self._again()
            if frames is not None:
                self._link(True)

    def _read(self, frames: FrameSocket) -> None:
        try:
            while (batch := frames.read()) is not None:
                self._deliver(batch)
        except BadPeer:
            self.bad_peers += 1

    def _again(self) -> FrameSocket | None:
        while not self._closing.wait(RETRY):
            try:
                fresh = FrameSocket(connect(self._place.path))
            except OSError:
                continue
            with self._lock:
                if not self._closing.is_set():
                    self._frames = fresh
                    return fresh
            fresh.close()
        return None

    def send(self, frames: Sequence[Outgoing]) -> int:
        connected = self._frames
        return connected.send(frames) if connected is not None else 0

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            if self._frames is not None:
                self._frames.hang_up()
        if threading.current_thread() is not self._thread:
            self._thread.join()
