"""The kernel command line, checked as it is built (krun-vmm's `Cmdline`)."""

from __future__ import annotations

from vmlab.errors import CmdlineError

__all__ = ["Cmdline"]


class Cmdline:
    """Text of at most `capacity` bytes, the closing NUL counted."""

    def __init__(self, capacity: int = 4096, text: str = "") -> None:
        if capacity <= 0:
            raise CmdlineError(f"Command line capacity must be greater than zero, not {capacity}")
        self.capacity = capacity
        self._line = ""
        if text:
            self.insert_str(text)

    def insert(self, key: str, value: str) -> None:
        """Append `key=value`. Both are printable ASCII without space or "="."""
        for element in (key, value):
            _printable(element)
            if " " in element:
                raise CmdlineError("Command line string contains a space")
            if "=" in element:
                raise CmdlineError("Command line string contains an equals sign")
        self._append(f"{key}={value}")

    def insert_str(self, text: str) -> None:
        """Append text as it is."""
        _printable(text)
        self._append(text)

    def _append(self, text: str) -> None:
        line = f"{self._line} {text}" if self._line else text
        if len(line) >= self.capacity:
            raise CmdlineError("Command line inserting string would make command line too long")
        self._line = line

    def __str__(self) -> str:
        return self._line

    def __len__(self) -> int:
        return len(self._line)

    def __repr__(self) -> str:
        return f"Cmdline({self._line!r}, {len(self) + 1} of {self.capacity} bytes)"

    def to_bytes(self, room: int | None = None) -> bytes:
        """The text and its NUL. `room` is what guest memory has for it, in bytes."""
        data = self._line.encode("ascii") + b"\0"
        if room is not None and len(data) > room:
            raise CmdlineError("Command line string overflows guest memory")
        return data


def _printable(text: str) -> None:
    if not all(" " <= character <= "~" for character in text):
        raise CmdlineError("Command line string contains non-printable ASCII character")
