"""Which interrupt line a window's device gets.

On an x86 PC the lines below 16 are ISA's: edge-triggered, so they have one holder each. Those from 16 up are
level-triggered, and any number of devices may hold one.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmlab.errors import ConfigError

__all__ = ["Lines"]

#: shared lines, the last ones, that are for devices other than virtio. A kernel without a driver for such a
#: device switches its line off when nobody answers it, and would so silence the others that hold it.
APART = 2


class Lines:
    """first to last: lines for one device each. shared: the first and last of those that devices share, given
    out when the others are taken; None: there are none. asked: those that a device can have by asking, beside
    the others."""

    def __init__(
        self,
        first: int,
        last: int,
        shared: tuple[int, int] | None = None,
        asked: tuple[int, int] | None = None,
    ) -> None:
        self.asked = range(asked[0], asked[1] + 1) if asked is not None else range(0)
        self.own = range(first, last + 1)
        self.shared = range(shared[0], shared[1] + 1) if shared is not None else range(0)

    def _pool(self, virtio: bool) -> range:
        return self.shared[:-APART] if virtio else self.shared[-APART:]

    def usual(self, window: int, virtio: bool = True) -> int | None:
        """The line of the window of that number, where each has one of its own number."""
        if window < len(self.own):
            return self.own[window]
        pool = self._pool(virtio)
        return pool[(window - len(self.own)) % len(pool)] if pool else None

    def open(self, line: int, holders: Mapping[int, list[str]], level: bool) -> bool:
        """Whether one more device can have it. level: it drives a level, as a line that is shared needs."""
        return (line in self.shared and level) or (line in self.own and not holders.get(line))

    def free(
        self,
        holders: Mapping[int, list[str]],
        level: bool,
        virtio: bool,
        spared: frozenset[int] = frozenset(),
    ) -> int | None:
        """One for the next device, of those that are not `spared` if it can be; None: all are taken."""
        for wanted in ([line for line in self.own if line not in spared], self.own):
            for line in wanted:
                if not holders.get(line):
                    return line
            if level and (pool := self._pool(virtio)):
                return min(pool, key=lambda line: len(holders.get(line, ())))
        return None

    def check(self, line: int, holders: Mapping[int, list[str]], level: bool) -> None:
        """ConfigError when a device cannot have the line that it is to have."""
        if line not in self.own and line not in self.shared and line not in self.asked:
            there = _words(self.asked) if self.asked else self
            raise ConfigError(f"line {line}: devices have the lines {there}")
        if line in self.asked and (has := holders.get(line)):
            raise ConfigError(f"line {line}: {has[0]!r} has it; each device has one of its own")
        if line in self.own and (has := holders.get(line)):
            more = f"; {_words(self.shared)} can be shared" if self.shared else ""
            raise ConfigError(
                f"line {line} is edge-triggered, for one device, and {has[0]!r} has it{more}"
            )
        if line in self.shared and not level:
            raise ConfigError(
                f"line {line} is level-triggered, and a device without irq_level only pulses: give it one"
                f" of {_words(self.own)}"
            )

    def __str__(self) -> str:
        return " and ".join(_words(part) for part in (self.own, self.shared) if part)


def _words(lines: range) -> str:
    return f"{lines[0]} to {lines[-1]}" if len(lines) > 1 else str(lines[0])
