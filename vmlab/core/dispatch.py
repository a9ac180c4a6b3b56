"""From a register table to what an access runs: one dictionary look-up, then one closure.

Each key is an offset and a size; each closure does the whole access: lock, value, handler,
interrupt level, counters. It is made when such an access first happens: plugging a device in makes none.
Those of odd sizes and places are kept up to a bound, so that a guest cannot make the tables grow for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Any, ClassVar, Protocol, TypeAlias

from vmlab.core.counters import ROW, Block
from vmlab.core.handlers import no_number
from vmlab.core.irq import IrqLine
from vmlab.errors import UnknownName
from vmlab.hints import unknown
from vmlab.regs import Register, Registers

__all__ = ["Accessors", "bound_handlers"]


Table: TypeAlias = type[Registers]


class Device(Protocol):
    """What is dispatched to: `core.device.Device`, which is made of this module."""

    type: ClassVar[str]
    reserved: ClassVar[int]
    _handlers: ClassVar[dict[tuple[str, str], str]]
    r: Any
    irq: IrqLine
    lock: threading.RLock

    @property
    def regs(self) -> Table: ...

    def mistake(self, text: str) -> None: ...


#: accesses kept per device and direction
KEPT = 4096

Reader = Callable[[], int]
Writer = Callable[[int], None]


def bound_handlers(device: Device, kind: str, name: str) -> Callable[..., Any] | None:
    method = device._handlers.get((kind, name))
    if method:
        return getattr(device, method)  # type: ignore[no-any-return]
    element = device.regs.by_name[name].element
    method = device._handlers.get((kind, element[0])) if element else None
    return partial(getattr(device, method), element[1]) if element and method else None


def _number(handler: Callable[..., Any], kind: str, name: str, value: Any) -> int:
    try:
        return value & -1  # type: ignore[no-any-return]
    except TypeError:
        raise no_number(handler, kind, name, value) from None


def _moved(value: int, at: int) -> int:
    """`value` moved up by `at` bytes, or down."""
    return value << 8 * at if at >= 0 else value >> -8 * at


def _common(row: Register, offset: int, size: int) -> int:
    """How many bytes of the row [offset, offset + size) takes."""
    return min(row.offset + row.size, offset + size) - max(row.offset, offset)


class Accessors:
    """The tables of one device, which its accesses fill."""

    def __init__(self, device: Device, block: Block) -> None:
        self._device = device
        self._block = block
        self._index = {row.name: index for index, row in enumerate(device.regs.table)}
        #: those of registers are always kept
        self._room = KEPT - len(self._index)
        self._readers: dict[int, Reader] = {}
        self._writers: dict[int, Writer] = {}
        #: where and how wide -> the name, or the rows that take turns there
        self._named: dict[int, str | list[Register]] = {}

    # --- what the bus calls ---------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        try:
            reader = self._readers[offset << 4 | size]
        except KeyError:
            reader = self._new_reader(offset, size)
        return reader()

    def write(self, offset: int, size: int, value: int) -> None:
        try:
            writer = self._writers[offset << 4 | size]
        except KeyError:
            writer = self._new_writer(offset, size)
        writer(value)

    def _new_reader(self, offset: int, size: int) -> Reader:
        rows = self._rows(offset, size, write=False)
        reader = self._reader(rows) if rows else self._compose_read(offset, size)
        if rows or len(self._readers) < self._room:
            self._readers[offset << 4 | size] = reader
        return reader

    def _new_writer(self, offset: int, size: int) -> Writer:
        rows = self._rows(offset, size, write=True)
        writer = self._writer(rows) if rows else self._compose_write(offset, size)
        if rows or len(self._writers) < self._room:
            self._writers[offset << 4 | size] = writer
        return writer

    def peek(self, name: str) -> int | None:
        device = self._device
        row = device.regs.by_name.get(name)
        if row is None:
            raise UnknownName(f"{device.type} has {unknown('register', name, device.regs.by_name)}")
        pure = bound_handlers(device, "peek", name)
        with device.lock:
            if pure is not None:
                return _number(pure, "peek", name, pure()) & row.mask
            if not row.readable or row.access == "block":
                return None
            return int(self._storage(row)[0]())

    def name_at(self, offset: int, size: int, write: bool) -> str:
        key = offset << 5 | size << 1 | write
        found = self._named.get(key)
        if found is None:
            rows = self._rows(offset, size, write) or self._pieces(offset, size, write)
            banked = any(row.when is not None for row in rows)
            found = rows if banked else "+".join(row.name for row in rows)
            if len(self._named) < KEPT:
                self._named[key] = found
        if isinstance(found, str):
            return found
        return "+".join(row.name for row in found if self._there(row))

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
            if row.offset < offset + size
            and offset < row.offset + row.size
            and self._usable(row, write)
        ]

    def _block_at(self, offset: int, size: int) -> Register | None:
        for row in self._device.regs.table:
            if (
                row.access == "block"
                and row.offset <= offset
                and offset + size <= row.offset + row.size
            ):
                return row
        return None

    def _there(self, row: Register) -> bool:
        if row.when is None:
            return True
        name, mask, _ = row.when
        return getattr(self._device.r, name) & mask in row.selected

    # --- whole registers ------------------------------------------------------------------------

    def _reader(self, rows: list[Register]) -> Reader:
        first = rows[0]
        if first.when is None:
            return self._read_one(first)
        values, (name, mask, _) = self._device.r, first.when
        otherwise = self._compose_read(first.offset, first.size)
        made: dict[int, Reader] = {}
        for row in rows:
            made |= dict.fromkeys(row.selected, self._read_one(row))

        def read() -> int:
            return made.get(getattr(values, name) & mask, otherwise)()

        return read

    def _writer(self, rows: list[Register]) -> Writer:
        first = rows[0]
        if first.when is None:
            return self._write_one(first)
        values, (name, mask, _) = self._device.r, first.when
        otherwise = self._compose_write(first.offset, first.size)
        made: dict[int, Writer] = {}
        for row in rows:
            made |= dict.fromkeys(row.selected, self._write_one(row))

        def write(value: int) -> None:
            made.get(getattr(values, name) & mask, otherwise)(value)

        return write

    def _read_one(self, row: Register, size: int = 0) -> Reader:
        """Read the row; `size`: the bytes to count, when not all of its."""
        device, name, mask = self._device, row.name, row.mask
        lock, words, reads, _, moved = self._counting(row)
        size = size or row.size
        action = bound_handlers(device, "read", name)
        pure = bound_handlers(device, "peek", name)
        clears = row.access == "rc"
        settle = self._settle()
        fetch, store = self._storage(row)

        def read() -> int:
            with lock:
                value: int
                if action is not None:
                    answer = action()
                    try:
                        value = answer & mask
                    except TypeError:
                        raise no_number(action, "read", name, answer) from None
                    store(value)
                elif pure is not None:
                    answer = pure()
                    try:
                        value = answer & mask
                    except TypeError:
                        raise no_number(pure, "peek", name, answer) from None
                else:
                    value = fetch()
                if clears:
                    store(0)
                if settle is not None:
                    settle()
                words[reads] += 1
                words[moved] += size
                return value

        return read

    def _write_one(self, row: Register, size: int = 0) -> Writer:
        """Write the row; `size`: the bytes to count, when not all of its."""
        device, name = self._device, row.name
        lock, words, _, writes, moved = self._counting(row)
        size = size or row.size
        action = bound_handlers(device, "write", name)
        (stored, clear, missing), sets = row.masks(), row.sets
        mask, plain = row.mask, stored == row.mask and not missing
        as_written = row.access in ("wo", "w1c", "w1s")
        settle = self._settle()
        fetch, store = self._storage(row)

        def write(value: int) -> None:
            with lock:
                new = value = value & mask
                if not plain:
                    old = fetch()
                    new = (old & ~stored | value & stored) & ~(value & clear) | value & sets
                    if told := value & missing & ~old:
                        device.mistake(f"{name}: bits {told:#x} are not modelled")
                store(new)
                if action is not None:
                    action(value if as_written else new)
                if settle is not None:
                    settle()
                words[writes] += 1
                words[moved] += size

        return write

    def _storage(self, row: Register) -> tuple[Reader, Writer]:
        """How to fetch and store the row's value in `r`."""
        values, name = self._device.r, row.name
        if row.banked_by is None:
            return (lambda: getattr(values, name)), (lambda value: setattr(values, name, value))
        selector, count = row.banked_by

        def fetch() -> int:
            at = getattr(values, selector)
            value: int = getattr(values, name)[at] if at < count else 0
            return value

        def store(value: int) -> None:
            at = getattr(values, selector)
            if at < count:
                getattr(values, name)[at] = value

        return fetch, store

    def _counting(self, row: Register) -> tuple[RLock, memoryview, int, int, int]:
        """The device's lock, the words to count in, and where the row's are: reads, writes, bytes."""
        first = self._block.row(self._index[row.name])
        return self._device.lock, self._block.words, first, first + 1, first + 2

    def _settle(self) -> Callable[[], None] | None:
        """Drives the line after an access, for devices that say when it is up."""
        device = self._device
        level = getattr(device, "irq_level", None)
        return (lambda: device.irq.set(bool(level()))) if level is not None else None

    # --- everything else ------------------------------------------------------------------------

    def _nowhere_read(self, size: int) -> Reader:
        words, lock = self._block.words, self._device.lock
        value = self._device.reserved & ((1 << 8 * size) - 1)

        def read() -> int:
            with lock:
                words[0] += 1
                words[2] += size
            return value

        return read

    def _nowhere_write(self, size: int) -> Writer:
        words, lock = self._block.words, self._device.lock

        def write(value: int) -> None:
            with lock:
                words[1] += 1
                words[2] += size

        return write

    def _compose_read(self, offset: int, size: int) -> Reader:
        if inside := self._block_at(offset, size):
            return self._block_read(inside, offset - inside.offset, size)
        rows = self._pieces(offset, size, write=False)
        nowhere = self._nowhere_read(size)
        if not rows:
            return nowhere
        parts = [
            (row.offset - offset, row, count, self._read_one(row, count))
            for row in rows
            for count in [_common(row, offset, size)]
        ]
        words, mask, reserved = self._block.words, (1 << 8 * size) - 1, self._device.reserved
        there, lock = self._there, self._device.lock

        def read() -> int:
            value, done, left = reserved, 0, size
            with lock:
                for at, row, count, part in parts:
                    if there(row):
                        value = value & ~_moved(row.mask, at) | _moved(part(), at)
                        done, left = done + 1, left - count
                if not done:
                    return nowhere()
                words[ROW] += done - 1
                words[2] += left
            return value & mask

        return read

    def _compose_write(self, offset: int, size: int) -> Writer:
        if inside := self._block_at(offset, size):
            return self._block_write(inside, offset - inside.offset, size)
        rows = self._pieces(offset, size, write=True)
        nowhere = self._nowhere_write(size)
        if not rows:
            return nowhere
        parts = [
            (row, *self._taken(row, offset, size), count, self._write_one(row, count))
            for row in rows
            for count in [_common(row, offset, size)]
        ]
        words, there, lock = self._block.words, self._there, self._device.lock

        def write(value: int) -> None:
            done, left = 0, size
            with lock:
                for row, fetch, at, taken, kept, count, part in parts:
                    if there(row):
                        part(_moved(value, at) & taken | fetch() & kept)
                        done, left = done + 1, left - count
                if done:
                    words[ROW + 1] += done - 1
                    words[2] += left
                else:
                    nowhere(value)

        return write

    def _taken(self, row: Register, offset: int, size: int) -> tuple[Reader, int, int, int]:
        """For a write of some of the row's bytes: (its value now, bytes to move what is written by,
        the bits taken from that, the bits that stay as they are)."""
        at = offset - row.offset
        taken = _moved((1 << 8 * size) - 1, at) & row.mask
        _, clear, _ = row.masks()
        # what cannot be read back, or would be cleared or set by writing it back, is written as zero
        kept = row.mask & ~taken & ~clear & ~row.sets if row.readable else 0
        return self._storage(row)[0], at, taken, kept

    def _block_read(self, row: Register, offset: int, size: int) -> Reader:
        action = bound_handlers(self._device, "read", row.name)
        lock, words, reads, _, moved = self._counting(row)
        mask, settle = (1 << 8 * size) - 1, self._settle()

        def read() -> int:
            with lock:
                answer = action(offset, size) if action is not None else 0
                try:
                    value: int = answer & mask
                except TypeError:
                    raise no_number(action or read, "read", row.name, answer) from None
                if settle is not None:
                    settle()
                words[reads] += 1
                words[moved] += size
                return value

        return read

    def _block_write(self, row: Register, offset: int, size: int) -> Writer:
        action = bound_handlers(self._device, "write", row.name)
        lock, words, _, writes, moved = self._counting(row)
        mask, settle = (1 << 8 * size) - 1, self._settle()

        def write(value: int) -> None:
            with lock:
                if action is not None:
                    action(offset, size, value & mask)
                if settle is not None:
                    settle()
                words[writes] += 1
                words[moved] += size

        return write
