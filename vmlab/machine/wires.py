"""The interrupt lines between devices and an engine."""

from __future__ import annotations

import functools
from collections.abc import Callable

from vmlab.core.counters import CounterPage
from vmlab.core.irq import IrqLine, SharedLine
from vmlab.core.lines import Lines
from vmlab.engine.api import Engine
from vmlab.errors import ConfigError
from vmlab.virtio.window import MmioWindow

__all__ = ["Wires", "drives_level"]


class Wires:
    """Gives devices their ends of lines; those of `lines.shared` are one wire for all that hold it."""

    def __init__(self, engine: Engine, page: CounterPage, lines: Lines) -> None:
        self._engine, self._page, self._lines = engine, page, lines
        self._shared: dict[int, SharedLine] = {}
        #: what was wired, and who is told of the rising edges of which line
        self._wired: list[IrqLine] = []
        self._taps: dict[int, Callable[[], None]] = {}
        #: told of (line, what, pulse), as `IrqLine.watch` says
        self._seen: Callable[[int, str, bool], None] | None = None

    def line(self, number: int | None) -> IrqLine:
        """A new end; closing it gives it back."""
        if number is None:
            return IrqLine(None, None, self._page)
        if number not in self._lines.shared:
            return self._wire(number)
        found = self._shared.get(number)
        if found is None or not found.held:
            found = self._shared[number] = SharedLine(self._wire(number))
        return found.hold()

    def _wire(self, number: int) -> IrqLine:
        line = IrqLine(number, self._engine.irq_sink(number), self._page)
        self._wired = [*(one for one in self._wired if one.connected), line]
        if number in self._taps:
            line.tap(self._taps[number])
        self._watch(line)
        return line

    def watch(self, seen: Callable[[int, str, bool], None] | None) -> None:
        """Tell of each edge of every line, as `IrqLine.watch` does; None: no more."""
        self._seen = seen
        for line in self._wired:
            self._watch(line)

    def _watch(self, line: IrqLine) -> None:
        seen = self._seen
        number = line.number
        if seen is None or number is None:
            line.watch(None)
        else:
            line.watch(functools.partial(seen, number))

    def tap(self, number: int, rises: Callable[[], None] | None) -> None:
        """Tell of the line's rising edges, whoever holds it; None: no more."""
        if rises is None:
            self._taps.pop(number, None)
        else:
            self._taps[number] = rises
        for line in self._wired:
            if line.number == number:
                line.tap(rises)

    def check(self, number: int, fixed: dict[int, str]) -> None:
        """ConfigError where the line is one of the machine's own devices'."""
        if number in fixed:
            raise ConfigError(
                f"line {number} belongs to {fixed[number]!r}, part of the machine; devices have the lines"
                f" {self._lines}{', and by asking others that nobody has' if self._lines.asked else ''}"
            )


def drives_level(device: object) -> bool:
    """Whether the device holds its line up until it is served, as one that shares it must."""
    return isinstance(device, MmioWindow) or hasattr(device, "irq_level")
