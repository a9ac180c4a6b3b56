"""How far the last request of a driver is (virtio 1.2 §2.7.13, §2.7.14), from the state of its queue: nothing
was noted while it went by, so that it costs a request nothing.
"""

from __future__ import annotations

from vmlab.virtio import steps
from vmlab.virtio.journal import Counts, DrivenWindow
from vmlab.virtio.queue import BrokenRing, Chain, Virtqueue
from vmlab.virtio.registers import DRIVER_OK, NEEDS_RESET, USED_BUFFER
from vmlab.virtio.steps import DONE, MISSING, NOT_YET, WRONG, Step

__all__ = ["request_steps"]

#: a state and a note
_Found = tuple[str, str]


def request_steps(
    window: DrivenWindow, counts: Counts, queue: int | None
) -> tuple[int | None, list[Step]]:
    """(the queue that is shown, the steps of its last request). The caller holds the device's lock."""
    index = _chosen(window) if queue is None else queue
    ready = window.queues.get(index) if index is not None else None
    if ready is None:
        found = dict.fromkeys(steps.REQUEST, (NOT_YET, ""))
        found |= _complained(window, found)
        shown = queue
    else:
        found = _Request(window, counts, index or 0, ready).found()
        shown = index
    return shown, [_row(window, name, *found[name]) for name in steps.REQUEST]


def _row(window: DrivenWindow, name: str, state: str, note: str) -> Step:
    done = {DONE: True, NOT_YET: None}.get(state, False)
    complaints = window.journal.complaints(name)
    mark = complaints[-1].mark if state == WRONG and complaints else None
    if mark is None and name == steps.NOTIFY:
        mark = window.journal.marks.get(name)
    where, when = (mark.where, mark.when) if mark is not None else (None, None)
    return Step(name, f"virtio 1.2 {steps.clause(name)}", done, note, state, where, when)


def _chosen(window: DrivenWindow) -> int | None:
    """The queue to show: one whose requests do not get on, else the one that had the last turn."""
    queues = window.queues
    for index, queue in sorted(queues.items()):
        if queue.owes_notification and not window.is_due(index):
            return index
    # every queue has a turn at DRIVER_OK, also one that is never used
    used = [index for index, queue in queues.items() if queue.published]
    last = window.last_served
    return last if last in used else min(used or queues, default=None)


def _complained(window: DrivenWindow, found: dict[str, _Found]) -> dict[str, _Found]:
    """The steps that the device complained of; those of earlier requests are notes."""
    more: dict[str, _Found] = {}
    broken = window.status_now & NEEDS_RESET
    for name in steps.REQUEST:
        for one in window.journal.complaints(name):
            text = one.text + (f" ({one.times} times)" if one.times > 1 else "")
            now = broken or one.progress == window.progress
            state, note = more.get(name, found[name])
            if name == steps.NOTIFY and "while Status" in one.text:
                text += ": only after DRIVER_OK (§3.1.1)"
                now = not window.status_now & DRIVER_OK
            notes = (text if now else f"before: {text}", note)
            # the device may have complained of what is seen in the rings now
            more[name] = WRONG if now else state, "; ".join(dict.fromkeys(filter(None, notes)))
    return more


