"""Event logs for other programs: CSV, and the trace event format of Chrome, which Perfetto opens.

The latter: "Trace Event Format" of the Chromium project, its JSON object form. Times are microseconds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from os import PathLike
from typing import Any

import msgspec

from vmlab.core.trace import ACCESSES, GROUPS
from vmlab.vm.trace_event import TraceEvent
from vmlab.vm.trace_file import written

__all__ = ["COLUMNS", "to_csv", "to_perfetto"]

COLUMNS = (
    *("time", "cpu", "kind", "device", "register", "size", "value", "pc", "function", "source"),
    *("line", "space", "address", "text"),
)
#: the groups of tracks: a process each
CPUS, LINES, CONSOLES, DEVICES = range(1, 5)
_GROUPS = {CPUS: "CPUs", LINES: "interrupt lines", CONSOLES: "consoles", DEVICES: "devices"}


def to_csv(events: list[TraceEvent], path: str | PathLike[str]) -> None:
    with written(path) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for event in events:
            row = [getattr(event, name) for name in COLUMNS]
            row[0] = f"{event.time:.9f}"
            table.writerow("" if one is None else one for one in row)


def to_perfetto(events: list[TraceEvent], path: str | PathLike[str]) -> None:
    with written(path) as file:
        encode = msgspec.json.Encoder().encode
        file.write(b'{"displayTimeUnit":"ns","traceEvents":[\n')
        for number, one in enumerate(_trace_events(events)):
            file.write(b",\n" if number else b"")
            file.write(encode(one))
        file.write(b"\n]}\n")


def _trace_events(events: list[TraceEvent]) -> Iterator[dict[str, Any]]:
    tracks = _Tracks()
    for event in events:
        track = tracks.of(event)
        at = {"ts": round(event.time * 1e6, 3), "pid": track[0], "tid": track[1]}
        yield from tracks.begun()
        if event.kind == "raise":
            if track not in tracks.up:
                tracks.up.add(track)
                yield {
                    "name": event.device or "up",
                    "cat": "irq",
                    "ph": "B",
                    "args": _args(event),
                } | at
        elif event.kind == "lower":
            if track in tracks.up:
                tracks.up.discard(track)
                yield {"ph": "E"} | at
        else:
            name = event.told().strip()
            yield {
                "name": name,
                "cat": _category(event),
                "ph": "i",
                "s": "t",
                "args": _args(event),
            } | at
    end = round(events[-1].time * 1e6, 3) if events else 0
    for pid, tid in sorted(tracks.up):
        yield {"ph": "E", "ts": end, "pid": pid, "tid": tid}


def _category(event: TraceEvent) -> str:
    return next((name for name, kinds in GROUPS.items() if event.kind in kinds), event.kind)


def _args(event: TraceEvent) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in COLUMNS[1:]}
    for name in ("value", "pc", "address"):
        if isinstance(values[name], int):
            values[name] = f"{values[name]:#x}"  # JSON's readers have 53 bits
    return {name: value for name, value in values.items() if value not in (None, "")}


class _Tracks:
    """Which track an event is on; what says how tracks are called comes before their first event."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, str], int] = {}
        self._new: list[dict[str, Any]] = []
        #: lines that are up
        self.up: set[tuple[int, int]] = set()

    def of(self, event: TraceEvent) -> tuple[int, int]:
        """(process, thread)."""
        if event.kind in ("raise", "lower", "deliver"):
            return self._number(LINES, f"line {event.line}")
        if event.kind in GROUPS["console"]:
            return self._number(CONSOLES, event.device)
        if event.kind in (*ACCESSES, "ack", "eoi"):
            return self._number(CPUS, "no CPU" if event.cpu is None else f"cpu{event.cpu}")
        return self._number(DEVICES, event.device)

    def _number(self, group: int, name: str) -> tuple[int, int]:
        key = group, name
        if key not in self._numbers:
            if not any(known == group for known, _ in self._numbers):
                self._say("process_name", group, 0, _GROUPS[group])
            self._numbers[key] = len(self._numbers) + 1
            self._say("thread_name", group, self._numbers[key], name)
        return group, self._numbers[key]

    def _say(self, what: str, pid: int, tid: int, name: str) -> None:
        self._new.append(
            {"name": what, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}
        )

    def begun(self) -> list[dict[str, Any]]:
        new, self._new = self._new, []
        return new
