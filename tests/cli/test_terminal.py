"""The command at a terminal: a pseudo terminal, with somebody at the other end."""

from __future__ import annotations

import os
import re
import signal
import termios
import time
from pathlib import Path

import psutil
import pytest

from tests.boot.images import elf64
from tests.cli.terminal import Terminal
from tests.waiting import alive, until


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


FLOOD = bytes.fromhex("66baf803 b07e ee ebfd")  # mov dx, 0x3f8; mov al, "~"; 1: out dx, al; jmp 1b


@pytest.mark.parametrize("isolate", [(), ("--isolate",)])
@pytest.mark.parametrize("how", ["timeout", "signal", "escape"])
def test_a_flood_at_a_held_terminal_can_be_left(
    engine: str, tmp_path: Path, how: str, isolate: tuple[str, ...]
) -> None:
    """Ctrl-S, or a pager that waits: what the guest writes goes nowhere, and it never stops writing."""
    image = tmp_path / "flood.elf"
    image.write_bytes(elf64(FLOOD))
    timeout = ("--timeout", "1.5") if how == "timeout" else ()
    with Terminal("run", str(image), "--engine", engine, *timeout, *isolate) as terminal:
        terminal.expect(rb"~")
        termios.tcflow(terminal.theirs, termios.TCOOFF)
        time.sleep(0.5)
        if how == "signal":
            terminal.process.send_signal(signal.SIGTERM)
        elif how == "escape":
            terminal.type(b"\x01x")
        time.sleep(0.5)
        termios.tcflow(terminal.theirs, termios.TCOON)
        assert terminal.wait(6) == {"timeout": 124, "signal": 143, "escape": 0}[how]
        assert terminal.mode == terminal.before


def test_a_guest_that_reads_nothing_can_be_left(engine: str, tmp_path: Path) -> None:
    image = tmp_path / "deaf.elf"
    image.write_bytes(elf64(bytes.fromhex("66baf803 b02a ee ebfe")))  # "*", and jmp .
    with Terminal("run", str(image), "--engine", engine) as terminal:
        terminal.expect(rb"[*]")
        for _ in range(40):
            terminal.type(b"q" * 1000)
            terminal.read(0.01)
        terminal.type(b"\x01x")
        assert terminal.wait(5) == 0


def test_what_the_guest_did_to_the_terminal_is_undone(tmp_path: Path) -> None:
    """It asks where the cursor is, draws in colour on the other screen, hides the cursor, asks for the mouse,
    and leaves a title half written. The shell that comes next reads none of the answers."""
    drawing = b"\x1b[?1049h\x1b[31m\x1b[?25l\x1b[?1000h\x1b[6n\x1b]0;half"
    image = tmp_path / "draws.elf"
    written = b"".join(bytes((0xB0, byte, 0xEE)) for byte in drawing)  # mov al, byte; out dx, al
    image.write_bytes(elf64(bytes.fromhex("66baf803") + written + bytes.fromhex("ebfe")))
    with Terminal("run", str(image)) as terminal:
        terminal.expect(rb"half$")
        terminal.type(b"\x1b[24;1R")
        terminal.type(b"\x01x")
        terminal.expect(re.escape(b"\x1b[5n"), 5)
        terminal.type(b"\x1b[3;4R\x1b[0n")
        assert terminal.wait(5) == 0
        after = terminal.shown[terminal.shown.index(b"\x18") :]
        for reset in (b"\x1b\\", b"\x1b[?1049l", b"1000;", b"\x1b[!p", b"\x1b[?25h", b"\x1b[0m"):
            assert reset in after, reset
        assert terminal.mode == terminal.before
        assert terminal.unread() == b""


def test_what_was_typed_ahead_is_the_shells() -> None:
    with Terminal("run", "hello") as terminal:
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.shown
        terminal.type(b"ls\n")
        assert terminal.unread() == b"ls\n"


@pytest.mark.parametrize("size", [(24, 80), (20, 60)])
def test_live_is_typed_at_and_left(engine: str, size: tuple[int, int]) -> None:
    with Terminal("run", "monitor", "--live", "--engine", engine, size=size) as terminal:
        terminal.expect(rb"vmlab> ")
        assert terminal.mode != terminal.before
        terminal.type(b"peek 0x300000\r")
        terminal.expect(rb"0x00300000: 0x00000000")
        terminal.type(b"\x03")
        time.sleep(0.3)
        assert terminal.process.poll() is None, "Ctrl-C is the guest's"
        terminal.type(b"\x01x")
        assert terminal.wait() == 0
        assert terminal.mode == terminal.before
        assert b"left the guest running" in terminal.shown
        assert b"Ctrl-A x leaves" in terminal.shown


def test_live_on_a_terminal_that_cannot_be_drawn_on() -> None:
    with Terminal("run", "monitor", "--live", term="dumb") as terminal:
        terminal.expect(rb"vmlab> ")
        terminal.type(b"peek 0x300000\r")
        terminal.expect(rb"0x00300000: 0x00000000")
        terminal.type(b"\x01x")
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.shown


@pytest.mark.parametrize("size", [(24, 80), (50, 160), (12, 40), (5, 20), (0, 0)])
def test_live(engine: str, size: tuple[int, int]) -> None:
    arguments = ("run", "irqlab", "--live", "--engine", engine, "--cmdline", "ticks=60 period=5000")
    with Terminal(*arguments, size=size) as terminal:
        assert terminal.wait() == 0, terminal.shown
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
        until(lambda: not any(alive(child.pid) for child in children), "its processes' end", 2)
