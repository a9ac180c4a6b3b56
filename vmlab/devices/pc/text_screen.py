"""The PC's text screen, as far as text needs a VGA: the CRT controller's registers for the start of the
picture, the cursor and the height of a character, and the status that tells of retraces.

Source: IBM VGA Technical Reference (1992), "CRT Controller Registers" and "Input Status Register One"; cited
by the registers' names there. Offsets follow the ports: INDEX is port 0x3d4, its data port 0x3d5, STATUS port
0x3da. What else a VGA has (graphics, palettes, fonts) is absent: it reads all ones.

The cells are plain guest memory (`arch.x86_64.text_mode`), so a guest writes them without a trap.
"""

from __future__ import annotations

from vmlab.arch.x86_64.text_mode import Shape
from vmlab.core.device import Device, on_read, on_write
from vmlab.regs import Register, Registers, bit, bits, ro, rw

__all__ = ["TextScreen"]

#: STATUS at each further read: a guest that waits for a retrace, or for its end, goes on at once
_PHASES = (0x00, 0x01, 0x09, 0x09)


def _crtc(index: int, doc: str, reset: int, spec: str, **fields: object) -> Register:
    return rw(1, doc, 8, when=("INDEX", 0xFF, index), reset=reset, spec=spec, **fields)


class TextScreen(Device):
    """shown: a word of memory that holds `Shape.packed`, for whoever looks at the screen; None: nobody."""

    type = "text-screen"
    size = 7
    wants_irq = False
    reserved = (1 << 64) - 1

    class regs(Registers):
        INDEX = rw(0, "which register of the CRT controller the next byte is", 8)
        MAX_SCAN_LINE = _crtc(
            0x09,
            "height of a character",
            Shape().height,
            "Maximum Scan Line",
            MSL=bits(0, 5, "its scan lines but one: 15 makes 25 rows, 7 makes 50"),
        )
        CURSOR_START = _crtc(
            0x0A,
            "the cursor's first scan line",
            Shape().cursor_start,
            "Cursor Start",
            LINE=bits(0, 5, "the line"),
            OFF=bit(5, "no cursor"),
        )
        CURSOR_END = _crtc(
            0x0B,
            "the cursor's last scan line; one before the first: no cursor",
            Shape().cursor_end,
            "Cursor End",
            LINE=bits(0, 5, "the line"),
        )
        START_HIGH = _crtc(
            0x0C, "the cell in the upper left corner, upper half", 0, "Start Address High"
        )
        START_LOW = _crtc(0x0D, "its lower half", 0, "Start Address Low")
        CURSOR_HIGH = _crtc(0x0E, "the cursor's cell, upper half", 0, "Cursor Location High")
        CURSOR_LOW = _crtc(0x0F, "its lower half", 0, "Cursor Location Low")
        STATUS = ro(
            6,
            "input status: goes through a frame, a step each read",
            8,
            spec="Input Status Register One",
            DE=bit(0, "between two lines or two frames"),
            VR=bit(3, "vertical retrace"),
        )

    def __init__(self, shown: memoryview | None = None) -> None:
        self._shown = shown
        self._phase = 0
        self._show()

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._phase = 0
            self._show()

    @property
    def shape(self) -> Shape:
        r = self.r
        return Shape(
            *(r.START_HIGH << 8 | r.START_LOW, r.CURSOR_HIGH << 8 | r.CURSOR_LOW),
            *(r.CURSOR_START, r.CURSOR_END, r.MAX_SCAN_LINE),
        )

    @on_write(
        *("MAX_SCAN_LINE", "CURSOR_START", "CURSOR_END"),
        *("START_HIGH", "START_LOW", "CURSOR_HIGH", "CURSOR_LOW"),
    )
    def _changed(self, value: int) -> None:
        self._show()

    def _show(self) -> None:
        if self._shown is not None:
            self._shown[0] = self.shape.packed

    @on_read("STATUS")
    def _status(self) -> int:
        self._phase = (self._phase + 1) % len(_PHASES)
        return _PHASES[self._phase]
