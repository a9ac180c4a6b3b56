"""How far the driver of a virtio device is, as a list that prints as a table."""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

from vmlab.errors import UnknownName
from vmlab.hints import unknown
from vmlab.virtio.steps import REQUEST, DriverSteps, Step

__all__ = ["Checklist", "Step", "place"]

#: columns of a note
WIDTH = 96
_CELL = "text-align:left;vertical-align:top"


class Checklist(list[Step]):
    """The steps of a driver's set-up, then those of the last request; `checklist["FEATURES_OK"]` is one.

    id, type: of the device. version: of its transport, 1 is the legacy one. status: the words of Status.
    lives: in how many lives the driver did something; a reset parts them. queue: whose last request is
    shown.
    """

    def __init__(self, id: str, type: str, found: DriverSteps) -> None:
        super().__init__(map(Step._make, found.rows))
        self.id, self.type = id, type
        self.version, self.status, self.lives = found.version, found.status, found.lives
        self.previous, self.queue = found.previous, found.queue

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        for step in self:
            if step.step == key:
                return step
        raise UnknownName(unknown("step", key, self._ipython_key_completions_()))

    def _ipython_key_completions_(self) -> list[str]:
        return [step.step for step in self]

    @property
    def setup(self) -> list[Step]:
        """The steps of virtio 1.2 §3.1.1."""
        return [step for step in self if step.step not in REQUEST]

    @property
    def request(self) -> list[Step]:
        """The steps of the last request (§2.7.13, §2.7.14)."""
        return [step for step in self if step.step in REQUEST]

    @property
    def failed(self) -> list[Step]:
        """What is missing or wrong."""
        return [step for step in self if step.done is False]

    @property
    def title(self) -> str:
        """What it is the checklist of, in a line."""
        life = f", life {self.lives}" if self.lives > 1 else ""
        return f"{self.id}: {self.type}, virtio-mmio version {self.version}, Status {self.status}{life}"

    @property
    def _parts(self) -> list[tuple[str, list[Step]]]:
        queue = f" of queue {self.queue}" if self.queue is not None else ""
        return [("set-up", self.setup), (f"last request{queue}", self.request)]

    def __repr__(self) -> str:
        lines = [self.title]
        for name, steps in self._parts:
            lines.append(f"  {name}")
            for step in steps:
                lines += _lines(step)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for name, steps in self._parts:
            rows.append(
                f'<tr><th colspan="4" scope="rowgroup" style="{_CELL}">{escape(name)}</th></tr>'
            )
            rows += ["".join(("<tr>", *map(_cell, _columns(step)), "</tr>")) for step in steps]
        head = "".join(
            f'<th scope="col" style="{_CELL}">{name}</th>'
            for name in ("state", "step", "clause and place", "what was found")
        )
        return (
            f'<table><caption style="{_CELL}">{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )


def place(step: Step) -> str:
    """Where in the guest and when, in words; "" where neither is known."""
    where = f"pc {step.where:#x}" if step.where is not None else ""
    when = f"{step.when:.3f} s" if step.when is not None else ""
    return ", ".join(text for text in (where, when) if text)


def _lines(step: Step) -> list[str]:
    """Two or more: the step, and below it what was found."""
    found = place(step)
    line = f"    {step.state:<9}{step.step:<23}{step.clause}" + (f"  ({found})" if found else "")
    margin = " " * 13
    return [line, *textwrap.wrap(step.note, WIDTH, initial_indent=margin, subsequent_indent=margin)]


def _columns(step: Step) -> tuple[str, str, str, str]:
    mark = "· " if step.done is None else "✓ " if step.done else "✗ "
    return (
        mark + step.state,
        step.step,
        "; ".join(filter(None, (step.clause, place(step)))),
        step.note,
    )


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{escape(text)}</td>'
