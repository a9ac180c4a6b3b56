"""Guests of these tests: assembly and the words it makes (`test_guests` compares the two)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CODE", "GUESTS", "Guest"]

#: where code is linked: the beginning of RAM
CODE = 0x8000_0000
GUESTS: list[Guest] = []


@dataclass(frozen=True)
class Guest:
    """`text` is GNU as; `words` what it assembles to at CODE: the bytes of an instruction each, in hex, or
    those and how often they follow."""

    text: str
    words: str

    def __post_init__(self) -> None:
        GUESTS.append(self)

    @property
    def code(self) -> bytes:
        parts = (word.partition("*") for word in self.words.split())
        return b"".join(bytes.fromhex(word) * int(count or 1) for word, _, count in parts)
