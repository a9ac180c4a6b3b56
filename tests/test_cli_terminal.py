"""The command at a terminal: a pseudo terminal, with somebody at the other end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Self

import psutil
import pytest

from tests.support import ROOT
from tests.vms import PATIENCE, command


class Terminal:
    """Runs a command in a pseudo terminal of its own."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> None:
        self.ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.before = termios.tcgetattr(self._theirs)
        self.shown = b""
        self.process = subprocess.Popen(
            command(*arguments),
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
        )

    @property
    def mode(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

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

    def wait(self, seconds: float = PATIENCE) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown[-2000:]
            self.read()
        self.read(0)
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)


def test_a_session(engine: str) -> None:
    with Terminal("run", "monitor", "--engine", engine) as terminal:
        terminal.expect(rb"vmlab> $")
        assert terminal.mode != terminal.before
        terminal.type(b"peek 0x300000\r")
        terminal.expect(rb"0x00300000: 0x00000000\r+\n")
        terminal.type(b"\x03")
        terminal.type(b"exit 4\r")
        assert terminal.wait() == 9
        assert terminal.mode == terminal.before
        assert b"the guest exited with status 9" in terminal.shown


def test_ctrl_c_is_the_guests_and_ctrl_a_x_leaves(engine: str) -> None:
    with Terminal("run", "monitor", "--engine", engine) as terminal:
        terminal.expect(rb"vmlab> $")
        terminal.type(b"spin\r")
        time.sleep(0.2)
        terminal.type(b"\x03")
        terminal.expect(rb"spin[^>]*vmlab> $")
        terminal.type(b"\x01")
        time.sleep(0.05)
        terminal.type(b"x")
        assert terminal.wait() == 0
        assert terminal.mode == terminal.before
        assert b"left the guest running; it was stopped" in terminal.shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_put_the_terminal_back(number: int) -> None:
    with Terminal("run", "monitor") as terminal:
        terminal.expect(rb"vmlab> $")
        assert terminal.mode != terminal.before
        terminal.process.send_signal(number)
        assert terminal.wait() in (130, 128 + number)
        assert terminal.mode == terminal.before
        assert b"Traceback" not in terminal.shown


def test_a_crash_and_a_timeout_put_it_back() -> None:
    for arguments, typed, status in (
        ((), b"fault triple\r", 3),
        (("--timeout", "0.5"), b"spin\r", 124),
    ):
        with Terminal("run", "monitor", *arguments) as terminal:
            terminal.expect(rb"vmlab> $")
            terminal.type(typed)
            assert terminal.wait() == status
            assert terminal.mode == terminal.before


@pytest.mark.parametrize("size", [(24, 80), (50, 160), (12, 40), (5, 20), (0, 0)])
def test_live(engine: str, size: tuple[int, int]) -> None:
    arguments = ("run", "irqlab", "--live", "--engine", engine, "--cmdline", "ticks=60 period=5000")
    with Terminal(*arguments, size=size) as terminal:
        assert terminal.wait() == 1, terminal.shown
        assert b"Traceback" not in terminal.shown
        text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", terminal.shown).decode()
        if size[0] >= 24:
            for word in ("irqlab on " + engine, "com1", "timer0", "serial", "irq lines", "tick"):
                assert word in text, word
        assert terminal.mode == terminal.before


def test_the_demo() -> None:
    with Terminal("demo", "--seconds", "2", size=(45, 140)) as terminal:
        assert terminal.wait(15) == 0
        text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", terminal.shown).decode()
        for word in ("monitor on", "address map", "dice0", "That was a machine on"):
            assert word in text, word
        assert terminal.shown.count(b"\x1b[?25l") == terminal.shown.count(b"\x1b[?25h"), (
            "the cursor"
        )
        assert b"Traceback" not in terminal.shown


@pytest.mark.parametrize("arguments", [("run", "monitor", "--live"), ("demo",)])
def test_ctrl_c_leaves_the_live_view(arguments: tuple[str, ...]) -> None:
    with Terminal(*arguments) as terminal:
        terminal.expect(rb"serial")
        children = psutil.Process(terminal.process.pid).children()
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == 130
        assert b"interrupted" in terminal.shown
        assert b"Traceback" not in terminal.shown
        assert b"\x1b[?25h" in terminal.shown
        assert not psutil.wait_procs(children, timeout=2)[1]
