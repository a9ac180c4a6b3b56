"""What a paused CPU is doing, on a page: where it stands, its registers and what has moved, who called."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from vmlab.arch.api import Arch
from vmlab.vm.backtrace import Backtrace
from vmlab.vm.disassembly import Listing

__all__ = ["CpuPage"]

#: registers in a line
COLUMNS = 4


class CpuPage:
    """regs: name -> value. changed: names of those that are not what they were when the CPU was shown last.
    flags: register -> the names of its bits that are set. code: around the program counter. backtrace: who
    called."""

    def __init__(
        self,
        title: str,
        arch: Arch,
        regs: Mapping[str, int],
        before: Mapping[str, int] | None,
        code: Listing,
        backtrace: Backtrace,
    ) -> None:
        self.title, self.regs, self.code, self.backtrace = title, dict(regs), code, backtrace
        self.changed = [
            name for name, value in regs.items() if before and before.get(name) != value
        ]
        self.flags = {
            name: [bit_name for bit, bit_name in bits if regs[name] >> bit & 1]
            for name, bits in arch.flags.items()
            if name in regs
        }
        self._digits = 8 if arch.name.endswith("32") else 16

    def _registers(self) -> list[str]:
        """A sign stands before what has changed."""
        cells = [
            f"{'*' if name in self.changed else ' '}{name:>9} {value:0{self._digits}x}"
            for name, value in self.regs.items()
        ]
        return ["  ".join(cells[at : at + COLUMNS]) for at in range(0, len(cells), COLUMNS)]

    def __repr__(self) -> str:
        parts = [self.title, repr(self.code), "", *self._registers()]
        parts += [f"  {name}: {' '.join(bits) or '-'}" for name, bits in self.flags.items()]
        if len(self.backtrace) > 1:
            parts += ["", repr(self.backtrace)]
        if self.changed:
            parts += ["", "* has changed since this CPU was shown last"]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"
