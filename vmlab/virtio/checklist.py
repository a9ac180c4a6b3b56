"""How far the driver of a device is: the steps of its set-up (virtio 1.2 §3.1.1; legacy: §3.1.2, §4.2.4) from
what the journal noted, and of its last request. Made when it is asked for; nothing in the device changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vmlab.errors import ConfigError
from vmlab.virtio import steps
from vmlab.virtio.journal import Counts, DrivenWindow, Mark
from vmlab.virtio.registers import (
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    VERSION_1,
    status_words,
)
from vmlab.virtio.request_steps import request_steps
from vmlab.virtio.steps import DriverSteps, Step

__all__ = ["Finding", "checklist"]

SPEC = "virtio 1.2 "
#: queues that are shown; a device has up to 64, and their steps are the same
QUEUES = 16


class Finding(NamedTuple):
    """What is known of a step. reached: the driver did it; problem: why that is not right, "" where it is."""

    step: str
    clause: str
    reached: bool
    note: str = ""
    problem: str = ""
    mark: Mark | None = None


def checklist(window: DrivenWindow, queue: int | None = None) -> DriverSteps:
    """The caller holds the device's lock."""
    count = len(window.device.queue_sizes)
    if queue is not None and not (type(queue) is int and 0 <= queue < count):
        raise ConfigError(
            f"queue={queue!r:.40}; {window.device.type} has the queues 0 to {count - 1}"
        )
    facts = _Facts(window)
    setup = _LEGACY if facts.version == 1 else _MODERN
    found = [each for step in setup for each in step(facts)]
    begun = window.journal.lived or any(facts.all_counts.reads.values())
    rows = _in_order(found, begun)
    shown, request = request_steps(window, facts.counts, queue)
    return DriverSteps(
        facts.version,
        status_words(facts.status),
        window.journal.lives,
        window.journal.previous,
        shown,
        [*rows, *request],
    )


def _in_order(found: list[Finding], begun: bool) -> list[Step]:
    """What was not reached is missing when a later step was, or when it is the one to come next."""
    last = max((at for at, one in enumerate(found) if one.reached or one.problem), default=-1)
    awaited = next((at for at, one in enumerate(found) if not one.reached), -1)
    rows = []
    for at, one in enumerate(found):
        if one.problem:
            state = steps.WRONG
        elif one.reached:
            state = steps.DONE
        else:
            state = steps.MISSING if at < last or (begun and at == awaited) else steps.NOT_YET
        rows.append(row(one, state))
    return rows


def row(one: Finding, state: str) -> Step:
    done = {steps.DONE: True, steps.NOT_YET: None}.get(state, False)
    note = "; ".join(text for text in (one.problem, one.note) if text)
    where, when = (one.mark.where, one.mark.when) if one.mark is not None else (None, None)
    return Step(one.step, SPEC + one.clause, done, note, state, where, when)


class _Facts:
    """What the steps are judged by."""

    def __init__(self, window: DrivenWindow) -> None:
        self.window = window
        self.journal = window.journal
        self.status: int = window.status_now
        self.version: int = window.regs.by_name["Version"].reset
        #: ever, and in this life
        self.all_counts = Counts.of(window.counters)
        self.counts = self.journal.since(self.all_counts)
        self.marks = self.journal.marks

    def said(self, *names: str) -> tuple[str, Mark | None]:
        """What the device complained of in these steps, and when that was first."""
        complaints = self.journal.complaints(*names)
        words = [
            one.text + (f" ({one.times} times)" if one.times > 1 else "") for one in complaints
        ]
        return "; ".join(words), complaints[0].mark if complaints else None


def _identify(facts: _Facts) -> list[Finding]:
    names = ("MagicValue", "Version", "DeviceID")
    # it comes before the reset: what was found in an earlier life holds
    unread = [name for name in names if not facts.all_counts.reads.get(name)]
    note = f"{_and(unread)} not read" if unread else ""
    if not facts.window.device.device_id:
        note = "DeviceID is 0: a placeholder, nothing is here (§4.2.2)"
    elif not unread and not facts.journal.lived:
        note = f"the driver read Version, which is {facts.version}, and has done nothing since"
        if facts.version == 2:
            note += ": a driver for legacy devices wants 1 (legacy=True of the device)"
    problem, mark = facts.said(steps.IDENTIFY)
    if problem:
        other = 3 - facts.version
        problem += (
            f": the driver is one for version {other}, and the device has Version {facts.version}"
        )
    return [Finding(steps.IDENTIFY, steps.clause(steps.IDENTIFY), not unread, note, problem, mark)]


def _reset(facts: _Facts) -> list[Finding]:
    mark, note = facts.marks.get(steps.RESET), ""
    if mark is None and facts.status:
        note = "Status was not written 0 before anything else"
    if facts.journal.lives > 1:
        note = f"life {facts.journal.lives} of this device's driver"
        if facts.journal.previous:
            note += f"; the one before it ended with {facts.journal.previous}"
    problem, _ = facts.said(steps.RESET)
    return [Finding(steps.RESET, steps.clause(steps.RESET), mark is not None, note, problem, mark)]


