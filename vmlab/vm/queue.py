"""A virtqueue as people look at it: three parts and whose each descriptor is."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from vmlab.virtio.queue import INDIRECT, NEXT, NO_INTERRUPT, NO_NOTIFY, WRITE
from vmlab.virtio.queue_state import DONE, ChainState, QueueState

__all__ = ["Descriptor", "Queue"]

_FLAGS = {NEXT: "NEXT", WRITE: "WRITE", INDIRECT: "INDIRECT"}
_CELL = "text-align:left;vertical-align:top;padding:0 0.7em 0 0"


class Descriptor(NamedTuple):
    """An entry of the descriptor table (§2.7.5). flags: their names. next: meant only with NEXT. owner:
    "driver", or "device" from when its chain is made available until it is used."""

    number: int
    address: int
    length: int
    flags: tuple[str, ...]
    next: int
    owner: str


class Queue:
    """One virtqueue, as it was when it was asked for. `state` has all of it as plain data."""

    def __init__(self, id: str, type: str, state: QueueState) -> None:
        self.id, self.type, self.state = id, type, state

    @property
    def ready(self) -> bool:
        """Whether the driver has set it up."""
        return self.state.size > 0

    @property
    def size(self) -> int:
        return self.state.size

    @property
    def chains(self) -> list[ChainState]:
        """Those that wait, those at the device, or the last one that was done: `.head .state .descriptors
        .problem`."""
        return self.state.chains

    @property
    def descriptors(self) -> list[Descriptor]:
        """The first of the table, and those of `chains`."""
        held = {number for one in self.chains if one.state != DONE for number in one.descriptors}
        return [
            Descriptor(
                *(number, address, length),
                tuple(name for bit, name in _FLAGS.items() if flags & bit),
                following,
                "device" if number in held else "driver",
            )
            for number, address, length, flags, following in self.state.table
        ]

    # --- as text and as a page ----------------------------------------------------------------------

    @property
    def title(self) -> str:
        """All of it in a sentence."""
        state = self.state
        if not self.ready:
            return f"{self.id} queue {state.index} ({self.type}): the driver has not set it up"
        text = (
            f"{self.id} queue {state.index} ({self.type}): {state.size} entries; {state.waiting} wait,"
            f" {state.at_device} at the device, {state.returned} used"
        )
        return f"{text}; {state.problem}" if state.problem else text

    def _parts(self) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
        """(caption, heads, rows) of each table."""
        if not self.ready:
            return []
        state = self.state
        return [
            (
                "requests",
                ("from descriptor", "where", "descriptors", "problem"),
                [
                    (str(one.head), one.state, " ".join(map(str, one.descriptors)), one.problem)
                    for one in self.chains
                ],
            ),
            (
                f"descriptor table at {state.areas[0]:#x}" + self._left(len(self._written)),
                ("number", "address", "bytes", "flags", "next", "whose"),
                [
                    (
                        *(str(one.number), f"{one.address:#x}", str(one.length)),
                        " ".join(one.flags),
                        str(one.next) if "NEXT" in one.flags else "",
                        one.owner,
                    )
                    for one in self._written
                ],
            ),
            (
                self._ring("available", state.areas[1], *state.available[:2], NO_INTERRUPT),
                ("entry", "descriptor"),
                [tuple(map(str, row)) for row in state.available[2]],
            ),
            (
                self._ring("used", state.areas[2], *state.used[:2], NO_NOTIFY),
                ("entry", "descriptor", "bytes written"),
                [tuple(map(str, row)) for row in state.used[2]],
            ),
        ]

    @property
    def _written(self) -> list[Descriptor]:
        """Without those that are all zeroes and nobody's concern."""
        asked = {number for one in self.chains for number in one.descriptors}
        return [one for one in self.descriptors if any(one[1:5]) or one.number in asked]

    def _left(self, shown: int) -> str:
        left = self.state.size - shown
        return f", {left} of {self.state.size} are not shown" if left else ""

    def _ring(self, name: str, address: int, flags: int, index: int, unwanted: int) -> str:
        state = self.state
        text = f"{name} ring at {address:#x}: idx {index}"
        if flags & unwanted:
            text += f", flags {flags:#x} ({'no interrupt' if name == 'available' else 'no notification'})"
        elif flags:
            text += f", flags {flags:#x}"
        event = state.used_event if name == "available" else state.avail_event
        if event is not None:
            text += f", {'used' if name == 'available' else 'avail'}_event {event}"
        return text

    def __repr__(self) -> str:
        lines = [self.title]
        for caption, heads, rows in self._parts():
            lines.append(f"  {caption}")
            if rows:
                widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
                lines += [
                    "    " + "  ".join(map(str.ljust, row, widths)).rstrip()
                    for row in (heads, *rows)
                ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = []
        for caption, heads, rows in self._parts():
            head = "".join(f'<th scope="col" style="{_CELL}">{escape(one)}</th>' for one in heads)
            body = "".join(_row(row) for row in rows)
            parts.append(
                f'<table style="display:inline-table;vertical-align:top;margin-right:2em">'
                f'<caption style="{_CELL}">{escape(caption)}</caption>'
                f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            )
        return f"<div><p>{escape(self.title)}</p>{''.join(parts)}</div>"


def _row(row: tuple[str, ...]) -> str:
    """The device's own stand out, by weight and by word."""
    weight = ";font-weight:bold" if row[-1] == "device" else ""
    cells = "".join(f'<td style="{_CELL}{weight}">{escape(one)}</td>' for one in row)
    return f"<tr>{cells}</tr>"
