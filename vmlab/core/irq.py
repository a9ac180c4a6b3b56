"""Interrupt lines as a device sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
        #: a sink may have `again`: it takes each request for a new one, though the line is up
        self._again: Callable[[], object] | None = getattr(sink, "again", None)
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

    @property
    def connected(self) -> bool:
        """Whether an engine hears it."""
        return self._sink is not None

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
        sink = self._sink
        if sink is not None:
            taken = sink.set(level)
            if level:
                self._count(taken)

    def tap(self, rises: Callable[[], None] | None) -> None:
        """Call `rises()` before each rising edge or pulse reaches the engine; None: no more."""
        self._listen(rises, self._sink.seen if isinstance(self._sink, _Tap) else None)

    def watch(self, seen: Callable[[str, bool], None] | None) -> None:
        """Call `seen(what, pulse)` with "raise" and "lower" before the engine hears of it, and with "deliver"
        when its controllers took it; None: no more."""
        self._listen(self._sink.rises if isinstance(self._sink, _Tap) else None, seen)

    def _listen(
        self, rises: Callable[[], None] | None, seen: Callable[[str, bool], None] | None
    ) -> None:
        sink = self._sink
        if isinstance(sink, _Tap):
            sink = sink.sink
        if sink is not None:
            self._sink = _Tap(sink, rises, seen) if rises or seen else sink

    def signal(self, level: bool) -> None:
        """As `set`, for something new that no access of the guest's has caused."""
        if level and self.level and self._again is not None:
            self._again()
        else:
            self.set(level)

    def pulse(self) -> None:
        """One edge: up and down again."""
        self._words[self._raised] += 1
        sink = self._sink
        if sink is not None:
            self._count(sink.pulse())

    def renew(self) -> None:
        """Something is left to do when the guest has acknowledged what it knew of. A controller that looks
        for edges would not see a line that just stays up: down, and up again."""
        self.set(False)
        self.set(True)

    def close(self) -> None:
        """Drop the line and let the engine forget it. A thread of the device's that is late drives nothing
        any more, and counts where nobody looks."""
        sink, self._sink, self._again = self._sink, None, None
        words, self._words = self._words, memoryview(bytearray(8 * (self._now + 1))).cast("Q")
        for kept in (self._raised, self._delivered):
            self._words[kept] = words[kept]
        words[self._now] = 0
        self.level = False
        if sink is not None:
            sink.close()


class _Tap:
    """A sink with somebody who listens."""

    def __init__(
        self,
        sink: LineSink,
        rises: Callable[[], None] | None,
        seen: Callable[[str, bool], None] | None,
    ) -> None:
        self.sink, self.rises, self.seen = sink, rises, seen
        self.close = sink.close

    def set(self, level: bool) -> bool | None:
        if level and self.rises is not None:
            self.rises()
        seen = self.seen
        if seen is None:
            return self.sink.set(level)
        seen("raise" if level else "lower", False)
        taken = self.sink.set(level)
        if level and taken:
            seen("deliver", False)
        return taken

    def pulse(self) -> bool | None:
        if self.rises is not None:
            self.rises()
        seen = self.seen
        if seen is None:
            return self.sink.pulse()
        seen("raise", True)
        taken = self.sink.pulse()
        if taken:
            seen("deliver", True)
        seen("lower", True)
        return taken


class SharedLine:
    """A level-triggered line that several devices hold: it is up while any of them drives it up.

    Counts are the line's: a device that raises it while it is up adds nothing.
    """

    def __init__(self, line: IrqLine) -> None:
        self._line = line
        # devices drive it under locks of their own
        self._lock = threading.Lock()
        self._up: set[int] = set()
        self._holders: set[int] = set()

    def hold(self) -> IrqLine:
        """The line as one more device sees it."""
        held = _Held(self, self._line)
        with self._lock:
            self._holders.add(id(held))
        return held

    @property
    def held(self) -> bool:
        return bool(self._holders)

    def drive(self, holder: int, level: bool) -> None:
        with self._lock:
            if holder in self._holders:  # a thread of a device that has left may be late
                (self._up.add if level else self._up.discard)(holder)
                self._line.set(bool(self._up))

    def pulse(self, holder: int) -> None:
        with self._lock:
            if holder in self._holders:
                self._line.set(True)
                self._line.set(bool(self._up))

    def leave(self, holder: int) -> None:
        with self._lock:
            self._up.discard(holder)
            self._holders.discard(holder)
            self._line.set(bool(self._up))
            if not self._holders:
                self._line.close()


class _Held(IrqLine):
    """One device's end of a shared line. `level` is what this device drives."""

    def __init__(self, shared: SharedLine, line: IrqLine) -> None:
        self.number, self.level = line.number, False
        self._again = line._again
        self._shared: SharedLine | None = shared
        self._words = line._words
        self._raised, self._delivered, self._now = line._raised, line._delivered, line._now

    def set(self, level: bool) -> None:
        shared = self._shared
        if level is not self.level and shared is not None:
            self.level = level
            shared.drive(id(self), level)

    def pulse(self) -> None:
        shared = self._shared
        if shared is not None:
            shared.pulse(id(self))

    def close(self) -> None:
        shared, self._shared = self._shared, None
        self.level = False
        if shared is not None:
            shared.leave(id(self))
