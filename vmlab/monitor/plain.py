"""A device's values as the wire can carry them."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from vmlab.core.safely import short, shown
from vmlab.core.units import show_span
from vmlab.errors import WireError
from vmlab.monitor.wire import MAX_MESSAGE

__all__ = ["Plain"]

#: bytes of one value; of a larger one its size and its beginning are said
VALUE = 4096
#: values in a list or a dict
ITEMS = 1000
#: bytes and values in all: an answer is looked at by a person, and has to fit a message
TOTAL = 1 << 20
#: lists within lists
DEPTH = 4


class Plain:
    """Turns values into plain ones. summed: large ones are summarised, and text is cleaned, as for a view;
    else they stay whole, and an answer that cannot be sent says so."""

    def __init__(self, summed: bool) -> None:
        self._summed = summed
        self._left = TOTAL if summed else MAX_MESSAGE

    def of(self, value: Any, depth: int = DEPTH) -> Any:
        """`value` as the wire can carry it; what it cannot is shown by its repr."""
        self._left -= 8
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return self._number(value)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes(value)
        if depth and isinstance(value, (list, tuple, set, frozenset, deque)):
            return self._items(value, depth)
        if depth and isinstance(value, dict):
            return self._pairs(value, depth)
        return self._spent(short(shown(value), 1000))

    @property
    def _full(self) -> bool:
        if self._left < 0 and not self._summed:
            raise WireError(f"the answer does not fit: more than {show_span(MAX_MESSAGE)}")
        return self._left <= 0

    def _spent(self, text: str) -> str:
        self._left -= len(text)
        return text

    def _number(self, value: int) -> int | str:
        if -(1 << 63) <= value < 1 << 64:
            return int(value)
        bits = value.bit_length()
        return f"a number of {bits:,} bits" if bits > 8 * VALUE else self._spent(hex(value))

    def _text(self, value: str) -> str:
        if not self._summed:
            return self._spent(value)
        if len(value) > VALUE:
            value = f"{len(value):,} characters: {value[:200]}..."
        return self._spent(short(value, VALUE + 1000))

    def _bytes(self, value: bytes | bytearray | memoryview) -> bytes | str:
        size = memoryview(value).nbytes
        if self._summed and size > VALUE:
            return self._spent(f"{show_span(size)} of bytes ({size:,}): {bytes(value[:16])!r}...")
        self._left -= size
        return b"" if self._full else bytes(value)

    def _items(self, value: Any, depth: int) -> list[Any]:
        found: list[Any] = []
        for one in islice(_steady(value), ITEMS if self._summed else None):
            if self._full:
                break
            found.append(self.of(one, depth - 1))
        if self._summed and len(value) > len(found):
            found.append(f"... {len(value):,} in all")
        return found

    def _pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, one in islice(_steady(value.items()), ITEMS if self._summed else None):
            if self._full:
                break
            name = key if isinstance(key, str) else shown(key)
            found[short(name, 200)] = self.of(one, depth - 1)
        if self._summed and len(value) > len(found):
            found["..."] = f"{len(value):,} in all"
        return found


def _steady(values: Any) -> Any:
    """Its values, as long as no other thread changes how many there are."""
    try:
        yield from values
    except RuntimeError:
        return
