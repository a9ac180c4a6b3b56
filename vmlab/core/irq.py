"""Interrupt lines as a device sees them."""

from __future__ import annotations

from typing import Protocol

from vmlab.core.counters import DELIVERED, LEVEL, LINES, RAISED, UNKNOWN, CounterPage

__all__ = ["IrqLine", "LineSink"]


class LineSink(Protocol):
    """What an engine gives for a line (`engine.api.IrqSink`)."""

    def set(self, level: bool) -> bool | None: ...
    def pulse(self) -> bool | None: ...
    def close(self) -> None: ...


class IrqLine:
    """A level that a device drives. Without a sink it only remembers and counts.

    `raised` counts low-to-high changes and pulses; `delivered` those that the interrupt controllers
    took, where the engine can tell.
    """

    def __init__(
        self,
        number: int | None = None,
        sink: LineSink | None = None,
        page: CounterPage | None = None,
    ) -> None:
        self.number = number
        self.level = False
        self._sink = sink
        #: raised, delivered, level; of a line that no page counts, words of its own
        if page is not None and number is not None and 0 <= number < LINES:
            self._words = page.words
            self._raised, self._delivered = RAISED + number, DELIVERED + number
            self._now = LEVEL + number
        else:
            self._words = memoryview(bytearray(24)).cast("Q")
            self._raised, self._delivered, self._now = 0, 1, 2

    @property
    def raised(self) -> int:
        return self._words[self._raised]

    @property
    def delivered(self) -> int | None:
        """None: the engine cannot tell."""
        count = self._words[self._delivered]
        return None if count == UNKNOWN else count

    def _count(self, taken: bool | None) -> None:
        if taken is None:
            self._words[self._delivered] = UNKNOWN
        elif taken and self._words[self._delivered] != UNKNOWN:
            self._words[self._delivered] += 1

    def set(self, level: bool) -> None:
        """Drive the line; nothing happens when it is at that level already."""
        if level is self.level:
            return
        self.level = level
        self._words[self._now] = level
        if level:
            self._words[self._raised] += 1
        if self._sink is not None:
            taken = self._sink.set(level)
            if level:
                self._count(taken)

    def pulse(self) -> None:
        """One edge: up and down again."""
        self._words[self._raised] += 1
        if self._sink is not None:
            self._count(self._sink.pulse())

    def close(self) -> None:
        """Drop the line and let the engine forget it."""
        sink, self._sink = self._sink, None
        self.level = False
        self._words[self._now] = 0
        if sink is not None:
            sink.close()
