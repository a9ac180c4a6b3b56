"""The guests of these tests: assembly and the bytes it makes (`test_guests` compares the two).

Code is linked at 0x100000 (CODE) unless it says otherwise. In long mode the common start loads the IDT
and the TSS of `lab`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GUESTS", "START", "Guest"]

GUESTS: list[Guest] = []


@dataclass(frozen=True)
class Guest:
    """`text` is GNU as, Intel syntax; `hex` what it assembles to at `origin`."""

    text: str
    hex: str
    bits: int = 64
    origin: int = 0x100000

    def __post_init__(self) -> None:
        GUESTS.append(self)

    @property
    def code(self) -> bytes:
        return bytes.fromhex(self.hex)


START = """
    lidt [0x7000]
    mov ax, 0x30
    ltr ax
"""
