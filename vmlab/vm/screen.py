"""The text screen of a machine that has one, and the keyboard before it."""

from __future__ import annotations

import re
import time
from html import escape
from itertools import groupby
from typing import NamedTuple

from vmlab.arch.x86_64.text_mode import COLUMNS, CP437, KEYBOARD, NO_SCREEN, PALETTE, Shape
from vmlab.errors import ExpectTimeout, StateError
from vmlab.vm import waiting
from vmlab.vm.connection import Connection
from vmlab.vm.console import GRACE, limited
from vmlab.vm.keys import Strike, chord, typed

__all__ = ["Cursor", "Picture", "Screen", "Size"]

#: seconds between two looks of `expect`, and between two tries to type
LOOK = 0.02
#: keys in one message
PART = 1000


class Cursor(NamedTuple):
    """row, column: counted from 0. visible: it is switched on, and on the screen."""

    row: int
    column: int
    visible: bool


class Size(NamedTuple):
    rows: int
    columns: int


class Picture(NamedTuple):
    """One look at the screen: what its registers say, and its cells row by row."""

    shape: Shape
    cells: bytes

    @property
    def lines(self) -> list[str]:
        """Each row's characters, spaces at its end included."""
        text = "".join(CP437[code] for code in self.cells[::2])
        return [text[at : at + COLUMNS] for at in range(0, len(text), COLUMNS)]

    @property
    def attributes(self) -> list[bytes]:
        """Each row's attributes: the colour in bits 0 to 3, the background in bits 4 to 7."""
        colours = self.cells[1::2]
        return [colours[at : at + COLUMNS] for at in range(0, len(colours), COLUMNS)]

    @property
    def cursor(self) -> Cursor:
        place = self.shape.place
        return Cursor(*(place or (0, 0)), place is not None and self.shape.cursor_on)

    def runs(self) -> list[list[tuple[str, int]]]:
        """Each row as pieces of one colour: (text, attribute)."""
        rows = []
        for line, colours in zip(self.lines, self.attributes, strict=True):
            pieces = groupby(zip(line, colours, strict=True), key=lambda cell: cell[1])
            rows.append([("".join(one for one, _ in run), colour) for colour, run in pieces])
        return rows

    def html(self) -> str:
        rows = []
        for row in self.runs():
            spans = (
                f'<span style="color:{PALETTE[colour & 15]};background:{PALETTE[colour >> 4]}">'
                f"{escape(text)}</span>"
                for text, colour in row
            )
            rows.append("".join(spans))
        return f'<pre style="{_STYLE}">' + "\n".join(rows) + "</pre>"


_STYLE = "display:inline-block;background:#000;color:#aaa;padding:8px;line-height:1.2;font-family:monospace"


class Screen:
    """What `vm.screen` is. StateError, in words, of a machine without a screen."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def there(self) -> bool:
        """Whether the machine has a screen; one that was not built yet is, to know it."""
        self._connection.entries_or_build()
        return self.last is not None

    @property
    def last(self) -> Picture | None:
        """All of it, as far as it is known without building a machine; None: there is no screen."""
        found = self._connection.observation.screen()
        return None if found is None else Picture(*found)

    @property
    def picture(self) -> Picture:
        """All of it, as it is now."""
        self._connection.entries_or_build()
        found = self.last
        if found is None:
            raise StateError(NO_SCREEN)
        return found

    @property
    def text(self) -> str:
        """The screen's lines, 25 or 50 of them, without the spaces at their ends."""
        return "\n".join(line.rstrip() for line in self.picture.lines)

    @property
    def attributes(self) -> list[bytes]:
        """The colours of each line's 80 cells: the colour in bits 0 to 3, the background in bits 4 to 7."""
        return self.picture.attributes

    @property
    def cursor(self) -> Cursor:
        return self.picture.cursor

    @property
    def size(self) -> Size:
        return Size(self.picture.shape.rows, COLUMNS)

    # --- waiting ----------------------------------------------------------------------------------

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 5) -> re.Match[str]:
        """Wait until the screen's text matches the regular expression `pattern`, what was there before
        included; ("$" is the end of its last line, with (?m) of each).

        ExpectTimeout after `timeout` seconds, with what the screen shows; StateError when the machine ends
        or pauses first; DeviceFault when a device failed."""
        wanted = re.compile(pattern)
        end = time.monotonic() + timeout
        while True:
            ended = self._connection.why_silent(
                "screen"
            )  # before the look: it shows all that there is
            left = end - time.monotonic()
            match = limited(wanted.search, self.text, wanted.pattern, max(left, GRACE))
            if match:
                return match
            if ended is not None:
                raise ended
            if left <= 0:
                shown = self.text.strip()[-400:]
                raise ExpectTimeout(
                    f"no match for {wanted.pattern!r} within {timeout:g} s; the screen shows {shown!r}"
                )
            time.sleep(min(LOOK, left))

    async def wait_for(self, pattern: str | re.Pattern[str], timeout: float = 5) -> re.Match[str]:
        """`await vm.screen.wait_for("text")`: as `expect`, errors included; other tasks go on."""
        return await waiting.wait_for(self, pattern, timeout)

    # --- the keyboard -----------------------------------------------------------------------------

    def type(self, text: str, timeout: float = 5) -> int:
        """Type `text` on a US keyboard; a line ends with "\\n". Returns how many characters the keyboard
        took: all, unless the guest reads so little that there was no room for them within `timeout` seconds.
        ConfigError, before anything is typed, for a character that is on no key."""
        return self.play([typed(character) for character in text], timeout)

    def press(self, *keys: str, timeout: float = 5) -> int:
        """Press and let go keys, one after the other: `press("ctrl-c", "up", "f1")`. Names are characters,
        what is on the keys, and KeyboardEvent.code values. Returns how many were taken, as `type`."""
        return self.play([chord(key) for key in keys], timeout)

    def strike(self, strikes: list[Strike]) -> int:
        """Keys down and up as they come, as from a real keyboard: what has no room there is lost. Returns how
        many were taken."""
        return self._tell(strikes, wait=False)

    def play(self, chords: list[list[Strike]], timeout: float = 5) -> int:
        """Strike keys, some together each, as the guest takes them; how many of them it took."""
        _ = self.picture  # a machine without a screen has no keyboard
        waiting, end = [one for each in chords for one in each], time.monotonic() + timeout
        total = len(waiting)
        while waiting:
            taken = self._tell(waiting[:PART], wait=True)
            del waiting[:taken]
            if not taken:
                if time.monotonic() >= end:
                    break
                time.sleep(LOOK)
        done, count = total - len(waiting), 0
        for each in chords:
            done -= len(each)
            count += done >= 0
        return count

    def _tell(self, strikes: list[Strike], wait: bool) -> int:
        taken: int = self._connection.tell(KEYBOARD, "keys", [list(one) for one in strikes], wait)
        return taken

    def _repr_html_(self) -> str:
        return self.picture.html()

    def __repr__(self) -> str:
        found = self.last
        return "<Screen: none>" if found is None else f"<Screen {COLUMNS}x{found.shape.rows}>"
