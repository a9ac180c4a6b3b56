"""The steps of a driver by name: of its set-up (virtio 1.2 §3.1.1) and of a request (§2.7.13)."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

__all__ = [
    "DONE",
    "MISSING",
    "NOT_YET",
    "WRONG",
    "DriverSteps",
    "Row",
    "Step",
    "failure",
    "named",
    "no_checklist",
    "queue",
]

# how far a step is
DONE, MISSING, WRONG, NOT_YET = "done", "missing", "wrong", "not yet"

# the set-up
IDENTIFY, RESET, ACKNOWLEDGE, DRIVER = "identify", "reset", "ACKNOWLEDGE", "DRIVER"
FEATURES, FEATURES_OK, READ_AGAIN = "features", "FEATURES_OK", "FEATURES_OK read again"
PAGE_SIZE, QUEUES, DRIVER_OK = "GuestPageSize", "queues", "DRIVER_OK"
STATUS, FAILED = "Status", "FAILED"
# a request
DESCRIPTORS, AVAILABLE, NOTIFY, TAKEN = "descriptors", "available ring", "notify", "taken"
USED, INTERRUPT, ACK = "used ring", "interrupt", "InterruptACK"
#: its steps, in their order
REQUEST = (DESCRIPTORS, AVAILABLE, NOTIFY, TAKEN, USED, INTERRUPT, ACK)
#: bits of Status (§2.1), in the order in which a driver sets them
_BITS = ((1, ACKNOWLEDGE), (2, DRIVER), (8, FEATURES_OK), (4, DRIVER_OK), (128, FAILED))


#: step -> where virtio 1.2 asks for it
_CLAUSES = {
    IDENTIFY: "§4.2.3.1.1",
    RESET: "§3.1.1 step 1",
    ACKNOWLEDGE: "§3.1.1 step 2",
    DRIVER: "§3.1.1 step 3",
    FEATURES: "§3.1.1 step 4",
    FEATURES_OK: "§3.1.1 step 5",
    READ_AGAIN: "§3.1.1 step 6",
    PAGE_SIZE: "§4.2.4",
    QUEUES: "§4.2.3.2",
    DRIVER_OK: "§3.1.1 step 8",
    STATUS: "§2.1.1",
    FAILED: "§2.1.1",
    DESCRIPTORS: "§2.7.13.1",
    AVAILABLE: "§2.7.13.2, §2.7.13.3",
    NOTIFY: "§2.7.13.4, §4.2.3.3",
    TAKEN: "§2.7.6",
    USED: "§2.7.8",
    INTERRUPT: "§2.7.7, §4.2.3.4",
    ACK: "§4.2.3.4",
}


def queue(index: int) -> str:
    """The step that sets up a queue."""
    return f"queue {index}"


def clause(step: str, version: int = 2) -> str:
    """Where virtio 1.2 asks for the step; version: of the transport."""
    if step in _CLAUSES:
        return _CLAUSES[step]
    return "§4.2.4 (virtqueue configuration)" if version == 1 else "§3.1.1 step 7, §4.2.3.2"


def named(status: int) -> list[str]:
    """The steps that set these bits of Status."""
    return [name for bit, name in _BITS if status & bit]


class Step(NamedTuple):
    """A step. clause: where the specification asks for it. done: True; False, it is missing or wrong; None,
    the driver has not come so far. note: what was found, in words. state: "done", "missing", "wrong" or "not
    yet". where: the guest's program counter, when: seconds of the machine's time; None: not known."""

    step: str
    clause: str
    done: bool | None
    note: str
    state: str
    where: int | None = None
    when: float | None = None


#: a Step as the wire carries it: a plain tuple
Row = tuple[str, str, bool | None, str, str, int | None, float | None]


class DriverSteps(Struct, frozen=True):
    """The steps of one device's driver. version: of the transport. status: in words. lives: in which the
    driver did something, this one included; resets part them. previous: what the one before failed at.
    queue: whose last request is shown; None: no queue is set up."""

    version: int
    status: str
    lives: int
    previous: str
    queue: int | None
    rows: list[Row]


def failure(steps: DriverSteps) -> str:
    """What a driver failed at, in a line; "" where nothing is missing or wrong."""
    failed = [row for row in map(Step._make, steps.rows) if row.done is False]
    # what is missing may be on its way; what is wrong stays so
    worst = next((row for row in failed if row.state == WRONG), None)
    worst = worst or next((row for row in failed if row.step not in REQUEST), None)
    return f"{worst.step} {worst.state}: {worst.note} ({worst.clause})" if worst else ""


def no_checklist(id: str, type: str, others: list[str], what: str = "driver's checklist") -> str:
    """What to say of a device that has no driver's checklist, or other thing of virtio's; others: those that
    have one."""
    which = f"; {', '.join(others)} {'has' if len(others) == 1 else 'have'} one" if others else ""
    return f"{id!r} ({type}) is no virtio device and has no {what}{which}"
