"""A pseudo terminal with a command in it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from typing import Self

from tests.support import ROOT
from tests.vms import PATIENCE, command

__all__ = ["Terminal"]


class Terminal:
    """Runs a command in a pseudo terminal of its own."""

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (24, 80), term: str = "xterm-256color"
    ) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.shown = b""
        self.process = subprocess.Popen(
            command(*arguments),
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            cwd=ROOT,
            env={**os.environ, "TERM": term, "COLUMNS": "", "LINES": ""},
            start_new_session=True,
        )

    @property
    def mode(self) -> list[object]:
        return termios.tcgetattr(self.theirs)

    def read(self, seconds: float = 0.05) -> bytes:
        if select.select([self.ours], [], [], seconds)[0]:
            self.shown += os.read(self.ours, 65536)
        return self.shown

    def expect(self, pattern: bytes, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.read()):
            assert time.monotonic() < end, self.shown[-2000:]

    def type(self, data: bytes) -> None:
        os.write(self.ours, data)

    def unread(self) -> bytes:
        """What the next program at this terminal would read."""
        mode = termios.tcgetattr(self.theirs)
        mode[3] &= ~termios.ICANON
        termios.tcsetattr(self.theirs, termios.TCSANOW, mode)
        ready = select.select([self.theirs], [], [], 0.2)[0]
        return os.read(self.theirs, 4096) if ready else b""

    def wait(self, seconds: float = PATIENCE) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown[-2000:]
            self.read()
        while select.select([self.ours], [], [], 0)[0]:  # a terminal gives 4 KiB at a time
            self.read(0)
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)
