"""The terminal as the guest's console: raw mode, and Ctrl-A x to leave."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from vmlab.console import Console
from vmlab.errors import StateError

__all__ = ["ESCAPE", "EscapeReader", "Printer", "descriptor", "forward", "interact", "raw_mode"]

#: Ctrl-A; then x leaves, Ctrl-A sends one to the guest
ESCAPE = b"\x01"
#: seconds between two looks at whether the session has ended
LOOK = 0.2


class EscapeReader:
    """Finds the escape in what is typed. `feed(data)` returns (bytes for the guest, leave?)."""

    def __init__(self) -> None:
        self._armed = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        out = bytearray()
        for value in data:
            byte = bytes((value,))
            if self._armed:
                self._armed = False
                if byte in (b"x", b"X"):
                    return bytes(out), True
                out += byte if byte == ESCAPE else ESCAPE + byte
            elif byte == ESCAPE:
                self._armed = True
            else:
                out += byte
        return bytes(out), False


@contextlib.contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """The terminal hands over every key as it is typed; put back afterwards, whatever happens.
    Output keeps its newline handling. Does nothing when `fd` is no terminal."""
    if not os.isatty(fd):
        yield
        return
    import termios

    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(termios.IXON | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP)
    mode[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, mode)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def forward(fd: int, send: Callable[[bytes], int], ended: Callable[[], bool]) -> bool:
    """Send what is typed on `fd` until `ended()` or end of file; True when Ctrl-A x was typed.

    Only a terminal has the escape: a pipe may carry any byte."""
    reader = EscapeReader() if os.isatty(fd) else None
    while not ended():
        ready, _, _ = select.select([fd], [], [], LOOK)
        if not ready:
            continue
        data = os.read(fd, 4096)
        if not data:
            return False
        leave = False
        if reader is not None:
            data, leave = reader.feed(data)
        while data and not ended():
            data = data[send(data) :]
        if leave:
            return True
    return False


def interact(console: Console) -> None:
    """Give this terminal to the guest until Ctrl-A x. StateError where there is none."""
    try:
        fd, out = sys.stdin.fileno(), sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        raise StateError(
            "interact() needs a terminal, and there is none here; use send() and expect()"
        ) from None
    stop = console.listen(lambda data: write_all(out, data))
    try:
        with raw_mode(fd):
            forward(fd, console.send, lambda: console.ended)
    finally:
        stop()


class Printer:
    """Shows the guest's output; `error` is why it no longer can, and `failed` is called then."""

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._out = descriptor(sys.stdout)
        self.error: OSError | None = None

    def show(self, data: bytes) -> None:
        if self._out < 0 or self.error is not None:
            return
        try:
            write_all(self._out, data)
        except OSError as error:
            self.error = error
            self._failed()


def descriptor(stream: TextIO | None) -> int:
    """The stream's descriptor; -1 for one that was closed before we began."""
    try:
        return stream.fileno() if stream is not None else -1
    except (OSError, ValueError):
        return -1


def write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            # whoever shares the terminal has made it non-blocking
            select.select([], [fd], [])
