"""Frames in the file format of tcpdump and Wireshark: pcap with nanoseconds, LINKTYPE_ETHERNET."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from vmlab.core.safely import named
from vmlab.core.units import parse_path
from vmlab.errors import ConfigError
from vmlab.net.packets import describe

__all__ = ["Frame", "PcapWriter"]

MAGIC_NANOSECONDS = 0xA1B2_3C4D
LINKTYPE_ETHERNET = 1
#: no frame is longer, so none is ever cut
SNAPLEN = 1 << 17
_HEADER = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")


class Frame(NamedTuple):
    """One frame as it came into the switch. time: nanoseconds since 1970; port: where it came from."""

    time: int
    port: int
    data: bytes

    def __str__(self) -> str:
        return describe(self.data)


class PcapWriter:
    """A capture file that grows. What was written is in the file at once: tcpdump can follow it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = parse_path("path", path)
        self.frames = 0
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        try:
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 - until `close`
            self._write(_HEADER.pack(MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAPLEN, LINKTYPE_ETHERNET))
        except (OSError, ValueError) as error:  # a NUL
            if self._file is not None:
                self._file.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"cannot write the capture {named(self.path)}: {why}") from error

    def write(self, frames: Iterable[Frame]) -> None:
        """OSError when the disk does not take them; nothing once it is closed."""
        parts: list[bytes] = []
        for time, _, data in frames:
            parts += (_RECORD.pack(*divmod(time, 1_000_000_000), len(data), len(data)), data)
        with self._lock:
            if self._file is not None:
                self._write(b"".join(parts))
                self.frames += len(parts) // 2

    def _write(self, data: bytes) -> None:
        file, whole = self._file, memoryview(data)
        while file is not None and whole:
            whole = whole[file.write(whole) :]

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
