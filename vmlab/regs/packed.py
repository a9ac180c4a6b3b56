"""Structures that the guest sees in memory: little endian, without padding.

class Config(Packed):
    capacity = u64("in sectors of 512 bytes")
    seg_max = u32("segments of one request")
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

__all__ = ["Packed", "array", "u8", "u16", "u32", "u64"]


class _Cell:
    def __init__(self, form: str, doc: str) -> None:
        self.form = form
        self.doc = doc


def u8(doc: str = "") -> Any:
    return _Cell("B", doc)


def u16(doc: str = "") -> Any:
    return _Cell("H", doc)


def u32(doc: str = "") -> Any:
    return _Cell("I", doc)


def u64(doc: str = "") -> Any:
    return _Cell("Q", doc)


def array(size: int, doc: str = "") -> Any:
    """`size` bytes, as bytes."""
    return _Cell(f"{size}s", doc)


class Packed:
    """Fields in the order of the class; unset ones are zero. `bytes(record)`, `Packed.parse(data)`."""

    _cells: ClassVar[dict[str, _Cell]] = {}
    _struct: ClassVar[struct.Struct] = struct.Struct("<")
    size: ClassVar[int] = 0

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        own = {name: cell for name, cell in vars(cls).items() if isinstance(cell, _Cell)}
        for name in own:
            delattr(cls, name)
        cls._cells = cls._cells | own
        cls._struct = struct.Struct("<" + "".join(cell.form for cell in cls._cells.values()))
        cls.size = cls._struct.size

    def __init__(self, **values: Any) -> None:
        for name, cell in self._cells.items():
            setattr(self, name, values.pop(name, b"" if cell.form.endswith("s") else 0))
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    @classmethod
    def parse(cls, data: bytes | memoryview, offset: int = 0) -> Any:
        """The record at `offset`; struct.error when `data` is too short."""
        self = cls.__new__(cls)
        for name, value in zip(cls._cells, cls._struct.unpack_from(data, offset), strict=True):
            setattr(self, name, value)
        return self

    def __bytes__(self) -> bytes:
        return self._struct.pack(*(getattr(self, name) for name in self._cells))

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._cells}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({inside})"
