"""Takes back what an abandoned instruction's block still writes to guest memory."""

from __future__ import annotations

from collections.abc import Sequence

from vmlab.core.memory import Region

__all__ = ["Undo"]


class Undo:
    """`note` is called before each store; `apply` restores the bytes in reverse order."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self._regions = regions
        self._noted: list[tuple[memoryview, bytes]] = []

    def note(self, address: int, size: int) -> None:
        for region in self._regions:
            if region.base <= address < region.end:
                at = address - region.base
                target = region.buffer[at : at + size]
                self._noted.append((target, bytes(target)))

    def apply(self) -> None:
        for target, old in reversed(self._noted):
            target[:] = old
        self._noted.clear()
