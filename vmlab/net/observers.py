"""Who looks at a switch, or takes part in it, from Python: captures, watchers, ports; and its tables."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Self

from msgspec import Struct

from vmlab.errors import ConfigError
from vmlab.net.hub import Hub
from vmlab.net.packets import MIN_FRAME, mac_text
from vmlab.net.pcap import Frame, PcapWriter
from vmlab.net.stream import MAX_FRAME, BadPeer, FrameSocket

__all__ = ["Capture", "Lines", "Port", "PortRow", "Ports", "Watch"]

log = logging.getLogger(__name__)

#: frames that wait for a watcher which is slow; more are left out, and counted
WATCH_QUEUE = 4096
#: seconds that `close` waits for a call of somebody's function to come back
JOIN = 2.0


class Lines(list[str]):
    """Text for people: shown as it is."""

    def __repr__(self) -> str:
        return "\n".join(self)


class PortRow(Struct, frozen=True):
    """A port of the switch. `in` is what came from it; drops: frames it was too slow for, and runts."""

    number: int
    name: str
    macs: tuple[str, ...]
    frames_in: int
    bytes_in: int
    frames_out: int
    bytes_out: int
    drops: int


class Ports(list[PortRow]):
    """A table."""

    def __repr__(self) -> str:
        head = f"{'port':>4}  {'in':>9} {'out':>9} {'drops':>7}  who"
        rows = (
            f"{row.number:>4}  {row.frames_in:>9} {row.frames_out:>9} {row.drops:>7}"
            f"  {' '.join((row.name, *row.macs)).strip()}"
            for row in self
        )
        return "\n".join((head, *rows))


class Capture(PcapWriter):
    """A capture under way; `close` or the end of its `with` ends it."""

    def __init__(self, hub: Hub, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._hub = hub
        hub.observe(self.write)

    def close(self) -> None:
        self._hub.ignore(self.write)
        super().close()


class Watch:
    """Calls back with each frame; `missed` counts those that came too fast for it."""

    def __init__(self, hub: Hub, callback: Callable[[Frame], object]) -> None:
        self.missed = 0
        self._hub, self._callback = hub, callback
        self._waiting: deque[Frame] = deque()
        self._turn = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="vmlab-watch", daemon=True)
        self._thread.start()
        hub.observe(self._take)

    def _take(self, frames: list[Frame]) -> None:
        with self._turn:
            room = WATCH_QUEUE - len(self._waiting)
            self._waiting.extend(frames[:room])
            self.missed += max(len(frames) - room, 0)
            self._turn.notify()

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                self._callback(frame)
        except BaseException:  # it is a user's code
            log.exception("a watcher of the switch raised and is taken off")
            self._hub.ignore(self._take)

    def _next(self) -> Frame | None:
        with self._turn:
            while not self._waiting and not self._over:
                self._turn.wait()
            return None if self._over else self._waiting.popleft()

    def close(self) -> None:
        """No call is under way when this returns. Idempotent."""
        self._hub.ignore(self._take)
        with self._turn:
            self._over = True
            self._turn.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Port:
    """A place on the switch for a notebook cell. mac: an address for it, in the lab's count."""

    def __init__(
        self, connected: socket.socket, callback: Callable[[bytes], object], mac: bytes
    ) -> None:
        self.mac = mac_text(mac)
        self._frames, self._callback = FrameSocket(connected), callback
        self._thread = threading.Thread(target=self._run, name="vmlab-port", daemon=True)
        self._thread.start()

    def send(self, frame: bytes) -> bool:
        """Whether the switch took it; False when it is gone or makes no room."""
        if not MIN_FRAME <= len(frame) <= MAX_FRAME:
            raise ConfigError(f"a frame of {len(frame)} bytes; it has {MIN_FRAME} to {MAX_FRAME}")
        return self._frames.send([(len(frame), (bytes(frame),))]) == 1

    def _run(self) -> None:
        try:
            while (frames := self._frames.read()) is not None:
                for frame in frames:
                    self._callback(frame)
        except BadPeer:
            pass
        except BaseException:  # it is a user's code
            log.exception("a port's callback raised; the port is closed")
        finally:
            self._frames.close()

    def close(self) -> None:
        """Leave the switch. Idempotent."""
        self._frames.hang_up()
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