def _bit(name: str, bit: int, before: tuple[str, int, str]) -> Callable[[_Facts], list[Finding]]:
    """A step that sets a bit of Status. before: (its name, its bit, its words) of the step that must not come
    earlier."""

    def find(facts: _Facts) -> list[Finding]:
        later, later_bit, words = before
        mark = facts.marks.get(name)
        after = facts.marks.get(later)
        problem = note = ""
        if after is not None and not after.value & bit:
            problem, note = (f"{words} before it", "") if mark else ("", f"{words} without it")
        elif mark is not None and mark.value & ~mark.status & later_bit:
            note = f"in one write with {later} (Status {mark.value:#x})"
        reached = bool(facts.status & bit)
        return [Finding(name, steps.clause(name), reached, note, problem, mark)]

    return find


def _features(facts: _Facts) -> list[Finding]:
    legacy = facts.version == 1
    offer, take = (
        ("HostFeatures", "GuestFeatures") if legacy else ("DeviceFeatures", "DriverFeatures")
    )
    mark = facts.marks.get(steps.FEATURES)
    problem, _ = facts.said(steps.FEATURES)
    problems = [problem] if problem else []
    if mark is None:
        note = f"{take} not written: the driver accepts no feature"
        if not legacy and facts.marks:
            note += ", and so not VIRTIO_F_VERSION_1 (§6.1)"
        note = note if facts.status & DRIVER or facts.status & FEATURES_OK else ""
    else:
        note = _accepted(facts)
        if not mark.status & DRIVER:
            problems.append(f"{take} was written before DRIVER (step 3)")
        if not facts.journal.reads_before(mark, offer):
            problems.append(f"{take} was written before {offer} was read")
    clause = steps.clause(steps.FEATURES)
    return [Finding(steps.FEATURES, clause, mark is not None, note, "; ".join(problems), mark)]


def _accepted(facts: _Facts) -> str:
    taken = facts.window.driver_features
    text = f"the device offered {facts.window.offered:#x}, the driver accepted {taken:#x}"
    if facts.version == 2 and not taken & VERSION_1:
        text += ", which lacks VIRTIO_F_VERSION_1 (bit 32, §6.1)"
    return text


def _features_ok(facts: _Facts) -> list[Finding]:
    mark = facts.marks.get(steps.FEATURES_OK)
    set_now = bool(facts.status & FEATURES_OK)
    problem, note = "", ""
    if mark is None:
        note = "FEATURES_OK was never set" if facts.status & DRIVER else ""
    elif not set_now:
        said, _ = facts.said(steps.FEATURES_OK)
        problem = f"the device refused FEATURES_OK: {said}; {_accepted(facts)}"
    elif not mark.status & DRIVER and not mark.value & DRIVER:
        problem = "FEATURES_OK was set before DRIVER (step 3)"
    return [
        Finding(steps.FEATURES_OK, steps.clause(steps.FEATURES_OK), set_now, note, problem, mark)
    ]


def _read_again(facts: _Facts) -> list[Finding]:
    mark, end = facts.marks.get(steps.FEATURES_OK), facts.marks.get(steps.DRIVER_OK)
    problem, note, reads = "", "", 0
    if mark is not None:
        now = facts.window.moment(0) if end is None else end
        reads = facts.journal.reads_before(now, "Status") - facts.journal.reads_before(
            mark, "Status"
        )
        if end is not None and mark.value & DRIVER_OK and mark.value & FEATURES_OK:
            problem = "FEATURES_OK and DRIVER_OK came in one write"
        elif not reads and (end is not None or not facts.status & FEATURES_OK):
            note = "Status was not read after it: a device that refuses the features clears FEATURES_OK"
        elif reads and not facts.status & FEATURES_OK:
            note = "Status was read, and FEATURES_OK is clear"
    clause = steps.clause(steps.READ_AGAIN)
    return [Finding(steps.READ_AGAIN, clause, reads > 0 and not problem, note, problem)]


def _page_size(facts: _Facts) -> list[Finding]:
    mark = facts.marks.get(steps.PAGE_SIZE)
    problem, _ = facts.said(steps.PAGE_SIZE)
    note = f"{mark.value:#x} bytes, the unit of QueuePFN" if mark is not None else ""
    return [
        Finding(
            steps.PAGE_SIZE, steps.clause(steps.PAGE_SIZE), mark is not None, note, problem, mark
        )
    ]


# --- queues -----------------------------------------------------------------------------------------------


