"""Register values and what became of them, for the devices whose registers are on screen."""

from __future__ import annotations

from typing import Any

from vmlab.core.counters import DeviceCounts
from vmlab.machine.config import DeviceEntry, FieldEntry, RegisterEntry
from vmlab.virtio.steps import REQUEST, DriverSteps
from vmlab.vm.checklist import Checklist, place

__all__ = ["RegisterWatch", "grouped"]

#: what a device may show beside its registers; it is the user's, so of any length
ATTRIBUTES, TEXT = 24, 160
#: characters of a step's note, which a device's words may be part of
NOTE = 600


def grouped(value: int, width: int) -> str:
    """Hexadecimal as wide as the register, in groups of four."""
    digits = f"{value & ((1 << width) - 1):0{max(width // 4, 1)}x}"
    first = len(digits) % 4
    groups = [digits[:first]] * bool(first)
    groups += [digits[at : at + 4] for at in range(first, len(digits), 4)]
    return "0x" + "_".join(groups)


class RegisterWatch:
    """The last values by `peek` and the last access of each register, by device id."""

    def __init__(self) -> None:
        #: one more whenever a value has changed
        self.version = 0
        self._values: dict[str, tuple[dict[str, int], dict[str, Any], str]] = {}
        self._checklists: dict[str, DriverSteps] = {}
        self._counts: dict[str, dict[str, tuple[int, int]]] = {}
        self._last: dict[str, dict[str, str]] = {}

    def keep(self, id: str, registers: dict[str, int], attributes: dict[str, Any]) -> None:
        self._take(id, (registers, attributes, ""))

    def keep_checklist(self, id: str, found: DriverSteps) -> None:
        """How far the driver of a virtio device is."""
        if self._checklists.get(id) != found:
            self._checklists[id] = found
            self.version += 1

    def fail(self, id: str, why: str) -> None:
        self._take(id, ({}, {}, why))

    def _take(self, id: str, found: tuple[dict[str, int], dict[str, Any], str]) -> None:
        if self._values.get(id) != found:
            self._values[id] = found
            self.version += 1

    def count(self, counts: dict[str, DeviceCounts], clock: float) -> None:
        """Note which registers were accessed since the last look, and when that was."""
        for id, one in counts.items():
            before = self._counts.get(id)
            now = {name: (reg.reads, reg.writes) for name, reg in one.registers.items()}
            if before is not None and before != now:
                last = self._last.setdefault(id, {})
                for name, (reads, writes) in now.items():
                    old = before.get(name, (0, 0))
                    what = [
                        word
                        for word, new, was in (
                            ("read", reads, old[0]),
                            ("written", writes, old[1]),
                        )
                        if new > was
                    ]
                    if what:
                        last[name] = f"{' and '.join(what)} at {clock:.1f} s"
            self._counts[id] = now
        for gone in self._counts.keys() - counts.keys():
            del self._counts[gone]
            self._last.pop(gone, None)
            self._values.pop(gone, None)
            self._checklists.pop(gone, None)

    def shown(self, entry: DeviceEntry, counts: DeviceCounts) -> dict[str, Any]:
        values, attributes, trouble = self._values.get(entry.id, ({}, {}, ""))
        return {
            "rows": [
                self._row(entry.id, one, values.get(one.name), counts) for one in entry.registers
            ],
            "attributes": {
                str(name)[:TEXT]: (value if isinstance(value, str) else repr(value))[:TEXT]
                for name, value in list(attributes.items())[:ATTRIBUTES]
            },
            "trouble": trouble,
            "checklist": self._checklist(entry),
        }

    def _checklist(self, entry: DeviceEntry) -> dict[str, Any] | None:
        found = self._checklists.get(entry.id)
        if found is None:
            return None
        shown = Checklist(entry.id, entry.type, found)
        return {
            "title": shown.title,
            "steps": [
                {
                    "step": step.step,
                    "clause": step.clause,
                    "state": step.state,
                    "note": step.note[:NOTE],
                    "place": place(step),
                    "request": step.step in REQUEST,
                }
                for step in shown
            ],
        }

    def _row(
        self, id: str, one: RegisterEntry, value: int | None, counts: DeviceCounts
    ) -> dict[str, Any]:
        count = counts.registers.get(one.name)
        return {
            "name": one.name,
            "offset": one.offset,
            "width": one.width,
            "access": one.access,
            "doc": one.doc,
            "spec": one.spec,
            "value": None if value is None else grouped(value, one.width),
            "reads": count.reads if count else 0,
            "writes": count.writes if count else 0,
            "last": self._last.get(id, {}).get(one.name, ""),
            "fields": [
                {
                    "name": bits.name,
                    "low": bits.low,
                    "width": bits.width,
                    "doc": bits.doc,
                    **_field(bits, value),
                }
                for bits in one.fields
                if not bits.reserved
            ],
        }


def _field(bits: FieldEntry, value: int | None) -> dict[str, str | None]:
    """value: its number; word: what that means, of an enumerated field."""
    if value is None:
        return {"value": None, "word": ""}
    number = (value >> bits.low) & ((1 << bits.width) - 1)
    return {"value": hex(number), "word": bits.values.get(number, "")}
