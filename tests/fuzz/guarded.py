"""Guest memory between two guard zones: what a device writes outside of RAM shows."""

from __future__ import annotations

import mmap
import random

from vmlab.core.memory import GuestMemory

__all__ = ["Guarded"]

GUARD = 0x1_0000


class Guarded:
    """Two regions of RAM with a hole between them, in the middle of a larger mapping."""

    def __init__(self, low: int = 0x8_0000, high: int = 0x1_0000) -> None:
        self._pattern = random.Random(0).randbytes(GUARD)
        self._size = low + high
        self._whole = memoryview(mmap.mmap(-1, 2 * GUARD + self._size))
        self._whole[:GUARD] = self._pattern
        self._whole[GUARD + self._size :] = self._pattern
        inside = self._whole[GUARD : GUARD + self._size]
        self.memory = GuestMemory(inside, [(0, low), (1 << 32, high)])  # type: ignore[arg-type]

    def check(self) -> None:
        assert self._whole[:GUARD] == self._pattern, "bytes before guest RAM were written"
        after = self._whole[GUARD + self._size :]
        assert after == self._pattern, "bytes behind guest RAM were written"
