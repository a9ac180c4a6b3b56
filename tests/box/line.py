"""The box's end of the line to the host: JSON messages, one a line, over the second serial port."""

from __future__ import annotations

import json
import os
import tty

__all__ = ["Line"]

#: the only serial port of the arm64 box, the second one of the other
PORTS = ("/dev/ttyAMA0", "/dev/ttyS1")


class Line:
    """The host waits for the first message: what it sent earlier would be lost."""

    def __init__(self) -> None:
        fd = os.open(next(filter(os.path.exists, PORTS)), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(fd)
        self._file = os.fdopen(fd, "r+b", buffering=0)
        self._reader = os.fdopen(os.dup(fd), "rb")

    def send(self, **message: object) -> None:
        # whatever else was printed there ends first
        data = memoryview(b"\n" + json.dumps(message).encode() + b"\n")
        while data:
            data = data[self._file.write(data) or 0 :]

    def receive(self) -> dict[str, object]:
        message: dict[str, object] = json.loads(self._reader.readline())
        return message
