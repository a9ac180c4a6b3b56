"""From a register table to what an access runs: one dictionary look-up, then one closure.

Each key is an offset and a size; each closure does the whole access: lock, value, handler,
interrupt level, counters. Accesses of odd sizes are put together when they first happen and kept, up to
a bound, so that a guest cannot make the tables grow for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmlab.core.counters import ROW, Block
from vmlab.errors import RegisterTableError
from vmlab.regs import Register, Registers

if TYPE_CHECKING:
    from vmlab.core.device import Device

__all__ = ["Accessors", "bound_handlers", "check_handlers", "values_class"]

#: composed accesses kept per device and direction
KEPT = 4096

Reader = Callable[[], int]
Writer = Callable[[int], None]
#: how a kind of handler relates to what the guest may do with the register
_KINDS = {"read": "readable", "write": "writable", "peek": ""}


def check_handlers(cls: type[Device]) -> None:
    """RegisterTableError when a handler names no register, or one that its kind cannot serve."""
    for (kind, name), method in cls._handlers.items():
        row = cls.regs.by_name.get(name)
        if row is None:
            raise RegisterTableError(f"{cls.__qualname__}.{method} handles {name}, which is no register")
        if _KINDS[kind] and not getattr(row, _KINDS[kind]):
            raise RegisterTableError(
                f"{cls.__qualname__}.{method} handles the {kind} of {name}, which is {row.access}"
            )
    for row in cls.regs.table:
        if row.offset + row.size > cls.size:
            raise RegisterTableError(
                f"{cls.__qualname__}.{row.name} at {row.offset:#x} lies outside its {cls.size:#x} bytes"
            )


def bound_handlers(device: Device, kind: str, name: str) -> Callable[..., Any] | None:
    method = device._handlers.get((kind, name))
    return getattr(device, method) if method else None


def values_class(regs: type[Registers]) -> type:
    """A class with one slot a register: a device's `r`."""

    def init(self: Any) -> None:
        for row in regs.table:
            setattr(self, row.name, [row.reset] * row.banked_by[1] if row.banked_by else row.reset)

    space: dict[str, Any] = {
        "__slots__": [row.name for row in regs.table],
        "__init__": init,
    }
    for name in regs.pairs:
        space[name] = _whole(name)
    return type("Values", (), space)


def _whole(name: str) -> property:
    low, high = name + "Low", name + "High"

    def get(self: Any) -> Any:
        a, b = getattr(self, low), getattr(self, high)
        if isinstance(a, list):
            return [x | y << 32 for x, y in zip(a, b, strict=True)]
        return a | b << 32

    def put(self: Any, value: int) -> None:
        setattr(self, low, value & 0xFFFF_FFFF)
        setattr(self, high, value >> 32)

    return property(get, put)


