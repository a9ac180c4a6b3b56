"""Where a device's register values are: its `r`, one slot a register."""

from __future__ import annotations

from typing import Any

from vmlab.regs import Registers

__all__ = ["values_class"]

LOW = 0xFFFF_FFFF


def values_class(regs: type[Registers]) -> type:
    """The class of `r` for the table `regs`. A register with banks is a list, one value a bank."""

    def init(self: Any) -> None:
        for row in regs.table:
            setattr(self, row.name, [row.reset] * row.banked_by[1] if row.banked_by else row.reset)

    space: dict[str, Any] = {
        "__slots__": [row.name for row in regs.table],
        "__init__": init,
    }
    for name in regs.pairs:
        space[name] = _whole(name)
    # what an AttributeError names: Dice.r
    return type(f"{regs.__qualname__.rpartition('.')[0].rpartition('.')[2]}.r", (), space)


def _whole(name: str) -> property:
    low, high = name + "Low", name + "High"

    def get(self: Any) -> Any:
        a, b = getattr(self, low), getattr(self, high)
        if isinstance(a, list):
            return [x | y << 32 for x, y in zip(a, b, strict=True)]
        return a | b << 32

    def put(self: Any, value: Any) -> None:
        banked = isinstance(value, list)
        setattr(self, low, [one & LOW for one in value] if banked else value & LOW)
        setattr(self, high, [one >> 32 & LOW for one in value] if banked else value >> 32 & LOW)

    return property(get, put)
