"""Rates of counters for eyes: over the last second, in two digits, with a short past for a sparkline."""

from __future__ import annotations

from collections import deque

__all__ = ["BARS", "Meter", "two_digits"]

#: seconds over which a rate is taken
WINDOW = 1.0
#: seconds of one bar of the past, and how many bars
BAR, BARS = 0.5, 30


def two_digits(rate: float) -> float:
    """Rounded to two significant digits; so steady rates make no change."""
    if rate < 0.05:
        return 0.0
    number = float(f"{rate:.2g}")
    return int(number) if number >= 10 else round(number, 1)


class Meter:
    """Feed it a count at every look."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.bars: deque[float] = deque([0.0] * BARS, maxlen=BARS)
        self._seen: deque[tuple[float, int]] = deque()
        self._bar: tuple[int, int] | None = None

    def take(self, now: float, count: int, before: float) -> None:
        """before: when the last look was, whether or not this meter was told of it."""
        seen = self._seen
        if seen and count < seen[-1][1]:
            seen.clear()  # replaced, or reset: it counts from zero again
            self._bar = None
        if seen and before > seen[-1][0]:
            # nothing had changed up to the last look
            seen.append((before, seen[-1][1]))
            self._take_bar(*seen[-1])
        seen.append((now, count))
        # one from before the window says how it began, unless it is much older
        while len(seen) > 2 and (seen[1][0] <= now - WINDOW or seen[0][0] < now - 1.5 * WINDOW):
            seen.popleft()
        passed = now - seen[0][0]
        # the first moments are no rate yet: one access in a millisecond is not 1,000 a second
        self.rate = two_digits((count - seen[0][1]) / max(passed, WINDOW / 2)) if passed else 0.0
        self._take_bar(now, count)

    def halt(self) -> None:
        """Nothing happens any more: what was a rate a moment ago is none. The past stays."""
        self.rate = 0.0
        while len(self._seen) > 1:
            self._seen.popleft()

    def _take_bar(self, now: float, count: int) -> None:
        slot = int(now / BAR)
        if self._bar is None:
            self._bar = (slot, count)
        elif slot > self._bar[0]:
            slots = min(slot - self._bar[0], BARS)
            each = two_digits((count - self._bar[1]) / (slots * BAR))
            self.bars.extend([each] * slots)
            self._bar = (slot, count)

    @property
    def quiet(self) -> bool:
        """Whether a look without a change would change nothing here."""
        return self.rate == 0 and not any(self.bars) and self._settled

    @property
    def _settled(self) -> bool:
        return self._bar is None or not self._seen or self._seen[-1][1] == self._bar[1]
