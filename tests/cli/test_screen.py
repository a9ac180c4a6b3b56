"""`vmlab run --screen`: the text screen in a terminal, keys at the guest's keyboard; and what is said of a
screen that nobody sees."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.boot.images import elf64, multiboot_elf
from tests.cli.terminal import Terminal
from tests.kernels.screen import echo
from tests.vms import command
from vmlab.arch.x86_64.text_mode import BLANK, CELLS, COLUMNS, Shape
from vmlab.cli.screen import Painter, drawn_rows, struck
from vmlab.vm.screen import Picture

#: mov dword [0xb8000], "H" and "i", yellow on blue; hlt; jmp back
HI = bytes.fromhex("c70500800b00481e691e f4ebfd")
READY = rb"\x1b\[1;1H\x1b\[93;44mready\x1b\[37;40m"


def test_it_is_drawn_and_typed_at(engine: str) -> None:
    with Terminal("run", str(echo()), "--screen", "--engine", engine, size=(25, 80)) as terminal:
        terminal.expect(READY)
        assert terminal.mode != terminal.before
        terminal.type(b"a\x1b[A\x03")
        terminal.expect(rb"1e9ee048e0c81d2eae9d")
        terminal.expect(rb"\x1b\[2;21H\x1b\[\?25h")
        terminal.type(b"\x01x")
        assert terminal.wait() == 0
        assert terminal.mode == terminal.before
        after = terminal.shown.rpartition(b"\x1b[?1049l")[2]
        assert b"ready\r\n1e9ee048" in after, "what it showed last is still to be read"
        assert b"left the guest running" in after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_put_the_terminal_back(number: int) -> None:
    with Terminal("run", str(echo()), "--screen") as terminal:
        terminal.expect(READY)
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        assert terminal.mode == terminal.before
        assert b"\x1b[?1049l" in terminal.shown
        assert b"Traceback" not in terminal.shown


def test_a_timeout_puts_it_back() -> None:
    with Terminal("run", str(echo()), "--screen", "--timeout", "1") as terminal:
        assert terminal.wait() == 124
        assert terminal.mode == terminal.before
        assert terminal.shown.count(b"\x1b[?1049l") == 1


def test_a_terminal_that_cannot_be_drawn_on() -> None:
    arguments = "run", str(echo()), "--screen", "--timeout", "1"
    with Terminal(*arguments, term="dumb") as terminal:
        assert terminal.wait() == 124
        assert b"\x1b" not in terminal.shown
        assert b"ready" in terminal.shown


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("run", *arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_pipe_is_given_the_last_picture(engine: str) -> None:
    done = run(str(echo()), "--screen", "--timeout", "1", "--engine", engine)
    assert (done.stdout, done.returncode) == ("ready\n", 124)


def test_who_writes_where_nobody_sees_is_told(engine: str, tmp_path: Path) -> None:
    image = tmp_path / "hi.elf"
    arguments = str(image), "--timeout", "0.3", "--engine", engine
    image.write_bytes(multiboot_elf(code=HI))
    assert "wrote on its text screen: --screen shows it" in run(*arguments).stderr
    image.write_bytes(elf64(HI))
    said = run(*arguments).stderr
    assert "wrote to the text screen at 0xb8000, and this machine has none" in said
    assert said.count("0xb8000") == 1
    assert run(*arguments, "--screen").stdout == "Hi\n"
    image.write_bytes(elf64())
    assert "screen" not in run(*arguments).stderr


def test_no_screen_to_be_had() -> None:
    done = run("hello", "--screen", "--arch", "arm64")
    assert done.returncode == 2
    assert "an arm64 machine has none; a PC (x86_64) has one" in done.stderr


def names(text: str) -> list[str]:
    return ["-".join(code for code, down in one if down) for one in struck(text)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("aZ", ["KeyA", "ShiftLeft-KeyZ"]),
        ("\r\x7f\t", ["Enter", "Backspace", "Tab"]),
        ("\x1b", ["Escape"]),
        ("\x1bx", ["AltLeft-KeyX"]),
        ("\x1b[5~\x1bOP\x1b[Z", ["PageUp", "F1", "ShiftLeft-Tab"]),
        ("\x03", ["ControlLeft-KeyC"]),
        ("\x00\x1c", ["ControlLeft-Space", "ControlLeft-Backslash"]),
        ("é\x1b[99~", []),
    ],
)
def test_what_terminals_send(text: str, keys: list[str]) -> None:
    assert names(text) == keys


def picture(text: str, cursor: int = 0, attribute: int = 7, rows: int = 25) -> Picture:
    cells = b"".join(bytes((ord(one), attribute)) for one in text)
    shape = Shape(cursor=cursor, height=15 if rows == 25 else 7)
    return Picture(shape, shape.cells(cells + BLANK * (CELLS - len(text))))


def test_colours() -> None:
    assert drawn_rows(picture("x", attribute=0x4E))[0].startswith("\x1b[93;41mx\x1b[37;40m ")


def test_only_what_has_changed_is_drawn() -> None:
    ours, theirs = pty.openpty()
    painter = Painter(theirs)
    painter.draw(picture("one"))
    os.read(ours, 1 << 16)
    painter.draw(picture("one", cursor=COLUMNS + 1))
    assert os.read(ours, 1 << 16) == b"\x1b[2;2H\x1b[?25h"
    painter.draw(picture("one", cursor=COLUMNS + 1))
    painter.draw(picture("two", cursor=COLUMNS + 1))
    assert os.read(ours, 1 << 16).startswith(b"\x1b[1;1H\x1b[37;40mtwo")
    os.close(ours)
    os.close(theirs)
