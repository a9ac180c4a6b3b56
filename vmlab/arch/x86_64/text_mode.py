"""The PC's text screen: where its cells lie, what its registers make of them, and how they look.

A cell is two bytes in guest memory, a character of code page 437 and its attribute: the colour in bits 0 to
3, the background in bits 4 to 7 (IBM VGA Technical Reference, 1992, "Alphanumeric modes"; nothing blinks).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["BLANK", "CELLS", "COLUMNS", "CP437", "KEYBOARD", "MEMORY", "MEMORY_SIZE", "NO_SCREEN"]
__all__ += ["PALETTE", "Shape"]

MEMORY, MEMORY_SIZE = 0xB_8000, 0x8000
COLUMNS = 80
CELLS = MEMORY_SIZE // 2
#: what firmware leaves in each cell: a space, light grey on black
BLANK = b" \x07"
#: lines of the picture; a character is 16 of them high, or 8
_SCAN_LINES = 400

#: the characters 0 to 31 and 127 as a screen shows them (Python's codec has them as controls)
_LOW = "\0☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼".replace("\0", " ")
CP437 = "".join(
    _LOW[code] if code < 32 else "⌂" if code == 127 else bytes([code]).decode("cp437")
    for code in range(256)
).replace("\xa0", " ")

#: the id of the device that has the keyboard, on the boards that have a screen
KEYBOARD = "i8042"
NO_SCREEN = (
    "this machine has no text screen: a PC (x86_64) has one when its kernel is multiboot or a plain 64-bit"
    " ELF file, or is asked for it by VM(..., screen=True)"
)

#: red, green, blue of the sixteen colours
PALETTE = (
    *("#000000", "#0000aa", "#00aa00", "#00aaaa", "#aa0000", "#aa00aa", "#aa5500", "#aaaaaa"),
    *("#555555", "#5555ff", "#55ff55", "#55ffff", "#ff5555", "#ff55ff", "#ffff55", "#ffffff"),
)

_PACKED = struct.Struct("<HHBBBB")
_THERE = 0x80


class Shape(NamedTuple):
    """What the registers say. start, cursor: in cells, of 16 bits; cursor_start, cursor_end: scan lines of
    the cursor in its cell, bit 5 of the first switches it off; height: Maximum Scan Line."""

    start: int = 0
    cursor: int = 0
    cursor_start: int = 0x0D
    cursor_end: int = 0x0E
    height: int = 0x4F

    @property
    def packed(self) -> int:
        """One word, which is never 0."""
        packed = _PACKED.pack(*self, _THERE)
        return int.from_bytes(packed, "little")

    @classmethod
    def unpacked(cls, word: int) -> Shape | None:
        """None: there is no screen."""
        *fields, there = _PACKED.unpack((word & (1 << 64) - 1).to_bytes(8, "little"))
        return cls(*fields) if there & _THERE else None

    @property
    def rows(self) -> int:
        """25, or 50 with characters of 8 lines or fewer."""
        return _SCAN_LINES // (16 if (self.height & 0x1F) >= 8 else 8)

    @property
    def place(self) -> tuple[int, int] | None:
        """(row, column) of the cursor; None: it is on no line of the screen."""
        at = (self.cursor - self.start) % CELLS
        return divmod(at, COLUMNS) if at < self.rows * COLUMNS else None

    @property
    def cursor_on(self) -> bool:
        """Whether it is switched on, and has a line at all."""
        off = self.cursor_start & 0x20
        return not off and (self.cursor_start & 0x1F) <= (self.cursor_end & 0x1F)

    def cells(self, memory: bytes | memoryview) -> bytes:
        """The cells on the screen, row by row, of the 32 KiB at MEMORY: where those end they begin again."""
        first = self.start % CELLS * 2
        size = self.rows * COLUMNS * 2
        shown = bytes(memory[first : first + size])
        return shown + bytes(memory[: size - len(shown)])
