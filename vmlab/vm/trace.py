"""The access log, as people hold it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Self

from vmlab.core.trace import AccessEvent
from vmlab.errors import MonitorLost, StateError
from vmlab.monitor import wire
from vmlab.vm.connection import Connection

__all__ = ["Trace", "describe"]


class Trace:
    """An access log that runs until `stop`, the end of its `with`, another log or the machine's end.

    The newest `last` accesses are kept."""

    def __init__(self, connection: Connection, last: int) -> None:
        self._connection = connection
        self._events: deque[AccessEvent] = deque(maxlen=last)
        self._taken = 0
        self._on = True
        self._lost = 0

    @property
    def events(self) -> list[AccessEvent]:
        """What is kept, oldest first."""
        self.fetch()
        return list(self._events)

    @property
    def dropped(self) -> int:
        """Accesses that were logged and are not kept any more."""
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
            self._events.extend(AccessEvent(*row) for row in reply.events)
            self._taken += len(reply.events)
            self._lost = reply.dropped
            if len(reply.events) < wire.TRACE_PART:
                return

    def stop(self) -> None:
        """Stop logging; the events stay."""
        self.fetch()
        if self._on:
            self._on = False
            with contextlib.suppress(MonitorLost, StateError):
                self._connection.call(wire.Trace(False, 1, None), fault=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[AccessEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return "\n".join(describe(event) for event in self.events[-20:]) or "<no access yet>"


def describe(event: AccessEvent) -> str:
    """One line: when, which CPU, from which instruction, what, where."""
    what = "write" if event.write else "read "
    name = f"{event.device}.{event.register}" if event.register else event.device or "unmapped"
    pc = "" if event.pc is None else f"{event.pc:#x}"
    return (
        f"{event.time * 1e3:10.3f} ms  cpu{event.cpu}  {pc:>18}  {what} {event.size}  {event.address:#012x}"
        f"  {event.value:#0{2 + 2 * event.size}x}  {name}"
    )
