"""The guest's text screen in this terminal, and this terminal's keys at its keyboard."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import time
from collections.abc import Callable

from vmlab.arch.x86_64.text_mode import COLUMNS
from vmlab.errors import ConfigError
from vmlab.machine.config import ENDED
from vmlab.vm import VM
from vmlab.vm.keys import Strike, chord, typed
from vmlab.vm.screen import Picture

__all__ = ["Keys", "Painter", "can_draw", "drawn_rows", "struck", "watch"]

#: seconds between two looks
LOOK = 0.1
#: seconds that the guest has to take a key; what it does not take by then is lost
TAKING = 5.0

#: what terminals send for keys (ECMA-48, and xterm's "PC-Style Function Keys")
_SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\x1bOH": "home",
    "\x1bOF": "end",
    "\x1bOP": "f1",
    "\x1bOQ": "f2",
    "\x1bOR": "f3",
    "\x1bOS": "f4",
    "\x1b[2~": "ins",
    "\x1b[3~": "del",
    "\x1b[5~": "pgup",
    "\x1b[6~": "pgdn",
    "\x1b[15~": "f5",
    "\x1b[17~": "f6",
    "\x1b[18~": "f7",
    "\x1b[19~": "f8",
    "\x1b[20~": "f9",
    "\x1b[21~": "f10",
    "\x1b[23~": "f11",
    "\x1b[24~": "f12",
    "\x1b[Z": "shift-tab",
}
#: an escape sequence, known or not; or a character
_PIECE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[@-~]|\x1b[^\x1b\[O]|.", re.DOTALL)


def struck(text: str) -> list[list[Strike]]:
    """The keys that make what a terminal sends; what is on no key is left out."""
    found = []
    for piece in _PIECE.findall(text):
        with contextlib.suppress(ConfigError):
            found.append(_key(piece))
    return found


def _key(piece: str) -> list[Strike]:
    if piece in _SEQUENCES:
        return chord(_SEQUENCES[piece])
    if len(piece) == 2:
        return chord(f"alt-{piece[1]}")
    if len(piece) > 2:
        raise ConfigError("a sequence of a key that a PC has not")
    if piece < " " and piece not in "\b\t\n\r\x1b":
        base = 0x60 if piece < "\x1b" else 0x40
        return chord(f"ctrl-{chr(ord(piece) + base) if ord(piece) else 'space'}")
    return typed(piece)


class Keys:
    """What is typed in the terminal goes to the guest's keyboard (`terminal.Console`)."""

    def __init__(self, vm: VM) -> None:
        self._vm = vm

    @property
    def ended(self) -> bool:
        return self._vm.state in ENDED

    def send(self, text: str | bytes, timeout: float = TAKING) -> int:
        data = text if isinstance(text, bytes) else text.encode()
        self._vm.screen.play(struck(data.decode("utf-8", "replace")), timeout)
        return len(data)

    def listen(self, listener: Callable[[bytes], None], replay: bool = False) -> Callable[[], None]:
        return lambda: None


def drawn_rows(picture: Picture) -> list[str]:
    """Each row with its colours as a terminal takes them (SGR of 16 colours)."""
    rows = []
    for row in picture.runs():
        pieces = [f"\x1b[{_sgr(colour)}m{text}" for text, colour in row]
        rows.append("".join(pieces) + "\x1b[0m")
    return rows


#: the PC's colours count blue first, a terminal's red
_ORDER = (0, 4, 2, 6, 1, 5, 3, 7)


def _sgr(attribute: int) -> str:
    front, back = attribute & 15, attribute >> 4
    return ";".join(
        str((base if colour < 8 else base + 60) + _ORDER[colour & 7])
        for colour, base in ((front, 30), (back, 40))
    )


class Painter:
    """Draws a picture on the terminal at `out`: what has changed of it, and as much as fits."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._rows: list[str] = []
        self._cursor = ""
        self._room = (0, 0)

    def begin(self) -> None:
        self._write("\x1b[?1049h\x1b[2J\x1b[?7l")

    def draw(self, picture: Picture) -> None:
        room = shutil.get_terminal_size((COLUMNS, 25))
        text = ""
        if room != self._room:
            self._room, self._rows, self._cursor = (room.columns, room.lines), [], ""
            text = "\x1b[0m\x1b[2J"
        cursor = picture.cursor
        lines = max(room.lines, 1)
        # where not all of it fits, the part with the cursor
        first = min(max(cursor.row - lines + 1, 0), max(picture.shape.rows - lines, 0))
        rows = drawn_rows(picture)[first : first + lines]
        before = self._rows + [""] * (len(rows) - len(self._rows))
        for number, (row, old) in enumerate(zip(rows, before, strict=False), 1):
            if row != old:
                text += f"\x1b[{number};1H{row}"
        if len(self._rows) > len(rows):
            text += f"\x1b[{len(rows) + 1};1H\x1b[J"
        at = f"\x1b[{cursor.row - first + 1};{cursor.column + 1}H\x1b[?25h"
        at = at if cursor.visible else "\x1b[?25l"
        if text or at != self._cursor:
            self._write(text + at)
        self._rows, self._cursor = rows, at

    def _write(self, text: str) -> None:
        """In parts that do not block for ever: a terminal may be held."""
        data = text.encode()
        while data:
            if not select.select([], [self._out], [], LOOK)[1]:
                self._room = (0, 0)  # what was on its way is not there: all of it the next time
                return
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._out, data[:512]) :]


def can_draw(out: int) -> bool:
    """Whether `out` is a terminal that moves its cursor."""
    return out >= 0 and os.isatty(out) and os.environ.get("TERM", "dumb") != "dumb"


def watch(vm: VM, out: int, timeout: float | None, over: Callable[[], bool]) -> bool:
    """Draw the screen of a started machine until it ends, or `over()`; False when `timeout` seconds were
    over first. Where nothing can be drawn, nothing is."""
    end = time.monotonic() + timeout if timeout is not None else float("inf")

    def done() -> bool:
        return vm.state in ENDED or vm.state.fault is not None or over()

    drawn = can_draw(out)
    painter = Painter(out)
    if drawn:
        painter.begin()
    while True:
        ended = done()
        picture = vm.screen.picture
        if drawn:
            painter.draw(picture)
        if ended:
            return True
        if time.monotonic() >= end:
            return False
        vm.wait(min(LOOK, max(end - time.monotonic(), 0)), until=done)
