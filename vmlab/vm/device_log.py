"""`vm.log`: what devices printed, what guests did wrong, what failed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, overload

from msgspec import Struct

__all__ = ["DeviceLog", "LogEntry", "Spout", "entry_of"]

#: entries that are kept, and characters of each: a device that prints without end fills no memory
KEPT, TEXT = 2000, 8192
#: entries that `repr` shows, and characters of a line of theirs
SHOWN, WIDTH = 40, 100
#: lines and characters that a notebook's cell is given at once, and each second from then on
BURST, LINES = (5000, 2 << 20), (500, 200_000)


class LogEntry(Struct, frozen=True):
    """time: seconds since the VM's machine was first built. device: its id, or "" where nobody can tell.
    kind: "print", "mistake" (what a guest did that the data sheet forbids) or "fault"."""

    time: float
    device: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.time:9.3f}  {self.device:<10} {self.kind:<8} {self.text}"


class DeviceLog(Sequence[LogEntry]):
    """The last 2,000 entries, oldest first; it prints as a table. `total` counts all there have been."""

    def __init__(self, entries: Iterable[LogEntry] = ()) -> None:
        self._entries: deque[LogEntry] = deque(entries, maxlen=KEPT)
        self._lock = threading.Lock()
        self.total = len(self._entries)

    def add(self, entry: LogEntry, lost: int = 0) -> None:
        """lost: entries before this one that came too fast to be kept."""
        with self._lock:
            self._entries.append(entry)
            self.total += 1 + lost

    def of(self, device: str = "", kind: str = "") -> DeviceLog:
        """The entries of one device, of one kind, or both."""
        return DeviceLog(
            one for one in self if device in ("", one.device) and kind in ("", one.kind)
        )

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> LogEntry: ...
    @overload
    def __getitem__(self, index: slice) -> list[LogEntry]: ...
    def __getitem__(self, index: int | slice) -> LogEntry | list[LogEntry]:
        with self._lock:
            if isinstance(index, slice):
                return list(self._entries)[index]
            return self._entries[index]

    def __iter__(self) -> Any:
        return iter(self[:])

    def __repr__(self) -> str:
        with self._lock:
            count = len(self._entries)
            last = list(islice(self._entries, max(count - SHOWN, 0), count))
        if not last:
            return "nothing was printed, no guest did wrong, nothing failed"
        rows = [f"{'seconds':>9}  {'device':<10} {'kind':<8} text"]
        if self.total > len(last):
            rows.append(f"{'...':>9}  {self.total - len(last):,} earlier")
        for entry in last:
            first, *others = entry.text.splitlines() or [""]
            rows.append(_short(str(LogEntry(entry.time, entry.device, entry.kind, first))))
            rows += [_short(f"{'':30} {line}") for line in others]
        return "\n".join(rows)


def _short(line: str) -> str:
    most = WIDTH + 30
    return line if len(line) <= most else line[: most - 1] + "…"


class Spout:
    """Prints what devices print, no faster than a page can show it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = [float(one) for one in BURST]
        self._before = clock()
        self._dry = False

    def say(self, text: str, limited: bool) -> None:
        if not limited or self._takes(text):
            print(text, end="", flush=True)
        elif not self._dry:
            self._dry = True
            print("[vmlab: a device prints faster than a page shows; vm.log has its last lines]")

    def _takes(self, text: str) -> bool:
        now = self._clock()
        passed, self._before = now - self._before, now
        cost = text.count("\n") or 1, len(text)
        for index in range(2):
            self._left[index] = min(self._left[index] + passed * LINES[index], BURST[index])
        # once dry, not before there is something to show for it: no dripping
        if any(
            left < (BURST[i] / 10 if self._dry else cost[i]) for i, left in enumerate(self._left)
        ):
            return False
        self._dry = False
        self._left = [left - one for left, one in zip(self._left, cost, strict=True)]
        return True


def entry_of(since: float, stamp: float, device: str, kind: str, text: str) -> LogEntry:
    """As it is kept: without the end of its line, and of bounded length."""
    text = text.removesuffix("\n")
    if len(text) > TEXT:
        text = f"{text[:TEXT]}… ({len(text) - TEXT:,} more characters)"
    return LogEntry(max(stamp - since, 0.0), device, kind, text)