class Accessors:
    """The compiled tables of one device."""

    def __init__(self, device: Device, block: Block) -> None:
        self._device = device
        self._block = block
        self._index = {row.name: index for index, row in enumerate(device.regs.table)}
        self._readers: dict[int, Reader] = {}
        self._writers: dict[int, Writer] = {}
        self._names: dict[tuple[int, int, bool], str] = {}
        for row in device.regs.table:
            if row.access == "block":
                continue
            key = row.offset << 4 | row.size
            if key not in self._readers and (found := self._rows(row.offset, row.size, write=False)):
                self._readers[key] = self._reader(found)
            if key not in self._writers and (found := self._rows(row.offset, row.size, write=True)):
                self._writers[key] = self._writer(found)

    # --- what the bus calls ---------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        try:
            reader = self._readers[offset << 4 | size]
        except KeyError:
            reader = self._compose_read(offset, size)
            if len(self._readers) < KEPT:
                self._readers[offset << 4 | size] = reader
        return reader()

    def write(self, offset: int, size: int, value: int) -> None:
        try:
            writer = self._writers[offset << 4 | size]
        except KeyError:
            writer = self._compose_write(offset, size)
            if len(self._writers) < KEPT:
                self._writers[offset << 4 | size] = writer
        writer(value)

    def peek(self, name: str) -> int | None:
        device = self._device
        row = device.regs.by_name.get(name)
        if row is None:
            raise KeyError(f"{device.type} has no register {name}")
        pure = bound_handlers(device, "peek", name)
        if pure is not None:
            return int(pure()) & row.mask
        if not row.readable or row.access == "block":
            return None
        value = getattr(device.r, name)
        if row.banked_by:
            selected = getattr(device.r, row.banked_by[0])
            return int(value[selected]) if selected < row.banked_by[1] else 0
        return int(value)

    def name_at(self, offset: int, size: int, write: bool) -> str:
        rows = self._rows(offset, size, write) or self._pieces(offset, size, write)
        names = [row.name for row in rows if self._there(row)]
        return names[0] if len(names) == 1 else "+".join(names)

    # --- rows -----------------------------------------------------------------------------------

    def _usable(self, row: Register, write: bool) -> bool:
        return row.access != "block" and (row.writable if write else row.readable)

    def _rows(self, offset: int, size: int, write: bool) -> list[Register]:
        """The rows that are exactly [offset, offset + size): several when they exclude each other."""
        return [
            row
            for row in self._device.regs.table
            if row.offset == offset and row.size == size and self._usable(row, write)
        ]

    def _pieces(self, offset: int, size: int, write: bool) -> list[Register]:
        """The rows of which [offset, offset + size) takes any part."""
        if self._device.regs.strict:
            return []
        return [
            row
            for row in self._device.regs.table
            if row.offset < offset + size and offset < row.offset + row.size and self._usable(row, write)
        ]

    def _block_at(self, offset: int, size: int) -> Register | None:
        for row in self._device.regs.table:
            if row.access == "block" and row.offset <= offset and offset + size <= row.offset + row.size:
                return row
        return None

    def _there(self, row: Register) -> bool:
        if row.when is None:
            return True
        name, mask, value = row.when
        return bool(getattr(self._device.r, name) & mask == value)

    # --- whole registers ------------------------------------------------------------------------

    def _reader(self, rows: list[Register]) -> Reader:
        made = [self._read_one(row) for row in rows]
        if rows[0].when is None:
            return made[0]
        return self._choose(rows, made, self._nowhere_read(rows[0].size))

    def _writer(self, rows: list[Register]) -> Writer:
        made = [self._write_one(row) for row in rows]
        if rows[0].when is None:
            return made[0]
        return self._choose(rows, made, self._nowhere_write(rows[0].size))

    def _choose(self, rows: list[Register], made: list[Any], otherwise: Any) -> Any:
        """Of the rows at one offset, the one that is there now."""
        options = list(zip(rows, made, strict=True))
        there = self._there

        def chosen(*value: int) -> Any:
            for row, run in options:
                if there(row):
                    return run(*value)
            return otherwise(*value)

        return chosen

    def _read_one(self, row: Register) -> Reader:
        device, name, mask = self._device, row.name, row.mask
        lock, words, at, size = device.lock, self._block.words, self._block.row(self._index[row.name]), row.size
        action = bound_handlers(device, "read", name)
        pure = bound_handlers(device, "peek", name)
        clears = row.access == "rc"
        settle = self._settle()
        fetch, store = self._storage(row)

        def read() -> int:
            with lock:
                if action is not None:
                    value = action() & mask
                    store(value)
                elif pure is not None:
                    value = pure() & mask
                else:
                    value = fetch()
                if clears:
                    store(0)
                if settle is not None:
                    settle()
                words[at] += 1
                words[at + 2] += size
                return value  # type: ignore[no-any-return]

        return read

    def _write_one(self, row: Register) -> Writer:
        device, name = self._device, row.name
        lock, words, at, size = device.lock, self._block.words, self._block.row(self._index[row.name]), row.size
        action = bound_handlers(device, "write", name)
        stored, clear, missing = row.masks()
        mask, plain = row.mask, stored == row.mask and not missing
        as_written = row.access in ("wo", "w1c")
        settle = self._settle()
        fetch, store = self._storage(row)

        def write(value: int) -> None:
            with lock:
                if plain:
                    new = value & mask
                else:
                    new = fetch()
                    new = (new & ~stored) | (value & stored)
                    new &= ~(value & clear)
                    if value & missing:
                        device.mistake(f"{name}: bits {value & missing:#x} are not modelled")
                store(new)
                if action is not None:
                    action(value if as_written else new)
                if settle is not None:
                    settle()
                words[at + 1] += 1
                words[at + 2] += size

        return write

    def _storage(self, row: Register) -> tuple[Reader, Writer]:
        """How to fetch and store the row's value in `r`."""
        values, name = self._device.r, row.name
        if row.banked_by is None:
            return (lambda: getattr(values, name)), (lambda value: setattr(values, name, value))
        selector, count = row.banked_by

        def fetch() -> int:
            at = getattr(values, selector)
            return getattr(values, name)[at] if at < count else 0  # type: ignore[no-any-return]

        def store(value: int) -> None:
            at = getattr(values, selector)
            if at < count:
                getattr(values, name)[at] = value

        return fetch, store

    def _settle(self) -> Callable[[], None] | None:
        """Drives the line after an access, for devices that say when it is up."""
        device = self._device
        level = getattr(device, "irq_level", None)
        return (lambda: device.irq.set(bool(level()))) if level is not None else None

    # --- everything else ------------------------------------------------------------------------

    def _nowhere_read(self, size: int) -> Reader:
        words, value = self._block.words, self._device.reserved & ((1 << 8 * size) - 1)

        def read() -> int:
            words[0] += 1
            words[2] += size
            return value

        return read

    def _nowhere_write(self, size: int) -> Writer:
        words = self._block.words

        def write(value: int) -> None:
            words[1] += 1
            words[2] += size

        return write

    def _compose_read(self, offset: int, size: int) -> Reader:
        if inside := self._block_at(offset, size):
            return self._block_read(inside, offset - inside.offset, size)
        rows = self._pieces(offset, size, write=False)
        if not rows:
            return self._nowhere_read(size)
        parts = [(row.offset - offset, row, self._read_one(row)) for row in rows]
        words = self._block.words
        mask = (1 << 8 * size) - 1
        there, lock = self._there, self._device.lock

        def read() -> int:
            value, done = 0, 0
            with lock:
                for shift, row, part in parts:
                    if there(row):
                        got = part()
                        value |= got << 8 * shift if shift >= 0 else got >> -8 * shift
                        done += 1
                words[ROW] += max(done - 1, 0)
            return value & mask

        return read

    def _compose_write(self, offset: int, size: int) -> Writer:
        if inside := self._block_at(offset, size):
            return self._block_write(inside, offset - inside.offset, size)
        rows = self._pieces(offset, size, write=True)
        if not rows:
            return self._nowhere_write(size)
        parts = [(row, self._storage(row)[0], self._write_one(row)) for row in rows]
        words, there, lock = self._block.words, self._there, self._device.lock
        mask = (1 << 8 * size) - 1

        def write(value: int) -> None:
            value &= mask
            done = 0
            with lock:
                for row, fetch, part in parts:
                    if not there(row):
                        continue
                    shift = row.offset - offset
                    new, covered = (
                        (value >> 8 * shift, mask >> 8 * shift)
                        if shift >= 0
                        else (value << -8 * shift, mask << -8 * shift)
                    )
                    covered &= row.mask
                    # bytes that were not written keep their value; "write 1 to clear" sees zeroes
                    stored, clear, _ = row.masks()
                    part((new & covered) | (fetch() & ~covered & ~clear & row.mask))
                    done += 1
                words[ROW + 1] += max(done - 1, 0)

        return write

    def _block_read(self, row: Register, offset: int, size: int) -> Reader:
        action = bound_handlers(self._device, "read", row.name)
        lock, words, at = self._device.lock, self._block.words, self._block.row(self._index[row.name])
        mask = (1 << 8 * size) - 1

        def read() -> int:
            with lock:
                value = action(offset, size) & mask if action is not None else 0
                words[at] += 1
                words[at + 2] += size
                return value

        return read

    def _block_write(self, row: Register, offset: int, size: int) -> Writer:
        action = bound_handlers(self._device, "write", row.name)
        lock, words, at = self._device.lock, self._block.words, self._block.row(self._index[row.name])

        def write(value: int) -> None:
            with lock:
                if action is not None:
                    action(offset, size, value)
                words[at + 1] += 1
                words[at + 2] += size

        return write
