"""Guests of these tests: assembly and the words it makes (`test_guests` compares the two)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CODE", "GUESTS", "Guest"]

#: where code is linked: the beginning of RAM
CODE = 0x8000_0000
GUESTS: list[Guest] = []


@dataclass(frozen=True)
class Guest:
    """`text` is GNU as for RV64 (rv64imac, not relaxed); `code_text` what it assembles to at CODE, in hex."""

    text: str
    code_text: str

    def __post_init__(self) -> None:
        GUESTS.append(self)

    @property
    def code(self) -> bytes:
        return bytes.fromhex(self.code_text)