class _Request:
    """The last request of a queue that is set up."""

    def __init__(self, window: DrivenWindow, counts: Counts, index: int, queue: Virtqueue) -> None:
        self._window, self._counts = window, counts
        self._index, self._queue = index, queue
        self._avail = queue.published
        #: chains that wait to be taken, and those that the device has
        self._waiting = (self._avail - queue.next_avail) & 0xFFFF
        self._under_way = (queue.next_avail - queue.next_used) & 0xFFFF
        owed, due = queue.owes_notification, window.is_due(index)
        self._unseen = bool(self._waiting) and (owed or due)
        self._stuck = self._unseen and not due
        self._broken = bool(window.status_now & NEEDS_RESET)
        self._live = bool(window.status_now & DRIVER_OK) or window.running

    def found(self) -> dict[str, _Found]:
        found = {
            steps.DESCRIPTORS: self._descriptors(),
            steps.AVAILABLE: self._available(),
            steps.NOTIFY: self._notify(),
            steps.TAKEN: self._taken(),
            steps.USED: self._used(),
            steps.INTERRUPT: self._interrupt(),
            steps.ACK: self._acknowledged(),
        }
        found |= _complained(self._window, found)
        return found

    @property
    def _open(self) -> bool:
        """Whether the last request is not done; chains that a device holds in reserve are none."""
        return self._unseen or bool(self._under_way) or self._broken

    @property
    def _any(self) -> bool:
        """Whether the driver has published anything."""
        return bool(self._avail or self._queue.next_avail)

    def _descriptors(self) -> _Found:
        queue = self._queue
        if not self._any:
            return NOT_YET, ""
        if not self._waiting and not self._broken:
            # its descriptors may be another's by now
            return DONE, f"queue {self._index}, {self._done()}"
        try:
            return DONE, f"queue {self._index}, {_shown(queue.look(queue.next_avail))}"
        except BrokenRing as error:
            return (MISSING if error.in_ring else WRONG), f"queue {self._index}: {error}"

    def _done(self) -> str:
        queue = self._queue
        if not queue.next_used:
            return f"{queue.next_avail} taken"
        head, written = queue.used_entry(queue.next_used - 1)
        return f"the last chain done began at descriptor {head}; {written} bytes written to it"

    def _available(self) -> _Found:
        place = f"avail.idx at {self._queue.areas[1] + 2:#x} is {self._avail}"
        if self._any:
            return DONE, place
        rung = self._counts.notifications
        if rung:
            return MISSING, f"{place}, though QueueNotify was written {_times(rung)}"
        return NOT_YET, place

    def _notify(self) -> _Found:
        rung = self._counts.notifications
        told = f"QueueNotify written {_times(rung)}"
        if not self._any:
            return (DONE, told) if rung and self._live else (NOT_YET, "")
        if self._stuck and self._live and not self._broken:
            last = self._queue.looked_at
            return MISSING, (
                f"the device looked last when avail.idx was {last}, it is {self._avail} now, and"
                " QueueNotify was not written since" if rung else
                f"avail.idx is {self._avail}, and QueueNotify was never written"
            )  # fmt: skip
        if not self._live:
            return NOT_YET, "DRIVER_OK comes first"
        return DONE, told if rung else "the device looked of its own accord"

    def _taken(self) -> _Found:
        count = self._queue.next_avail
        if self._waiting:
            held = f"{self._waiting} wait in queue {self._index}"
            if self._broken:
                return NOT_YET, f"the device takes nothing more: DEVICE_NEEDS_RESET; {held}"
            if self._unseen:
                return NOT_YET, held
            # such as buffers for what is to be received
            return (DONE if count else NOT_YET), f"{count} taken, {held} for the device to use"
        return (DONE, f"{count} taken") if count else (NOT_YET, "")

    def _used(self) -> _Found:
        queue = self._queue
        place = f"used.idx at {queue.areas[2] + 2:#x}"
        if queue.used_index != queue.next_used:
            return WRONG, (
                f"{place} is {queue.used_index}, and the device wrote {queue.next_used}: the driver"
                " wrote into the device area"
            )
        if not queue.next_used:
            return NOT_YET, f"{self._under_way} under way" if self._under_way else ""
        text = f"{place} is {queue.next_used}"
        if self._under_way:
            return NOT_YET, f"{text}; {self._under_way} under way"
        return (NOT_YET if self._stuck else DONE), text

    # --- the interrupt ------------------------------------------------------------------------------

    @property
    def _pending(self) -> bool:
        return bool(self._window.r.InterruptStatus & USED_BUFFER)

    @property
    def _acks(self) -> int:
        return self._counts.writes.get("InterruptACK", 0)

    def _interrupt(self) -> _Found:
        if not self._queue.next_used:
            return NOT_YET, ""
        if self._pending:
            line = self._window.irq
            level = "" if line.number is None else f", line {line.number} is up"
            return DONE, f"InterruptStatus has bit 0{level}"
        if self._open:
            return NOT_YET, ""
        return DONE, self._quiet() or "raised and acknowledged"

    def _quiet(self) -> str:
        """Why there is no interrupt; "" where there was one."""
        if self._queue.interrupts_unwanted:
            return "not wanted: the driver has set VIRTQ_AVAIL_F_NO_INTERRUPT"
        if self._acks:
            return ""
        event = self._queue.used_event
        return f"not wanted before used.idx is {event + 1 & 0xFFFF}" if event is not None else ""

    def _acknowledged(self) -> _Found:
        queue, window = self._queue, self._window
        if not queue.next_used:
            return NOT_YET, ""
        if not self._pending and self._open:
            return NOT_YET, ""
        if not self._pending:
            quiet = self._quiet()
            return (
                DONE,
                f"InterruptACK written {_times(self._acks)}" if not quiet else "nothing to do",
            )
        seen = self._counts.reads.get("InterruptStatus", 0)
        if self._acks and not window.r.InterruptACK & USED_BUFFER:
            return (
                WRONG,
                f"InterruptACK was written {window.r.InterruptACK:#x}, which leaves bit 0 set",
            )
        if self._acks:
            return MISSING, (
                f"InterruptACK was written {_times(self._acks)}, and not for the last interrupt:"
                f" used.idx is {queue.next_used}"
            )
        read = (
            f"InterruptStatus was read {_times(seen)}" if seen else "InterruptStatus was never read"
        )
        return MISSING, (
            f"used.idx has moved to {queue.next_used}, {read} and InterruptACK never written: the line stays"
            " up, and there is no next edge. A driver that polls sets VIRTQ_AVAIL_F_NO_INTERRUPT (§2.7.7)"
        )


def _shown(chain: Chain) -> str:
    count = len(chain.readable) + len(chain.writable)
    return (
        f"the chain from descriptor {chain.head}: {count} buffer{'s' * (count != 1)},"
        f" {chain.readable_size} bytes for the device to read, {chain.writable_size} to write"
    )


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
