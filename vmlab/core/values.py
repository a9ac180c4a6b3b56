"""Where a device's register values are: its `r`, one slot a register."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, overload

from vmlab.hints import meant
from vmlab.regs import Registers

__all__ = ["Values", "mended", "values_class"]

LOW = 0xFFFF_FFFF


class Values:
    """The base of them all. `__regs__`: the table; from it another process makes the class anew."""

    __slots__: Sequence[str] = ()
    __regs__: type[Registers]


def values_class(regs: type[Registers], name: str = "") -> type[Values]:
    """The class of `r` for the table `regs`. A register with banks is a list, one value a bank."""

    def init(self: Any) -> None:
        for row in regs.table:
            setattr(self, row.name, [row.reset] * row.banked_by[1] if row.banked_by else row.reset)

    space: dict[str, Any] = {
        "__slots__": [row.name for row in regs.table],
        "__init__": init,
        "__regs__": regs,
    }
    for name in regs.pairs:
        space[name] = _whole(name)
    for name, elements in regs.arrays.items():
        space[name] = _elements(elements)
    # what an AttributeError names: Dice.r
    name = name or f"{regs.__qualname__.rpartition('.')[0].rpartition('.')[2]}.r"
    return type(name, (Values,), space)


def mended(error: BaseException) -> None:
    """Say in it which register was meant. Here and not in a `__setattr__` of the values, which each
    assignment would pay for."""
    if type(error) is not AttributeError or [type(one) for one in error.args] != [str]:
        return
    found = re.fullmatch(r"'(\w+\.r)' object has no attribute '(\w+)'", error.args[0])
    # the newest: one of the same name may have been written anew
    for one in reversed(Values.__subclasses__()):
        if found and one.__name__ == found[1]:
            if near := meant(found[2], one.__slots__):
                error.args = (f"{error}; did you mean {near!r}?",)
                error.name = ""  # Python says no more
            return


class Elements(Sequence[int]):
    """The values of an array of registers: `self.r.DATA[2] = 7`."""

    __slots__ = ("_names", "_values")

    def __init__(self, values: Values, names: tuple[str, ...]) -> None:
        self._values, self._names = values, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [getattr(self._values, name) for name in self._names[index]]
        value: int = getattr(self._values, self._names[index])
        return value

    def __setitem__(self, index: int, value: int) -> None:
        setattr(self._values, self._names[index], value)

    def __repr__(self) -> str:
        return repr(list(self))


def _elements(names: tuple[str, ...]) -> property:
    def get(self: Any) -> Elements:
        return Elements(self, names)

    def put(self: Any, values: Sequence[int]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(self, name, value)

    return property(get, put)


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
