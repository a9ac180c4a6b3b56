"""How much a device may do in a second."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """A bucket that fills with `rate` units a second, up to a second's worth.

    One request may overdraw it; the next then waits. Times are the machine's, in nanoseconds."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._left = float(rate or 0)
        self._then: int | None = None

    def spend(self, units: int, now: int) -> None:
        if self._rate is not None:
            self._fill(now)
            self._left -= units

    def wait(self, now: int) -> float:
        """Seconds until the next request may begin; 0: now."""
        if self._rate is None:
            return 0.0
        self._fill(now)
        return 0.0 if self._left >= 1 else (1 - self._left) / self._rate

    def allowance(self, now: int) -> int | None:
        """Units that would not overdraw it, one at least; None: there is no limit."""
        if self._rate is None:
            return None
        self._fill(now)
        return max(int(self._left), 1)

    def _fill(self, now: int) -> None:
        assert self._rate is not None
        if self._then is not None:
            passed = max(now - self._then, 0) / 1e9
            self._left = min(self._left + passed * self._rate, self._rate)
        self._then = now
