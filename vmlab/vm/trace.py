"""The event log, as people hold it: one that runs, and one that was saved."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import TYPE_CHECKING, Self

from vmlab.core.trace import TraceFilter
from vmlab.errors import MonitorLost, StateError
from vmlab.monitor import wire
from vmlab.vm.backtrace import Names
from vmlab.vm.connection import Connection
from vmlab.vm.trace_event import ByFunction, FunctionRow, TraceEvent, by_function, filter_of

if TYPE_CHECKING:
    from vmlab.vm.trace_diff import TraceDiff

__all__ = ["ByFunction", "Events", "FunctionRow", "SavedTrace", "Trace", "TraceEvent", "load_trace"]

#: lines that a log shows of itself
_SHOWN = 20


class Events:
    """Events in their order. It is iterated over, has a length and prints as its newest lines."""

    #: of which machine: "arch", "machine", "engine", "kernel"
    about: dict[str, str]

    @property
    def events(self) -> list[TraceEvent]:
        """What is kept, oldest first."""
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """Events that were logged and are not kept any more."""
        raise NotImplementedError

    def by_function(self) -> ByFunction:
        """Who accessed devices how often, the busiest first; where no symbol covers it, by address."""
        return by_function(self.events)

    def select(
        self,
        device: str | Iterable[str] | None = None,
        kinds: str | Iterable[str] | None = None,
        register: str | Iterable[str] | None = None,
        cpu: int | Iterable[int] | None = None,
        last: int | None = None,
    ) -> SavedTrace:
        """Those of the devices, kinds, registers and CPUs, the newest `last` of them; as `vm.trace` takes
        them. UnknownName for one that none of the events has."""
        from vmlab.vm.trace_select import selected

        wanted = filter_of(device, kinds, register, cpu)
        kept = selected(self.events, wanted, last)
        return SavedTrace(kept, self.about, self.dropped, alone=wanted.one_device)

    def diff(
        self,
        other: Events,
        device: str | Iterable[str] | None = None,
        kinds: str | Iterable[str] = ("access", "kick"),
        values: bool = True,
    ) -> TraceDiff:
        """What the other log has that this one has not, and the reverse: the events of the devices and kinds
        are compared in their order, by device, register and, with `values`, value; times, program counters
        and CPUs do not count."""
        from vmlab.vm.trace_diff import compare

        return compare(self.events, other.events, filter_of(device, kinds, None, None), values)

    def save(self, path: str | PathLike[str]) -> None:
        """Into a file that `load_trace` reads, with the names of functions and lines: it can be looked at
        without the image. ConfigError when it cannot be written."""
        from vmlab.vm.trace_file import save

        save(self.events, self.about, self.dropped, path)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """A line an event, with a head. ConfigError when it cannot be written."""
        from vmlab.vm.trace_export import to_csv

        to_csv(self.events, path)

    def to_perfetto(self, path: str | PathLike[str]) -> None:
        """As JSON that https://ui.perfetto.dev and chrome://tracing open: a track a CPU, line, console and
        device. ConfigError when it cannot be written."""
        from vmlab.vm.trace_export import to_perfetto

        to_perfetto(self.events, path)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        """The newest, each with its device."""
        return "\n".join(event.line_of_text(True) for event in self.events[-_SHOWN:]) or _EMPTY

    def __str__(self) -> str:
        return "\n".join(map(str, self.events)) or _EMPTY


_EMPTY = "<no event yet>"


class SavedTrace(Events):
    """A log that has ended. alone: of one device, which goes without saying when an event is printed."""

    def __init__(
        self,
        events: list[TraceEvent],
        about: dict[str, str],
        dropped: int = 0,
        names: Names | None = None,
        alone: bool = False,
    ) -> None:
        self.about = about
        self._events, self._dropped = events, dropped
        for event in events:
            event.named = not alone
            if names is not None:
                event.names = names

    @property
    def events(self) -> list[TraceEvent]:
        return list(self._events)

    @property
    def dropped(self) -> int:
        return self._dropped


class Trace(Events):
    """An event log that runs until `stop`, the end of its `with`, another log or the machine's end.

    The newest `last` events are kept."""

    def __init__(
        self,
        connection: Connection,
        last: int,
        wanted: TraceFilter = TraceFilter(),  # noqa: B008  frozen
        names: Names | None = None,
    ) -> None:
        self._connection = connection
        config = connection.config
        self.about = {
            "arch": config.arch,
            "machine": config.board_name,
            "engine": connection.engine,
            "kernel": config.name,
        }
        self._names = names
        self._named = not wanted.one_device
        self._events: deque[TraceEvent] = deque(maxlen=last)
        self._taken = 0
        self._on = True
        self._lost = 0

    @staticmethod
    def load(path: str | PathLike[str]) -> SavedTrace:
        """`vmlab.load_trace`."""
        return load_trace(path)

    @property
    def events(self) -> list[TraceEvent]:
        return self.since(0)

    @property
    def total(self) -> int:
        """Events that have come here so far, those that are not kept any more included."""
        self.fetch()
        return self._taken

    def since(self, number: int) -> list[TraceEvent]:
        """Those that are kept of the events from the `number`-th on, the first being 0; with the `total` of
        the last look, what is new."""
        self.fetch()
        skip = max(0, number - (self._taken - len(self._events)))
        events = list(self._events)[skip:]
        for event in events:
            event.names, event.named = self._names, self._named
        return events

    @property
    def dropped(self) -> int:
        self.fetch()
        return self._lost + self._taken - len(self._events)

    def fetch(self) -> None:
        """Take over what the machine has logged. Nothing more comes from a machine that is gone."""
        while self._on:
            try:
                reply = self._connection.call(wire.TakeTrace(), fault=False)
            except (MonitorLost, StateError):
                self._on = False
                return
            self._events.extend(map(TraceEvent._make, reply.events))
            self._taken += len(reply.events)
            self._lost = reply.dropped
            if len(reply.events) < wire.TRACE_PART:
                return

    def replaced(self) -> None:
        """Another log has begun in its place."""
        self._on = False

    def stop(self) -> None:
        """Stop logging; the events stay."""
        self.fetch()
        if self._on:
            self._on = False
            with contextlib.suppress(MonitorLost, StateError):
                self._connection.call(wire.Trace(False), fault=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def load_trace(path: str | PathLike[str]) -> SavedTrace:
    """A log that `save` has written. The file is not trusted: ConfigError for one that is none, is cut or
    lies, or is of a later version."""
    from vmlab.vm.trace_file import load

    return SavedTrace(*load(path))
