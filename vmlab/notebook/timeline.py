"""An event log over time: a row for each register, interrupt line, console and queue, as a figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.ticker import FuncFormatter

from vmlab.core.trace import ACCESSES, GROUPS, TraceRecord
from vmlab.errors import ConfigError
from vmlab.notebook.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from vmlab.notebook.plots import Picture, _bare, _empty, _figure, _titled

__all__ = ["plot_timeline"]

#: rows of accesses up to which each register has its own
REGISTERS = 24
LEVELS = ("raise", "lower")


class _Mark(NamedTuple):
    """How some kinds are drawn. offset: from the middle of the row, so that two do not cover each other."""

    label: str
    kinds: tuple[str, ...]
    colour: str
    shape: str
    offset: float = 0.0


_SERVED = ("deliver", "ack", "eoi")
_MARKS = (
    _Mark("read", ("read",), BLUE, "|", 0.14),
    _Mark("write", ("write",), ORANGE, "|", -0.14),
    _Mark("line rises", ("raise",), GREEN, "^"),
    _Mark("interrupt taken or served", _SERVED, PURPLE, ".", -0.22),
    _Mark("console bytes", GROUPS["console"], GREY, "s"),
    _Mark("notification", ("kick",), BLUE, "D"),
    _Mark("device comes, goes, fails", GROUPS["hotplug"], GREEN, "o"),
    _Mark("mistake", ("mistake",), VERMILION, "x"),
)


def plot_timeline(
    events: Sequence[TraceRecord],
    *,
    device: str | None = None,
    start: float | None = None,
    end: float | None = None,
    log: bool = False,
    machine: str = "",
) -> Picture:
    """The entries of a `vm.trace()`: a row a register (or a device where there are too many), a line, a
    console, a queue. A bar is a line that is up.

    device: only its events. start, end: only what is between, in seconds since the log began. log: a
    logarithmic axis of time. machine: whose they are, for the title. ConfigError when `start` is not before
    `end`."""
    low, high = _span(start, end)
    chosen = [one for one in events if device in (None, one.device) and low <= one.time <= high]
    registers = {_place(one) for one in chosen if one.kind in ACCESSES}
    fold = len(registers) > REGISTERS
    rows = Counter(_row(one, fold) for one in chosen)
    names = sorted(rows, reverse=True)
    at = {name: number for number, name in enumerate(names)}
    figure, axes = _figure((7.2, 1.6 + 0.28 * max(len(names), 1)))
    # of the whole log: a line may have been up before what is shown begins
    whose = [one for one in events if device in (None, one.device)]
    for row, begin, until in _levels(whose, fold):
        begin, until = max(begin, low), min(until, high)
        if begin > until or row not in at:
            continue
        axes.broken_barh(
            [(begin * 1e3, (until - begin) * 1e3)], (at[row] - 0.1, 0.2), color=GREEN, alpha=0.4
        )
    for mark in _MARKS:
        some = [one for one in chosen if one.kind in mark.kinds]
        if some:
            axes.plot(
                [one.time * 1e3 for one in some],
                [at[_row(one, fold)] + mark.offset for one in some],
                linestyle="none",
                marker=mark.shape,
                markersize=8 if mark.shape == "|" else 4,
                color=mark.colour,
                label=mark.label,
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    if log and chosen:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("milliseconds since the log began" + (", logarithmic" if log else ""))
    title = _titled(axes, "Timeline", machine, device or "")
    if chosen:
        figure.legend(frameon=False, loc="outside lower center", ncols=4)
    else:
        _empty(axes, "the log is empty")
    _bare(axes, "top", "right", "left")
    axes.grid(axis="y", color=GREY, alpha=0.2)
    figure.alt = f"{title}. {_told(chosen, {name: rows[name] for name in reversed(names)})}."
    return figure


def _span(start: float | None, end: float | None) -> tuple[float, float]:
    low = float("-inf") if start is None else start
    high = float("inf") if end is None else end
    if not low < high:
        raise ConfigError(f"start={start!r} is not before end={end!r}: seconds since the log began")
    return low, high


def _device(event: TraceRecord) -> str:
    return event.device or "unmapped"


def _place(event: TraceRecord) -> str:
    return f"{event.device}.{event.register}" if event.register else _device(event)


def _row(event: TraceRecord, fold: bool) -> str:
    """Where the event is drawn. fold: accesses have a row a device."""
    if event.kind in ACCESSES:
        return _device(event) if fold else _place(event)
    if event.kind in GROUPS["irq"]:
        return "interrupts" if event.line is None else f"line {event.line}"
    if event.kind in GROUPS["console"]:
        return f"{event.device} console" + (f" {event.value}" if event.value else "")
    if event.kind == "kick":
        return f"{event.device} queue {event.value}"
    return f"{event.device} mistakes" if event.kind == "mistake" else f"{event.device} life"


def _levels(events: Sequence[TraceRecord], fold: bool) -> Iterator[tuple[str, float, float]]:
    """(row, from, to) of the times in which a line is up; to the end of the log where it stays so."""
    up: dict[str, float] = {}
    for event in events:
        if event.kind not in LEVELS:
            continue
        row = _row(event, fold)
        if event.kind == "raise" and event.text != "pulse":
            up.setdefault(row, event.time)
        elif row in up:
            yield row, up.pop(row), event.time
    for row, begin in up.items():
        yield row, begin, events[-1].time


def _told(events: Sequence[TraceRecord], rows: dict[str, int]) -> str:
    if not events:
        return "The log is empty"
    first, last = events[0].time * 1e3, events[-1].time * 1e3
    parts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    return f"{len(events):,} events from {first:.1f} to {last:.1f} ms: {parts}"
