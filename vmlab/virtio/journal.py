"""What a driver did since it reset the device last: the moments that the checklist speaks of.

Only registers of the set-up write here, and the first notification. What repeats for each request
(QueueNotify, InterruptACK) is counted anyway, and its state is in the queue: `vmlab.virtio.request_steps`
looks there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from vmlab.core.counters import Block
from vmlab.core.irq import IrqLine
from vmlab.regs import Registers
from vmlab.virtio import steps
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Virtqueue

__all__ = ["Complaint", "Counts", "DrivenWindow", "Journal", "Mark"]

#: different complaints that are kept of one life: a driver that does everything wrong repeats itself
COMPLAINTS = 32


class Mark(NamedTuple):
    """A moment. value: what was written. status: Status before that. reads: of some registers, ever. when:
    seconds of the machine's time. where: the program counter, None where it is not known."""

    value: int
    status: int
    reads: dict[str, int]
    when: float
    where: int | None


class Complaint(NamedTuple):
    """A mistake, as the device counted it. step: of the checklist. progress: the requests taken by then."""

    step: str
    text: str
    times: int
    progress: int
    mark: Mark


class Journal:
    """Bounded, whatever the driver does. moment: makes a `Mark` of a value."""

    def __init__(self, moment: Callable[[int], Mark]) -> None:
        self._moment = moment
        #: lives in which a driver did something, this one included, and what the one before failed at
        self.lives = 0
        self.previous = ""
        self._begin()

    def _begin(self) -> None:
        #: whether the driver has done anything beside looking
        self.lived = False
        #: by name of the step or the register
        self.marks: dict[str, Mark] = {}
        #: of each queue: register -> what was written last
        self.queues: dict[int, dict[str, Mark]] = {}
        self._complaints: dict[tuple[str, str], Complaint] = {}
        #: counts at the beginning
        self._base: Counts = Counts({}, {}, 0)

    def start_over(self, counts: Counts, failed: str) -> None:
        """A new life. counts: of now; failed: where the one that ends stood, "" where all was well."""
        if self.lived:
            self.previous = failed
        self._begin()
        self._base = counts

    def live(self) -> None:
        """The driver does something beside looking."""
        if not self.lived:
            self.lived = True
            self.lives += 1

    def mark(self, name: str, value: int, again: bool = False) -> None:
        """The first time that this happened; with `again`, the last."""
        self.live()
        if again or name not in self.marks:
            self.marks[name] = self._moment(value)

    def shape(self, index: int, register: str, value: int) -> None:
        """A register of queue `index` was written, which exists."""
        self.live()
        self.queues.setdefault(index, {})[register] = self._moment(value)

    def complain(self, step: str, text: str, progress: int) -> None:
        self.live()
        before = self._complaints.pop((step, text), None)
        if before is None and len(self._complaints) >= COMPLAINTS:
            return
        times = before.times + 1 if before is not None else 1
        mark = before.mark if before is not None else self._moment(0)
        self._complaints[step, text] = Complaint(step, text, times, progress, mark)

    @property
    def clause(self) -> str:
        """What the last complaint is about; "" where there is none."""
        last = next(reversed(self._complaints.values()), None)
        return steps.clause(last.step) if last is not None else ""

    def complaints(self, *names: str) -> list[Complaint]:
        """Those of these steps, the one that came last at the end."""
        return [one for one in self._complaints.values() if one.step in names]

    def reads_before(self, mark: Mark, register: str) -> int:
        """How often a register was read in this life, up to then."""
        return mark.reads.get(register, 0) - self._base.reads.get(register, 0)

    def since(self, counts: Counts) -> Counts:
        """What was counted in this life; counts: of now."""
        return counts.less(self._base)


class Counts(NamedTuple):
    """Reads and writes of each register, and notifications that did not trap."""

    reads: dict[str, int]
    writes: dict[str, int]
    kicks: int

    @classmethod
    def of(cls, block: Block) -> Counts:
        counts = block.counts()
        rows = counts.registers.items()
        return cls(
            {name: row.reads for name, row in rows},
            {name: row.writes for name, row in rows},
            counts.kicks,
        )

    def less(self, base: Counts) -> Counts:
        """From `base` to these; a block that is a new one has begun at nothing."""
        return Counts(
            {name: max(count - base.reads.get(name, 0), 0) for name, count in self.reads.items()},
            {name: max(count - base.writes.get(name, 0), 0) for name, count in self.writes.items()},
            max(self.kicks - base.kicks, 0),
        )

    @property
    def notifications(self) -> int:
        return self.writes.get("QueueNotify", 0) + self.kicks


class DrivenWindow(Protocol):
    """What a checklist is made from: `vmlab.virtio.window.MmioWindow`, which is made of these modules."""

    device: VirtioDevice
    journal: Journal
    counters: Block
    irq: IrqLine
    r: Any
    running: bool
    status_now: int
    driver_features: int
    queues: dict[int, Virtqueue]

    @property
    def regs(self) -> type[Registers]: ...
    @property
    def offered(self) -> int: ...
    @property
    def progress(self) -> int: ...
    @property
    def last_served(self) -> int: ...
    def is_due(self, index: int) -> bool: ...
    def moment(self, value: int) -> Mark: ...