def _queues(facts: _Facts) -> list[Finding]:
    journal, window = facts.journal, facts.window
    touched = sorted({*journal.queues, *window.queues})
    found = [_queue(facts, index) for index in touched[:QUEUES] or [0] if window.device.queue_sizes]
    problem, mark = facts.said(steps.QUEUES)
    if problem or len(touched) > QUEUES:
        note = f"{len(touched) - QUEUES} more queues are set up" if len(touched) > QUEUES else ""
        found.append(Finding(steps.QUEUES, steps.clause(steps.QUEUES), True, note, problem, mark))
    return found


def _queue(facts: _Facts, index: int) -> Finding:
    written = facts.journal.queues.get(index, {})
    first = min(written.values(), key=lambda mark: mark.when, default=None)
    said, complained = facts.said(steps.queue(index))
    problems = [said] if said else []
    ready = index in facts.window.queues
    needed = DRIVER if facts.version == 1 else FEATURES_OK
    if (
        not said
        and first is not None
        and not all(mark.status & needed for mark in written.values())
    ):
        before = "DRIVER (step 3)" if facts.version == 1 else "FEATURES_OK (step 5)"
        problems.append(f"the queue was set up before {before}")
    note = _shape(facts, index) if ready else _unready(facts, written)
    start = written.get("QueuePFN" if facts.version == 1 else "QueueReady")
    if start is not None and not start.value and not ready:
        problems.append(f"{'QueuePFN' if facts.version == 1 else 'QueueReady'} was written 0")
    clause = steps.clause(steps.queue(index), facts.version)
    return Finding(
        *(steps.queue(index), clause, ready, note, "; ".join(problems)),
        complained or start or first,
    )


def _shape(facts: _Facts, index: int) -> str:
    queue = facts.window.queues[index]
    desc, driver, device = queue.areas
    text = (
        f"{queue.size} entries of at most {facts.window.device.queue_sizes[index]}; descriptors at"
        f" {desc:#x}, driver area at {driver:#x}, device area at {device:#x}"
    )
    ends = sorted(
        [(desc, 16 * queue.size), (driver, 4 + 2 * queue.size), (device, 4 + 8 * queue.size)]
    )
    if any(start + size > ends[at + 1][0] for at, (start, size) in enumerate(ends[:2])):
        text += ": they overlap"
    return text


def _unready(facts: _Facts, written: dict[str, Mark]) -> str:
    """What of a queue's set-up is to come."""
    if not written:
        return (
            ""
            if not facts.counts.reads.get("QueueNumMax")
            else "QueueNumMax was read, nothing written"
        )
    order = ("QueueNum", "QueueAlign", "QueuePFN") if facts.version == 1 else _ORDER
    # without QueueNum and QueueAlign a legacy queue has its largest size, and pages
    missing = [name for name in order if name not in written and name != "QueueAlign"]
    text = f"{_and(missing)} not written" if missing else ""
    if not facts.counts.reads.get("QueueNumMax"):
        text += ("; " if text else "") + "QueueNumMax not read"
    return text


_ORDER = ("QueueNum", "QueueDesc", "QueueDriver", "QueueDevice", "QueueReady")


def _driver_ok(facts: _Facts) -> list[Finding]:
    mark = facts.marks.get(steps.DRIVER_OK)
    reached = bool(facts.status & DRIVER_OK)
    problem, first = facts.said(steps.DRIVER_OK)
    problem = "" if reached else problem
    note = ""
    if facts.status & FAILED:
        problem = "; ".join(
            text for text in (problem, "the driver has set FAILED: it gave up") if text
        )
        first = first or facts.marks.get(steps.FAILED)
    if facts.status & NEEDS_RESET:
        note = "the device has set DEVICE_NEEDS_RESET (§2.1.2): only a reset helps"
    elif reached and not facts.window.queues and facts.window.device.queue_sizes:
        note = "no queue is ready: the device can do nothing"
    found = [
        Finding(
            steps.DRIVER_OK, steps.clause(steps.DRIVER_OK), reached, note, problem, mark or first
        )
    ]
    said, when = facts.said(steps.STATUS)
    if said:  # no step of its own: it is there when something is wrong
        found.append(Finding(steps.STATUS, steps.clause(steps.STATUS), True, "", said, when))
    return found


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


_ACKNOWLEDGE = _bit(steps.ACKNOWLEDGE, 1, (steps.DRIVER, DRIVER, "DRIVER was set"))
_DRIVER = _bit(steps.DRIVER, DRIVER, (steps.DRIVER_OK, DRIVER_OK, "DRIVER_OK was set"))
_MODERN: tuple[Callable[[_Facts], list[Finding]], ...] = (
    *(_identify, _reset, _ACKNOWLEDGE, _DRIVER, _features, _features_ok, _read_again),
    *(_queues, _driver_ok),
)
#: §3.1.2: there is neither FEATURES_OK nor what follows from it
_LEGACY: tuple[Callable[[_Facts], list[Finding]], ...] = (
    *(_identify, _reset, _ACKNOWLEDGE, _DRIVER, _features, _page_size, _queues, _driver_ok),
)
