"""What devices print, and what is said of them, gathered until it is sent.

One `print` is several writes and becomes one saying. A handler that prints in a loop fills no memory and
waits for nobody: of what is not sent yet the oldest goes, and is counted.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from vmlab.core.device import Device
from vmlab.monitor.wire import Said, Saying
from vmlab.virtio.device import VirtioDevice

__all__ = ["NoTerminal", "Sayings", "Teller", "no_debugger", "speaker"]

#: sayings, and characters of them, that wait to be sent: in one message, where a character is up to 4 bytes
WAITING, WAITING_TEXT = 1000, 3 << 20
#: characters of one saying; a longer text becomes several
SAID = 1 << 20
#: seconds after which a line without an end is sent as it is: a thread may be kept from running amid one
PATIENCE = 0.25
#: frames that are looked at for the device whose code prints
FRAMES = 64


class Sayings:
    """Any thread adds; one takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Saying] = deque()
        self._size = self._lost = 0

    def add(self, saying: Saying) -> None:
        with self._lock:
            self._waiting.append(saying)
            self._size += len(saying.text)
            while len(self._waiting) > WAITING or self._size > WAITING_TEXT:
                self._size -= len(self._waiting.popleft().text)
                self._lost += 1

    @property
    def waiting(self) -> bool:
        return bool(self._waiting or self._lost)

    def take(self) -> list[Said]:
        """All of it, in messages that fit the wire."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            lost, self._lost, self._size = self._lost, 0, 0
        return [Said(list(waiting), lost)] if waiting or lost else []


class Teller(io.TextIOBase):
    """Stands in for stdout and stderr: what a device prints reaches the notebook, a line at a time.

    say: called with (device, text). who: the device whose code is running."""

    def __init__(self, say: Callable[[str, str], None], who: Callable[[], str]) -> None:
        self._say, self._who = say, who
        self._lock = threading.Lock()
        #: thread -> (when its line was begun, whose it is, what was written of it)
        self._lines: dict[int, tuple[float, str, list[str]]] = {}

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        line = self._lines.get(thread)
        if line is None:
            line = (time.monotonic(), self._who(), [])
            with self._lock:
                self._lines[thread] = line
        line[2].append(text)
        if text.endswith("\n") or len(text) > SAID:
            self._end(thread)
        return len(text)

    def flush(self) -> None:
        self._end(threading.get_ident())

    @property
    def waiting(self) -> bool:
        """Whether a line was begun."""
        return bool(self._lines)

    def settle(self) -> None:
        """Send lines that nobody ends."""
        now = time.monotonic()
        for thread, (begun, _, _) in list(self._lines.items()):
            if now - begun > PATIENCE:
                self._end(thread)

    def _end(self, thread: int) -> None:
        with self._lock:
            line = self._lines.pop(thread, None)
        if line is None:
            return
        # what no encoding has (lone surrogates) must not end the device that printed it
        text = "".join(line[2]).encode("utf-8", "backslashreplace").decode()
        for at in range(0, len(text), SAID):
            self._say(line[1], text[at : at + SAID])


def speaker(plugged: Iterable[tuple[str, object]]) -> str:
    """The id of the device whose code called this; "" where it is none of those."""
    frame = sys._getframe(1)
    for _ in range(FRAMES):
        code = frame.f_code
        one = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(one, (Device, VirtioDevice)):
            for id, device in plugged:
                if device is one or getattr(device, "device", None) is one:
                    return id
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


_INSTEAD = (
    "a device runs in a process of its own, without a terminal. Use print(...), which vm.log keeps,"
    " VM(..., isolate=False) in a script, or the device alone, without a machine: Dice().read(0x00, 4)"
)


class NoTerminal(io.TextIOBase):
    """Stands in for stdin."""

    def readable(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> NoReturn:
        raise RuntimeError(f"input() does not work here: {_INSTEAD}")

    def read(self, size: int | None = -1, /) -> NoReturn:
        self.readline()


def no_debugger(*_: Any, **__: Any) -> NoReturn:
    """Stands in for what `breakpoint()` calls."""
    raise RuntimeError(f"breakpoint() does not work here: {_INSTEAD}")
