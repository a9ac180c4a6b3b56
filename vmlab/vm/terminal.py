"""The terminal as the guest's console: raw mode, Ctrl-A x to leave, and everything put back afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from vmlab.errors import StateError, VmlabError

__all__ = ["ESCAPE", "EscapeReader", "Keyboard", "Printer", "attached", "interact", "raw_mode"]


class Console(Protocol):
    """What is typed at and listened to: `vmlab.vm.console.Console`."""

    @property
    def ended(self) -> bool: ...

    def send(self, text: str | bytes, timeout: float = 5) -> int: ...

    def listen(
        self, listener: Callable[[bytes], None], replay: bool = False
    ) -> Callable[[], None]: ...


#: Ctrl-A; then x leaves, Ctrl-A sends one to the guest
ESCAPE = b"\x01"
#: seconds between two looks at whether a wait should go on
LOOK = 0.2
#: bytes that are typed and wait for the guest; what a terminal types beyond them is lost, a pipe waits
WAITING = 64 << 10
#: bytes read at once
READ = 4096
#: bytes that a pipe or terminal takes at once when it takes any (POSIX: PIPE_BUF is 512 at least)
AT_ONCE = 512
#: what may change the terminal, or ask it something: ESC, and SO, which swaps the characters
_DRAWING = (b"\x1b", b"\x0e")
#: seconds that a terminal has to answer, a slow line included
ANSWER = 0.3
#: "how are you?" and "well" (DSR, ECMA-48 §8.3.35): answers come in the order of the questions
_QUESTION, _ANSWER = b"\x1b[5n", b"\x1b[0n"
#: ends an escape sequence that was cut short (CAN, ST); SI and G0 to ASCII; main screen; no reports of
#: mouse, focus, pasting or keys; then DECSTR, which does the rest: cursor, margins, colours, keypad
_RESET = (
    b"\x18\x1b\\\x0f\x1b(B\x1b[?1049l\x1b[?1000;1002;1003;1004;1005;1006;1015;2004l"
    b"\x1b[<u\x1b[>4;0m\x1b[!p\x1b[?7h\x1b[?25h\x1b[0m"
)


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
    if fd < 0 or not os.isatty(fd):
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
        # at once: a terminal whose output is held would never be drained
        termios.tcsetattr(fd, termios.TCSANOW, before)


class Keyboard:
    """What is typed at `fd` goes to the guest; `left` is set when Ctrl-A x was typed, `over` when nothing
    more is typed, and `wake` is called.

    Reading and sending have a thread each: a guest that takes nothing does not keep Ctrl-A x from being
    seen. Only a terminal has the escape: a pipe may carry any byte. Below 0 `fd` is no keyboard."""

    def __init__(self, fd: int, send: Callable[[bytes], int], wake: Callable[[], None]) -> None:
        self._fd = fd
        self._send = send
        self._wake = wake
        self._terminal = fd >= 0 and os.isatty(fd)
        self._typed = bytearray()
        self._changed = threading.Condition()
        self._closed = False
        self._bell = os.pipe()
        self._threads: list[threading.Thread] = []
        self.left = self.over = False

    def begin(self) -> None:
        """The machine has started: it can be typed at."""
        if self._fd >= 0:
            self._threads = [
                threading.Thread(target=work, name=f"vmlab-{name}", daemon=True)
                for name, work in (("keyboard", self._read), ("typing", self._forward))
            ]
            for thread in self._threads:
                thread.start()

    def _read(self) -> None:
        reader = EscapeReader() if self._terminal else None
        with contextlib.suppress(OSError):
            while not self.left and self._room():
                select.select([self._fd, self._bell[0]], [], [])
                if self._closed or not (data := os.read(self._fd, READ)):
                    break
                if reader is not None:
                    data, self.left = reader.feed(data)
                with self._changed:
                    self._typed += data[: WAITING - len(self._typed)]
                    self._changed.notify_all()
        with self._changed:
            self.over = True
            self._changed.notify_all()
        self._wake()

    def _room(self) -> bool:
        """Whether to read on; a pipe waits until what it has brought has room."""
        with self._changed:
            while not self._terminal and len(self._typed) > WAITING - READ and not self._closed:
                self._changed.wait()
            return not self._closed

    def _forward(self) -> None:
        while (part := self._next()) is not None:
            try:
                sent = self._send(part)
            except (VmlabError, OSError):
                return  # the machine has ended
            with self._changed:
                del self._typed[:sent]
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """What the guest has not got yet; None when there will be nothing more."""
        with self._changed:
            while not self._typed and not self.over and not self._closed:
                self._changed.wait()
            return bytes(self._typed) if self._typed and not self._closed else None

    def close(self) -> None:
        """Nothing more is read: what the terminal answers from here on is for someone else."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        os.write(self._bell[1], b"x")
        for thread in self._threads:
            if thread.is_alive():  # a signal may have come before all were started
                thread.join(LOOK)
        if not any(thread.is_alive() for thread in self._threads):
            for end in self._bell:
                os.close(end)


