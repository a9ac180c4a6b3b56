"""The table itself: fields, registers, and the checks made when a device class is.

    class regs(Registers):
        STATUS = w1c(0x0C, "what happened", EXPIRED=bit(0, "the period has ended"))
        CTRL = rw(0x04, "control", ENABLE=bit(0), MODE=bits(1, 2, values={0: "off", 1: "once", 2: "on"}))
    DATA = array(4, rw(0x10, "a word"))

`CTRL.ENABLE` is an int (its mask) that knows its place, so `self.r.CTRL & self.regs.CTRL.ENABLE`
reads as a data sheet does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import copy
from typing import Any, ClassVar, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from vmlab.errors import RegisterTableError
from vmlab.hints import meant

__all__ = ["Access", "Field", "Register", "Registers", "array", "bit", "bits", "block"]
__all__ += ["pair64", "rc", "reserved", "ro", "rw", "w1c", "w1s", "wo"]

Access = Literal["ro", "rw", "wo", "w1c", "w1s", "rc", "block"]
_READABLE = frozenset({"ro", "rw", "w1c", "w1s", "rc", "block"})
_WRITABLE = frozenset({"rw", "wo", "w1c", "w1s", "block"})
_WIDTHS = frozenset({8, 16, 32, 64})


class Field(int):
    """Bits of a register. As an int it is the field's mask."""

    name: str
    low: int
    width: int
    doc: str
    access: str | None
    modelled: bool
    #: of an enumerated field: value -> what it means
    values: Mapping[int, str]
    #: bits that the data sheet keeps for later: they read as zero, and what is written there is dropped
    is_reserved: bool

    def of(self, value: int) -> int:
        """The field's value in the register value `value`."""
        return (value & self) >> self.low

    def word(self, value: int) -> str:
        """What the field says in the register value `value`, where it is enumerated; else ""."""
        return self.values.get(self.of(value), "")

    def put(self, value: int, new: int) -> int:
        """`value` with the field set to `new`."""
        return (value & ~self) | ((new << self.low) & self)


def bits(
    low: int,
    width: int = 1,
    doc: str = "",
    *,
    access: Literal["ro", "rw", "w1c", "w1s"] | None = None,
    modelled: bool = True,
    values: Mapping[int, str] | None = None,
) -> Field:
    """`width` bits from bit `low`. `access` overrides the register's; `modelled=False` says that the
    bits are kept but have no effect here: a guest that sets them is told so in the event log. values: what
    the field's values mean, for views: {0: "5 bits", 1: "6 bits"}; not every one needs a word."""
    if low < 0 or width <= 0:
        raise RegisterTableError(f"a field of {width} bits from bit {low} has no bits")
    for value, word in (values or {}).items():
        if type(value) is not int or not 0 <= value < 1 << width:
            raise RegisterTableError(f"{value!r:.40} is no value of a field of {width} bits")
        if not word or type(word) is not str:
            raise RegisterTableError(f"the value {value} of a field: {word!r:.40} is no word")
    made = Field(((1 << width) - 1) << low)
    made.low, made.width, made.doc = low, width, doc
    made.access, made.modelled, made.name = access, modelled, ""
    made.values, made.is_reserved = dict(values or {}), False
    return made


def reserved(low: int, width: int = 1, doc: str = "reserved") -> Field:
    """Bits that mean nothing yet: they read as zero and ignore what is written there."""
    made = bits(low, width, doc)
    made.is_reserved = True
    return made


def bit(
    low: int,
    doc: str = "",
    *,
    access: Literal["ro", "rw", "w1c", "w1s"] | None = None,
    modelled: bool = True,
    values: Mapping[int, str] | None = None,
) -> Field:
    """One bit; see `bits`."""
    return bits(low, 1, doc, access=access, modelled=modelled, values=values)


class Register(Struct, frozen=True, dict=True):
    """One row of a table. Offsets and sizes in bytes, `width` in bits.

    when: (selector register, mask, value): the row is there only while `selector & mask` is the value,
    or one of several (16550 DLAB). banked_by: (selector register, count): one value per selector
    value (virtio's QueueSel); a selector out of range reads 0 and ignores writes.
    """

    offset: int
    doc: str
    access: Access
    width: int = 32
    reset: int = 0
    spec: str = ""
    when: tuple[str, int, int | Collection[int]] | None = None
    banked_by: tuple[str, int] | None = None
    #: length in bytes; differs from width // 8 only for a block
    size: int = 4
    pair: str = ""
    #: of an `array`: how many there are, and bytes from one to the next
    count: int = 0
    stride: int = 0
    #: of one of an array's: (the array's name, its index)
    element: tuple[str, int] | None = None
    fields: Mapping[str, Field] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        # fields as plain attributes: handlers name them on every access
        for name, one in self.fields.items():
            self.__dict__.setdefault(name, one)

    def __getattr__(self, name: str) -> Field:
        raise AttributeError(f"register {self.name} has no field {name}")

    @property
    def readable(self) -> bool:
        return self.access in _READABLE

    @property
    def writable(self) -> bool:
        return self.access in _WRITABLE

    @property
    def selected(self) -> frozenset[int]:
        """The values of `when`."""
        values = self.when[2] if self.when else ()
        return frozenset({values} if isinstance(values, int) else values)

    @property
    def mask(self) -> int:
        return (1 << self.width) - 1

    def masks(self) -> tuple[int, int, int]:
        """(stored as written, write 1 to clear, not modelled): which bits a write changes, and how."""
        missing = 0
        for bits in self.fields.values():
            if not bits.modelled:
                missing |= bits
        return self._bits("rw", "wo"), self._bits("w1c"), int(missing)

    @property
    def sets(self) -> int:
        """The bits that writing a 1 sets."""
        return self._bits("w1s")

    def _bits(self, *kinds: str) -> int:
        """The bits whose access is one of these."""
        found = self.mask if self.access in kinds else 0
        for bits in self.fields.values():
            if bits.is_reserved:
                found &= ~bits
            elif bits.access is not None:
                found = found | bits if bits.access in kinds else found & ~bits
        return int(found)


