"""Which architecture a kernel is for, told by its first bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vmlab.boot import payload
from vmlab.errors import VmlabError

__all__ = ["arch_of"]

#: bytes that are looked at
_HEAD = 0x400
#: e_machine of an ELF file -> the architecture
_MACHINES = {3: "x86_64", 62: "x86_64", 183: "arm64", 243: "riscv"}
#: what other images have where
_MAGIC = (
    (0x202, b"HdrS", "x86_64"),
    (0x38, b"ARM\x64", "arm64"),
    (0x30, b"RISCV\0\0\0", "riscv64"),
)


def arch_of(path: str | Path) -> str | None:
    """The architecture that the file is for, compressed or not; None where it does not say, cannot be read,
    or is for one that there is no machine of."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            first = file.read(_HEAD)
            if payload.format_of(first) not in ("", "uncompressed"):
                packed = first + file.read(payload.MAX_SIZE)
                first = bytes(payload.head(memoryview(packed), str(path)))
    except (OSError, ValueError, VmlabError):
        return None
    if first[:4] == b"\x7fELF" and len(first) >= 20:
        found = _MACHINES.get(int.from_bytes(first[18:20], "little"))
        return f"riscv{32 * first[4]}" if found == "riscv" else found
    return next((arch for at, magic, arch in _MAGIC if first[at : at + len(magic)] == magic), None)
