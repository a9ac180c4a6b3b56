"""Rates from counters: what live views show between two looks."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from vmlab.machine.config import ENDED
from vmlab.vm.inspection import Inspection
from vmlab.vm.views import Traps

__all__ = ["Sample", "Sampler", "show_rate", "sparkline"]

_BARS = " ▁▂▃▄▅▆▇█"


class Sample(NamedTuple):
    """One look. rates: traps a second by device id; total: of all of them together; exits: how often
    a second vCPUs left the guest."""

    traps: Traps
    rates: dict[str, float]
    total: float
    exits: float


class Sampler:
    """Looks at a machine's counters; `history` has each device's last rates, oldest first."""

    def __init__(self, inspection: Inspection, keep: int = 12) -> None:
        self._inspection, self._connection = inspection, inspection.connection
        self.keep = keep
        self._before: dict[str, int] = {}
        self._unmapped = self._exits = 0
        self._time = time.monotonic()
        self.history: dict[str, deque[float]] = {}

    def sample(self) -> Sample:
        now, traps = time.monotonic(), self._inspection.traps
        passed = max(now - self._time, 1e-3)
        rates = {}
        for id, counts in traps.items():
            # a device that was replaced counts from zero again
            new = max(counts.traps - self._before.get(id, 0), 0)
            rates[id] = new / passed
            self.history.setdefault(id, deque(maxlen=self.keep)).append(rates[id])
        unmapped = sum(traps.unmapped)
        total = sum(rates.values()) + (unmapped - self._unmapped) / passed
        exits = self._connection.observation.exit_count
        exit_rate = max(exits - self._exits, 0) / passed
        for gone in self.history.keys() - traps.keys():
            del self.history[gone]
        self._before = {id: counts.traps for id, counts in traps.items()}
        self._unmapped, self._exits, self._time = unmapped, exits, now
        if self._connection.state in ENDED:
            # what happened since the last look was before the end
            return Sample(traps, dict.fromkeys(rates, 0.0), 0.0, 0.0)
        return Sample(traps, rates, total, exit_rate)


def show_rate(rate: float) -> str:
    """Two digits: 0, 7, 42, 950, 1.2k, 38k, 1.1M."""
    for step, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= step:
            scaled = rate / step
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{rate:.0f}" if rate >= 1 or rate == 0 else f"{rate:.1f}"


def sparkline(values: deque[float] | list[float]) -> str:
    """A bar a value, the highest full."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BARS[0] * len(values)
    last = len(_BARS) - 1
    return "".join(
        _BARS[0 if value <= 0 else max(1, round(value / top * last))] for value in values
    )
