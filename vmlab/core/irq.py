"""Interrupt lines as a device sees them."""

from __future__ import annotations

import threading
from typing import Protocol

from vmlab.core.counters import DELIVERED, LEVEL, LINES, RAISED, UNKNOWN, CounterPage

__all__ = ["IrqLine", "LineSink", "SharedLine"]


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

    def renew(self) -> None:
        """Something is left to do when the guest has acknowledged what it knew of. A controller that looks
        for edges would not see a line that just stays up: down, and up again."""
        self.set(False)
        self.set(True)

    def close(self) -> None:
        """Drop the line and let the engine forget it."""
        sink, self._sink = self._sink, None
        self.level = False
        self._words[self._now] = 0
        if sink is not None:
            sink.close()


class SharedLine:
    """A level-triggered line that several devices hold: it is up while any of them drives it up.

    Counts are the line's: a device that raises it while it is up adds nothing.
    """

    def __init__(self, line: IrqLine) -> None:
        self._line = line
        # devices drive it under locks of their own
        self._lock = threading.Lock()
        self._up: set[int] = set()
        self._holders = 0

    def hold(self) -> IrqLine:
        """The line as one more device sees it."""
        with self._lock:
            self._holders += 1
        return _Held(self, self._line)

    @property
    def held(self) -> bool:
        return self._holders > 0

    def drive(self, holder: int, level: bool) -> None:
        with self._lock:
            (self._up.add if level else self._up.discard)(holder)
            self._line.set(bool(self._up))

    def pulse(self) -> None:
        with self._lock:
            self._line.set(True)
            self._line.set(bool(self._up))

    def leave(self, holder: int) -> None:
        with self._lock:
            self._up.discard(holder)
            self._holders -= 1
            self._line.set(bool(self._up))
            if not self._holders:
                self._line.close()


class _Held(IrqLine):
    """One device's end of a shared line. `level` is what this device drives."""

    def __init__(self, shared: SharedLine, line: IrqLine) -> None:
        self.number, self.level = line.number, False
        self._shared: SharedLine | None = shared
        self._words = line._words
        self._raised, self._delivered, self._now = line._raised, line._delivered, line._now

    def set(self, level: bool) -> None:
        if level is not self.level and self._shared is not None:
            self.level = level
            self._shared.drive(id(self), level)

    def pulse(self) -> None:
        if self._shared is not None:
            self._shared.pulse()

    def close(self) -> None:
        shared, self._shared = self._shared, None
        self.level = False
        if shared is not None:
            shared.leave(id(self))
