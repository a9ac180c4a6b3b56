"""A PC's keyboard, behind its controller (IBM Personal System/2 Technical Reference, "Keyboards (101- and
102-Key)", cited by heading): commands, answers, and a buffer of scan codes.

It sends set 2, or set 1 when it is told to; set 3 is refused.
"""

from __future__ import annotations

from collections import deque

from vmlab.devices.pc.scan_codes import BREAK, KEYS, RELEASED, TRANSLATION

__all__ = ["Keyboard"]

#: bytes that its buffer holds ("Keyboard Buffer"); the last is for OVERRUN
BUFFER = 16
#: scan codes have been lost: in set 2, which set 1 has as 0xff
OVERRUN = 0x00
#: marks the first code of a key in the buffer
_BEGINS = 0x100
ACK, RESEND, ECHO, TEST_PASSED = 0xFA, 0xFE, 0xEE, 0xAA
ID = (0xAB, 0x83)
SET_LEDS, SET_SCAN_CODES, SET_RATE = 0xED, 0xF0, 0xF3
#: 10.9 characters a second after half a second
DEFAULT_RATE = 0x2B


class Keyboard:
    """`answers` go before `codes`. leds: bits of scroll, num and caps lock."""

    def __init__(self) -> None:
        self.answers: deque[int] = deque()
        self.codes: deque[int] = deque()
        self.leds = 0
        self._last = 0
        self._argument_of = 0
        self._restore()

    def _restore(self) -> None:
        """As after power-on, but for the LEDs."""
        self.codes.clear()
        self.scanning = True
        self.set = 2
        self.rate = DEFAULT_RATE

    # --- towards the controller -----------------------------------------------------------------

    def take(self) -> int | None:
        """The next byte that it sends; None: it has none."""
        queue = self.answers or self.codes
        if queue:
            self._last = queue.popleft() & ~_BEGINS
            return self._last
        return None

    @property
    def begins(self) -> bool:
        """Whether the next scan code is the first of its key."""
        return bool(self.codes and self.codes[0] & _BEGINS)

    def _answer(self, *values: int) -> None:
        """A guest that never reads fills no memory: what has no room is lost."""
        self.answers.extend(values[: BUFFER - len(self.answers)])

    # --- keys -----------------------------------------------------------------------------------

    def strike(self, name: str, down: bool, wait: bool) -> bool:
        """A key goes down or up; whether it had room. wait: one that has none may come again, and is not
        lost with an overrun code."""
        if not self.scanning:
            return True
        codes = KEYS[name][0 if down else 1]
        if self.set == 1:
            codes = bytes(_translated(codes))
        if len(self.codes) + len(codes) < BUFFER:
            self.codes.extend(codes)
            if codes:
                self.codes[-len(codes)] |= _BEGINS
            return True
        if not wait and len(self.codes) < BUFFER:
            self.codes.append(OVERRUN if self.set == 2 else TRANSLATION[OVERRUN])
        return False

    # --- from the system ("Commands from the System") ---------------------------------------------

    def write(self, value: int) -> None:
        argument_of, self._argument_of = self._argument_of, 0
        if argument_of == SET_LEDS:
            self.leds = value & 7
            self._answer(ACK)
        elif argument_of == SET_RATE:
            self.rate = value & 0x7F
            self._answer(ACK)
        elif argument_of == SET_SCAN_CODES:
            self._select(value)
        else:
            self._command(value)

    def _select(self, number: int) -> None:
        if number == 0:
            self._answer(ACK, self.set)
        elif number in (1, 2):
            self.set = number
            self.codes.clear()
            self._answer(ACK)
        else:
            self._answer(RESEND)

    def _command(self, command: int) -> None:
        if command in (SET_LEDS, SET_RATE, SET_SCAN_CODES):
            self._argument_of = command
            self._answer(ACK)
        elif command == ECHO:
            self._answer(ECHO)
        elif command == 0xF2:
            self._answer(ACK, *ID)
        elif command == 0xF4:
            self.codes.clear()
            self.scanning = True
            self._answer(ACK)
        elif command in (0xF5, 0xF6):  # defaults, and with or without scanning
            self._restore()
            self.scanning = command == 0xF6
            self._answer(ACK)
        elif command == RESEND:
            self._answer(self._last)
        elif command == 0xFF:
            self.answers.clear()
            self._restore()
            self.leds = 0
            self._answer(ACK, TEST_PASSED)
        else:
            self._answer(RESEND)


def _translated(codes: bytes) -> list[int]:
    """Set 2 as set 1."""
    found, released = list[int](), 0
    for code in codes:
        if code == BREAK:
            released = RELEASED
        else:
            found.append(TRANSLATION[code] | released)
            released = 0
    return found