_OPTIONS = ("reset", "spec", "when", "banked_by")


def _make(access: Access, offset: int, doc: str, width: int, options: dict[str, Any]) -> Register:
    for what, number in (("offset", offset), ("width", width), ("reset", options.get("reset", 0))):
        if not isinstance(number, int):
            raise RegisterTableError(
                f"{what}={number!r:.40} of a register: it must be a whole number"
            )
    fields = {}
    for name in [key for key, value in options.items() if isinstance(value, Field)]:
        # a copy: one description may serve several registers, under a name in each
        one = copy(options.pop(name))
        one.name = name
        fields[name] = one
    try:
        return Register(offset, doc, access, width, size=width // 8, fields=fields, **options)
    except TypeError as error:
        near = [meant(name, _OPTIONS) for name in options if name not in _OPTIONS]
        hint = f"; did you mean {near[0]!r}?" if near and near[0] else ""
        raise RegisterTableError(f"register at {offset:#x}: {error}{hint}") from None


def ro(offset: int, doc: str = "", width: int = 32, **options: Any) -> Register:
    """Read only. Options of all kinds: reset, spec, when, banked_by, and fields by name."""
    return _make("ro", offset, doc, width, options)


def rw(offset: int, doc: str = "", width: int = 32, **options: Any) -> Register:
    """Reads back what was written."""
    return _make("rw", offset, doc, width, options)


def wo(offset: int, doc: str = "", width: int = 32, **options: Any) -> Register:
    """Write only; reads as zero."""
    return _make("wo", offset, doc, width, options)


def w1c(offset: int, doc: str = "", width: int = 32, **options: Any) -> Register:
    """Writing a 1 clears that bit."""
    return _make("w1c", offset, doc, width, options)


def w1s(offset: int, doc: str = "", width: int = 32, **options: Any) -> Register:
    """Writing a 1 sets that bit; the device clears it."""
    return _make("w1s", offset, doc, width, options)


def rc(offset: int, doc: str = "", width: int = 32, **options: Any) -> Register:
    """Reading clears it."""
    return _make("rc", offset, doc, width, options)


def block(offset: int, size: int, doc: str = "", **options: Any) -> Register:
    """`size` bytes whose inside the device decodes (a configuration space): its handlers take
    (offset in the block, size of the access[, value])."""
    return replace(_make("block", offset, doc, 8, options), size=size)


def pair64(offset: int, doc: str = "", **options: Any) -> Register:
    """A 64-bit value in two 32-bit halves, low first: NAMELow at `offset`, NAMEHigh behind it; the
    whole is `r.NAME`."""
    return replace(rw(offset, doc, 32, **options), pair="whole")


def array(count: int, first: Register, stride: int = 0) -> Register:
    """`count` registers like `first`, one every `stride` bytes (0: side by side): NAME0, NAME1, ... in
    tables, `self.r.NAME[i]` in the device. Handlers for all of them take the index first:

        DATA = array(4, rw(0x10, "a word"))

        @on_write("DATA")
        def write(self, index: int, value: int) -> None: ...
    """
    for what, number, least in (("count", count, 1), ("stride", stride, 0)):
        if type(number) is not int or number < least:
            raise RegisterTableError(
                f"{what}={number!r:.40} of an array: a whole number from {least}"
            )
    if first.access == "block" or first.pair or first.banked_by or first.count:
        raise RegisterTableError("an array is of plain registers: no block, no pair, no banks")
    return replace(first, count=count, stride=stride or first.size)


_ATTRIBUTES = frozenset(dir(Register)) | {"name"}


class Registers:
    """The base of every table. `class regs(Registers, strict=True)` accepts no access that is not
    exactly one register; otherwise a narrower access takes part of a register and a wider one
    takes several."""

    table: ClassVar[tuple[Register, ...]] = ()
    by_name: ClassVar[dict[str, Register]] = {}
    pairs: ClassVar[tuple[str, ...]] = ()
    #: name -> the names of its registers
    arrays: ClassVar[dict[str, tuple[str, ...]]] = {}
    strict: ClassVar[bool] = False

    def __init_subclass__(cls, strict: bool = False, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.strict = strict or cls.strict
        rows: dict[str, Register] = dict(cls.by_name)
        pairs, arrays = list(cls.pairs), dict(cls.arrays)
        for name, value in list(vars(cls).items()):
            if not isinstance(value, Register):
                continue
            if value.pair:
                if not 0 <= value.reset < 1 << 64:
                    raise RegisterTableError(
                        f"{cls.__qualname__}.{name}: reset value {value.reset:#x} does not fit 64 bits"
                    )
                pairs.append(name)
                halves = (("Low", 0, value.reset), ("High", 4, value.reset >> 32))
                for suffix, step, reset in halves:
                    half = replace(
                        value,
                        name=name + suffix,
                        offset=value.offset + step,
                        reset=reset & 0xFFFF_FFFF,
                        pair=name,
                    )
                    rows[half.name] = half
                    setattr(cls, half.name, half)
            elif value.count:
                setattr(cls, name, replace(value, name=name))
                for index in range(value.count):
                    each = replace(
                        value,
                        name=f"{name}{index}",
                        offset=value.offset + index * value.stride,
                        count=0,
                        element=(name, index),
                    )
                    if each.name in rows or each.name in vars(cls):
                        raise RegisterTableError(
                            f"{cls.__qualname__}.{name}: there is a register {each.name} already"
                        )
                    rows[each.name] = each
                arrays[name] = tuple(f"{name}{index}" for index in range(value.count))
            else:
                named = replace(value, name=name)
                rows[name] = named
                setattr(cls, name, named)
        cls.by_name = rows
        cls.pairs, cls.arrays = tuple(pairs), arrays
        cls.table = tuple(sorted(rows.values(), key=lambda row: (row.offset, row.name)))
        _check(cls)


def _check(cls: type[Registers]) -> None:
    where = cls.__qualname__
    for row in cls.table:
        _check_row(where, row, cls.by_name)
    for index, row in enumerate(cls.table):
        for other in cls.table[index + 1 :]:
            if other.offset >= row.offset + row.size:
                break
            if not _exclusive(row, other):
                raise RegisterTableError(
                    f"{where}: {row.name} at {row.offset:#x} and {other.name} at {other.offset:#x} overlap"
                )


def _check_row(where: str, row: Register, rows: Mapping[str, Register]) -> None:
    for problem in (*_row_problems(row), *_field_problems(row), *_selector_problems(row, rows)):
        raise RegisterTableError(f"{where}.{row.name} at {row.offset:#x}: {problem}")


def _row_problems(row: Register) -> Iterator[str]:
    if row.offset < 0 or row.size <= 0:
        yield "an offset must not be negative, a size not zero"
    elif row.width not in _WIDTHS:
        yield f"a width of {row.width} bits; it must be 8, 16, 32 or 64"
    elif row.access != "block" and row.offset % (row.width // 8):
        yield f"not aligned to its width of {row.width} bits"
    elif not 0 <= row.reset <= row.mask:
        yield f"reset value {row.reset:#x} does not fit {row.width} bits"


def _field_problems(row: Register) -> Iterator[str]:
    taken = 0
    for one in row.fields.values():
        if one.name in _ATTRIBUTES:
            yield f"field {one.name} would be hidden by that property of the register"
        if one & ~row.mask:
            yield f"field {one.name} lies outside its {row.width} bits"
        if taken & one:
            yield f"field {one.name} overlaps another"
        taken |= one
        if one.is_reserved and row.reset & one:
            yield f"the reset value {row.reset:#x} sets reserved bits of {one.name}"
        if one.access in ("rw", "w1c", "w1s") and row.access in ("ro", "rc"):
            yield f"field {one.name} is {one.access} in a register that is {row.access}"


def _selector_problems(row: Register, rows: Mapping[str, Register]) -> Iterator[str]:
    if row.access == "block" and (row.when or row.banked_by):
        yield "a block is always there and has no banks; its handlers decode it"
    if row.when:
        selector, mask, _ = row.when
        if selector not in rows or rows[selector].when or rows[selector].banked_by:
            yield f"its selector {selector} is not an unconditional register of the table"
        if not row.selected or any(value & ~mask for value in row.selected):
            yield f"it is never there: {selector} & {mask:#x} has no such value"
    if row.banked_by:
        selector, count = row.banked_by
        if selector not in rows or rows[selector].banked_by:
            yield f"its selector {selector} is not in the table, or has banks itself"
        if count <= 0:
            yield f"{count} banks; there must be one at least"


def _exclusive(a: Register, b: Register) -> bool:
    """Whether the two can share an offset: one read and one written, or never there together."""
    if not (a.readable and b.readable) and not (a.writable and b.writable):
        return a.offset == b.offset and a.size == b.size
    if a.when and b.when and a.when[:2] == b.when[:2]:
        return a.selected.isdisjoint(b.selected)
    return False
