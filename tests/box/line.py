"""The box's end of the line to the host: JSON messages, one a line, over the second serial port."""

from __future__ import annotations

import json
import os
import tty

__all__ = ["Line"]

PORT = "/dev/ttyS1"


class Line:
    """The host waits for the first message: what it sent earlier would be lost."""

    def __init__(self) -> None:
        fd = os.open(PORT, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(fd)
        self._file = os.fdopen(fd, "r+b", buffering=0)
        self._reader = os.fdopen(os.dup(fd), "rb")

    def send(self, **message: object) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[self._file.write(data) or 0 :]

    def receive(self) -> dict[str, object]:
        message: dict[str, object] = json.loads(self._reader.readline())
        return message
