"""The state of a machine: a word that knows why."""

from __future__ import annotations

from vmlab.machine.config import Exit, Fault
from vmlab.machine.debug.records import BreakEvent

__all__ = ["State"]


class State(str):
    """The machine's state: equal to its word, and it knows why.

    exit: why the machine ended, or None. met: the breakpoint that it is paused at, or None. fault: the device
    that failed, or None; its `traceback` is shown by `repr`. busy: the code of a device that has not returned
    for more than a second, "busy in looper0.spin_here, reading A, for 3 s"; "" when there is none;
    `vm.stuck()` has its stack."""

    exit: Exit | None
    fault: Fault | None
    busy: str
    met: BreakEvent | None

    def __new__(
        cls,
        word: str,
        exit: Exit | None = None,
        fault: Fault | None = None,
        busy: str = "",
        met: BreakEvent | None = None,
    ) -> State:
        self = super().__new__(cls, word)
        self.busy, self.met = busy, met
        self.exit, self.fault = exit, fault
        return self

    def with_busy(self, busy: str) -> State:
        """The same, and what the machine is busy in."""
        new = State(str(self), self.exit, None, busy)
        new.fault, new.met = self.fault, self.met
        return new

    @property
    def reason(self) -> str:
        if self.fault is not None:
            return self.fault.text
        if self.met is not None:
            return self.met.text
        if self.busy:
            return self.busy
        return self.exit.text if self.exit is not None else ""

    @property
    def traceback(self) -> str:
        return self.fault.traceback if self.fault is not None else ""

    def __repr__(self) -> str:
        if self.traceback:
            return f"{str(self)!r} ({self.reason})\n{self.traceback}"
        return f"{str(self)!r} ({self.reason})" if self.reason else repr(str(self))