@contextlib.contextmanager
def attached(
    console: Console, wake: Callable[[], None], show: bool = True
) -> Iterator[tuple[Keyboard, Printer]]:
    """This terminal, or what stands in its place, is the console's: raw while it lasts, and put back
    afterwards. `wake` is called when somebody left, or the output can no longer be shown. show: print
    what the guest writes."""
    fd = descriptor(sys.stdin)
    printer = Printer(wake)
    stop = console.listen(printer.show) if show else lambda: None
    keyboard = Keyboard(fd, console.send, wake)
    with raw_mode(fd):
        try:
            yield keyboard, printer
        finally:
            stop()
            printer.close()
            keyboard.close()
            put_back(printer, fd)


def interact(console: Console) -> None:
    """Give this terminal to the guest until Ctrl-A x. StateError where there is none."""
    if descriptor(sys.stdin) < 0 or descriptor(sys.stdout) < 0:
        raise StateError(
            "interact() needs a terminal, and there is none here; use send() and expect()"
        )
    woken = threading.Event()
    with attached(console, woken.set) as (keyboard, printer):
        keyboard.begin()
        while not keyboard.over and not console.ended and printer.error is None:
            woken.wait(LOOK)
    if printer.error is not None:
        raise printer.error


class Printer:
    """Shows the guest's output; `error` is why it no longer can, and `failed` is called then.
    `drew`: something in it may have changed the terminal."""

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._closed = False
        self.out = descriptor(sys.stdout)
        self.error: OSError | None = None
        self.drew = False

    def show(self, data: bytes) -> None:
        if self.out < 0 or self.error is not None or self._closed:
            return
        if not self.drew and any(mark in data for mark in _DRAWING):
            self.drew = True
        try:
            self._write(data)
        except OSError as error:
            self.error = error
            self._failed()

    def _write(self, data: bytes) -> None:
        """In parts that do not block: a terminal that is held, or a pipe that nobody reads, must not
        hold the guest's CPU when the machine is to end."""
        while data and not self._closed:
            if not select.select([], [self.out], [], LOOK)[1]:
                continue
            try:
                data = data[os.write(self.out, data[:AT_ONCE]) :]
            except BlockingIOError:
                pass  # whoever shares the terminal has made it non-blocking, and was faster

    def close(self) -> None:
        """What comes from now on is not shown."""
        self._closed = True


def put_back(printer: Printer, fd: int) -> None:
    """The terminal as it was before the guest drew on it: modes reset, and its answers to the guest's
    questions read, which would be commands to the shell. `fd`: the input, still raw."""
    out = printer.out
    if not printer.drew or out < 0 or not os.isatty(out):
        return
    with contextlib.suppress(OSError):
        if not select.select([], [out], [], LOOK)[1]:
            return  # it is held: what it does not take cannot be put back
        asked = fd >= 0 and os.isatty(fd)
        os.write(out, _RESET + (_QUESTION if asked else b""))
        if asked:
            _discard_answers(fd)


def _discard_answers(fd: int) -> None:
    import termios

    seen, end = b"", time.monotonic() + ANSWER
    while _ANSWER not in seen and (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            data = os.read(fd, 4096)
            if not data:
                break
            seen = seen[-len(_ANSWER) :] + data
    termios.tcflush(fd, termios.TCIFLUSH)


def descriptor(stream: TextIO | None) -> int:
    """The stream's descriptor; -1 for one that was closed before we began."""
    try:
        return stream.fileno() if stream is not None else -1
    except (OSError, ValueError, AttributeError):
        return -1
