"""Packets: `$data#checksum`, acknowledged by + or -; 0x03 between them is Ctrl-C (GDB manual, E.1)."""

from __future__ import annotations

from enum import Enum

__all__ = ["PACKET_SIZE", "Framer", "Signal", "encode", "escape", "unescape"]

#: bytes between $ and #, as qSupported tells
PACKET_SIZE = 0x4000
_ESCAPE, _FLIP = 0x7D, 0x20
_SPECIAL = b"#$}*"


class Signal(Enum):
    """What comes beside packets."""

    INTERRUPT = "interrupt"
    #: a packet that does not match its checksum, or is too long: it is to be sent again
    BAD = "bad"
    #: the other side wants the last packet again
    AGAIN = "again"


class _Where(Enum):
    OUTSIDE = 0
    INSIDE = 1
    FIRST_DIGIT = 2
    SECOND_DIGIT = 3


class Framer:
    """Bytes in any portions -> packets. Keeps PACKET_SIZE bytes at most, whatever comes."""

    def __init__(self) -> None:
        self._where = _Where.OUTSIDE
        self._data = bytearray()
        self._sum = 0
        self._too_long = False
        self._digits = b""

    def feed(self, data: bytes) -> list[bytes | Signal]:
        """The packets that are whole now, unescaped no further than the checksum wants."""
        found: list[bytes | Signal] = []
        for byte in data:
            self._take(byte, found)
        return found

    def _take(self, byte: int, found: list[bytes | Signal]) -> None:
        if self._where is _Where.OUTSIDE:
            if byte == ord("$"):
                self._begin()
            elif byte == 3:
                found.append(Signal.INTERRUPT)
            elif byte == ord("-"):
                found.append(Signal.AGAIN)
        elif self._where is _Where.INSIDE:
            if byte == ord("$"):
                self._begin()  # the packet before was cut short
            elif byte == ord("#"):
                self._where = _Where.FIRST_DIGIT
            elif len(self._data) < PACKET_SIZE:
                self._data.append(byte)
                self._sum += byte
            else:
                self._too_long = True
        elif self._where is _Where.FIRST_DIGIT:
            self._digits, self._where = bytes((byte,)), _Where.SECOND_DIGIT
        else:
            self._where = _Where.OUTSIDE
            found.append(self._whole(self._digits + bytes((byte,))))

    def _begin(self) -> None:
        self._where, self._sum, self._too_long = _Where.INSIDE, 0, False
        self._data.clear()

    def _whole(self, digits: bytes) -> bytes | Signal:
        try:
            right = int(digits, 16) == self._sum & 0xFF and not self._too_long
        except ValueError:
            right = False
        return bytes(self._data) if right else Signal.BAD


def encode(data: bytes) -> bytes:
    """`data`, which is escaped where it must be."""
    return b"$%s#%02x" % (data, sum(data) & 0xFF)


def escape(data: bytes) -> bytes:
    """Binary data, as packets carry it."""
    made = bytearray()
    for byte in data:
        made += bytes((_ESCAPE, byte ^ _FLIP)) if byte in _SPECIAL else bytes((byte,))
    return bytes(made)


def unescape(data: bytes) -> bytes:
    made, flip = bytearray(), 0
    for byte in data:
        if byte == _ESCAPE and not flip:
            flip = _FLIP
        else:
            made.append(byte ^ flip)
            flip = 0
    return bytes(made)
