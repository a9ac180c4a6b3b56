"""A TAP interface: the host's own network, where that is permitted (Linux)."""

from __future__ import annotations

import errno
import os
import select
import struct
import sys
import threading
from collections.abc import Callable, Sequence

from msgspec import Struct

from vmlab.core.host import HOST, Host
from vmlab.errors import ConfigError
from vmlab.net.packets import MIN_FRAME
from vmlab.net.stream import MAX_FRAME, Link, Outgoing

__all__ = ["TapLink", "TapPlace"]

CLONE = "/dev/net/tun"
#: linux/if_tun.h: _IOW('T', 202, int)
TUNSETIFF = 1 << 30 | struct.calcsize("i") << 16 | ord("T") << 8 | 202
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
#: struct ifreq: a name of 16 bytes with its NUL, flags, the rest of its union
_IFREQ = struct.Struct("16sH22x")
MAX_NAME = 15
#: frames that are read before they are handed on
BATCH = 64


class TapPlace(Struct, frozen=True):
    """A TAP interface by name; it is made if there is none. Travels between processes."""

    name: str

    def __post_init__(self) -> None:
        if sys.platform != "linux":
            raise ConfigError("tap=...: TAP interfaces are Linux's; use a Switch, or stream=...")
        if not 0 < len(self.name.encode()) <= MAX_NAME or any(c in "/ %:" for c in self.name):
            raise ConfigError(f"tap={self.name!r} is no name of an interface, such as vmlab0")

    @property
    def label(self) -> str:
        return f"tap {self.name}"

    def open(self, deliver: Callable[[list[bytes]], None], link: Callable[[bool], None]) -> TapLink:
        """`link(True)` is called now; `deliver(frames)` and `link(up)` then on the link's thread."""
        return TapLink(open_tap(self.name), deliver, link)


def open_tap(name: str, host: Host = HOST) -> int:
    """A descriptor of the interface; ConfigError says what to do when there is none to be had."""
    try:
        fd = host.open(CLONE)
    except OSError as error:
        raise ConfigError(f"tap={name}: cannot open {CLONE}: {_advice(error, name)}") from error
    try:
        host.ioctl(fd, TUNSETIFF, bytearray(_IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI)))
        os.set_blocking(fd, False)
    except OSError as error:
        host.close(fd)
        raise ConfigError(f"tap={name}: {_advice(error, name)}") from error
    return fd


def _advice(error: OSError, name: str) -> str:
    own = f"once, as root: ip tuntap add dev {name} mode tap user $USER && ip link set {name} up"
    missing = "the host offers none: modprobe tun, or give the container the device"
    hints = {
        errno.EPERM: f"not permitted; {own}",
        errno.EACCES: f"not permitted; {own}",
        errno.EBUSY: "somebody else has the interface open",
        errno.EINVAL: "an interface of that name is there, and is no TAP",
        errno.ENOENT: missing,
        errno.ENODEV: missing,
        errno.ENXIO: missing,
    }
    hint = hints.get(error.errno or 0)
    return f"{error.strerror}: {hint}" if hint else str(error.strerror)


class TapLink(Link):
    """An open interface. A frame that the host does not take at once is lost, as on a wire."""

    def __init__(
        self,
        fd: int,
        deliver: Callable[[list[bytes]], None],
        link: Callable[[bool], None],
    ) -> None:
        self._fd, self._deliver, self._link = fd, deliver, link
        self._stop, self._stopper = os.pipe()
        self._lock = threading.Lock()
        link(True)
        self._thread = threading.Thread(target=self._run, name="vmlab-net", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        waiting.register(self._stop, select.POLLIN)
        while True:
            found = dict(waiting.poll())
            if self._stop in found:
                return
            try:
                frames = self._read()
            except OSError:
                # the interface was deleted; another of its name would be another wire
                self._link(False)
                return
            if frames:
                self._deliver(frames)

    def _read(self) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < BATCH:
            try:
                frame = os.read(self._fd, MAX_FRAME)
            except BlockingIOError:
                break
            if len(frame) >= MIN_FRAME:
                frames.append(frame)
        return frames

    def send(self, frames: Sequence[Outgoing]) -> int:
        taken = 0
        with self._lock:
            if self._fd < 0:
                return 0
            for _, parts in frames:
                try:
                    os.writev(self._fd, parts)
                except OSError:
                    continue
                taken += 1
        return taken

    def close(self) -> None:
        os.write(self._stopper, b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._lock:
            for fd in (self._fd, self._stop, self._stopper):
                os.close(fd)
            self._fd = -1
