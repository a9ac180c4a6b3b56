"""Event logs in files: `Trace.save`, `load_trace`.

The format, version 1. Numbers are little endian.

    8 bytes     b"VMLABTRC"
    4 bytes     version, 1
    parts       each: 1 byte kind, 4 bytes length of the body as it is here, 4 bytes length of the body
                unpacked, 4 bytes CRC-32 of the body unpacked, then the body: MessagePack, packed by zlib

    kind "H"    the first part: a map; "about": text -> text, "events": how many, "dropped": how many more
                there were, "time" of saving: seconds since 1970
    kind "E"    at most 10,000 events: an array each, the fields of `core.trace.TraceRecord` in their order
    kind "N"    at most 10,000 names: [address, "function+0x3a", "file:line"] of each program counter that
                has one
    kind "Z"    the last part: an empty map. A file that ends earlier was cut.

Parts of other kinds are skipped. Readers bound everything: nothing is read because a length says so.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from vmlab.core.safely import named
from vmlab.core.trace import KINDS, TraceRecord
from vmlab.errors import ConfigError
from vmlab.vm.backtrace import Names
from vmlab.vm.trace_event import TraceEvent

__all__ = ["MAX_EVENTS", "VERSION", "check_writable", "load", "save", "written"]

MAGIC, VERSION = b"VMLABTRC", 1
#: events or names of one part
PART = 10_000
#: events and names of a file; bytes of a part, packed and unpacked
MAX_EVENTS, MAX_NAMES = 10_000_000, 1_000_000
MAX_PACKED, MAX_UNPACKED = 16 << 20, 32 << 20
#: characters of any text
MAX_TEXT = 2_500
_PART = struct.Struct("<cIII")
_Name = tuple[int, str, str]
#: what `save` was given, and who names code
Loaded = tuple[list[TraceEvent], dict[str, str], int, Names]


class _Head(msgspec.Struct):
    about: dict[str, str]
    events: int
    dropped: int
    time: float = 0.0


class _Names:
    """As they were when the log was saved."""

    def __init__(self) -> None:
        self.known: dict[int | None, tuple[str, str]] = {}

    def function(self, pc: int | None) -> str:
        return self.known.get(pc, ("", ""))[0]

    def source(self, pc: int | None) -> str:
        return self.known.get(pc, ("", ""))[1]


def save(
    events: list[TraceEvent], about: dict[str, str], dropped: int, path: str | PathLike[str]
) -> None:
    """ConfigError when the file cannot be written."""
    named_at = {event.pc: event for event in events if event.pc is not None}
    names = [(pc, one.function, one.source) for pc, one in sorted(named_at.items())]
    names = [one for one in names if one[1] or one[2]]
    with written(path) as file:
        file.write(MAGIC + VERSION.to_bytes(4, "little"))
        _put(file, b"H", _Head(about, len(events), dropped, time.time()))
        for at in range(0, len(names), PART):
            _put(file, b"N", names[at : at + PART])
        for at in range(0, len(events), PART):
            _put(file, b"E", events[at : at + PART])
        _put(file, b"Z", {})


def _put(file: BinaryIO, kind: bytes, body: Any) -> None:
    plain = msgspec.msgpack.encode(body)
    packed = zlib.compress(plain, 6)
    file.write(_PART.pack(kind, len(packed), len(plain), zlib.crc32(plain)) + packed)


class written:
    """A file that takes its place when all of it is there. ConfigError when it cannot be written."""

    def __init__(self, path: str | PathLike[str], keep: bool = True) -> None:
        self._path, self._keep = Path(path), keep
        self._made = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")

    def __enter__(self) -> BinaryIO:
        try:
            self._file = self._made.open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self._file

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            self._file.close()
            if error is None and self._keep:
                self._made.replace(self._path)
        except OSError as late:
            error = error or late
        if error is not None or not self._keep:
            self._made.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> ConfigError:
        return ConfigError(f"{named(self._path)}: {error.strerror or error}")


def check_writable(path: str | PathLike[str]) -> None:
    """ConfigError when `written` would not take it."""
    if Path(path).is_dir():
        raise ConfigError(f"{named(path)}: it is a folder")
    with written(path, keep=False):
        """Nothing is written."""


# --- reading ----------------------------------------------------------------------------------------------


def load(path: str | PathLike[str]) -> Loaded:
    """ConfigError, with the reason, for a file that is none."""
    place = Path(path)
    try:
        with place.open("rb") as file:
            return _load(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise ConfigError(f"{named(place)}: {error.strerror or error}") from error
    except _Lies as error:
        raise ConfigError(f"{named(place)}: {error}") from error


class _Lies(Exception):
    """What is wrong with the file, in words."""


def _load(file: BinaryIO, size: int) -> Loaded:
    if file.read(8) != MAGIC:
        raise _Lies("no event log that vmlab has saved")
    version = int.from_bytes(file.read(4), "little")
    if version != VERSION:
        raise _Lies(f"an event log of version {version}; this vmlab reads version {VERSION}")
    head: _Head | None = None
    names, events = _Names(), list[TraceEvent]()
    for kind, body in _parts(file, size):
        if (head is None) is not (kind == b"H"):
            raise _Lies("its parts are not in order: it lies")
        if kind == b"H":
            head = _decoded(body, _Head)
            _check_head(head)
        elif kind == b"N":
            names.known |= {pc: (one, two) for pc, one, two in _decoded(body, list[_Name])}
            if len(names.known) > MAX_NAMES or any(
                len(one) > MAX_TEXT or len(two) > MAX_TEXT for one, two in names.known.values()
            ):
                raise _Lies("more or longer names than a log can have: it lies")
        elif kind == b"E":
            assert head is not None
            events += map(_checked, _decoded(body, list[TraceRecord]))
            if len(events) > head.events:
                raise _Lies(f"more events than the {head.events:,} that it says it has: it lies")
    if head is None or len(events) != head.events:
        count = 0 if head is None else head.events
        raise _Lies(f"{len(events):,} events, and it says that it has {count:,}: it lies")
    return (events, head.about, head.dropped, names)


def _parts(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """(kind, unpacked body) of each, but for the last one."""
    while True:
        start = file.read(_PART.size)
        if len(start) < _PART.size:
            raise _Lies("it is cut: its end is missing")
        kind, packed, plain, check = _PART.unpack(start)
        if packed > size - file.tell():
            raise _Lies("it is cut, or lies: a part is longer than what is left of the file")
        if packed > MAX_PACKED or plain > MAX_UNPACKED:
            raise _Lies(f"a part of {max(packed, plain):,} bytes; none has so many: it lies")
        body = _unpacked(file.read(packed), plain, check)
        if kind == b"Z":
            return
        yield kind, body


def _unpacked(packed: bytes, size: int, check: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise _Lies("a part cannot be unpacked: it is damaged") from error
    if len(plain) != size or zlib.crc32(plain) != check:
        raise _Lies("a part is not what its head says: it is damaged")
    return plain


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise _Lies(f"a part has something else in it than it should: {error!s:.200}") from error


def _check_head(head: _Head) -> None:
    if not 0 <= head.events <= MAX_EVENTS or head.dropped < 0:
        raise _Lies(f"it says that it has {head.events:,} events, {MAX_EVENTS:,} at most: it lies")
    if len(head.about) > 100 or any(len(one) > MAX_TEXT for one in sum(head.about.items(), ())):
        raise _Lies("more words about its machine than there can be: it lies")


def _checked(record: TraceRecord) -> TraceEvent:
    """It is one that a log can have."""
    if record.kind not in KINDS:
        raise _Lies(f"an event of a kind that there is not, {record.kind!r:.60}: it lies")
    if not 0 <= record.time < 1e12:
        raise _Lies(f"an event at {record.time!r} s: it lies")
    texts = (record.device, record.register, record.space, record.text)
    if max(map(len, texts)) > MAX_TEXT:
        raise _Lies("an event with more words than there can be: it lies")
    if record.write is not None and None in (record.size, record.value, record.address):
        raise _Lies("an access without an address, a size or a value: it lies")
    return TraceEvent._make(record)
