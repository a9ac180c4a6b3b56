"""Machine code from its text, by the GNU assembler: what the guests' committed bytes are compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import require_program

__all__ = ["assembled"]


def assembled(text: str, origin: int, folder: Path, prefix: str = "", *options: str) -> bytes:
    """The code of `text`, which begins at `origin`. prefix: of the tools' names, "aarch64-linux-gnu-";
    options: the assembler's."""
    assembler, linker, objcopy = (
        require_program(f"{prefix}{name}") for name in ("as", "ld", "objcopy")
    )
    source = folder / "a.s"
    source.write_text(text)
    a_out, linked, raw = (str(folder / name) for name in ("a.o", "a.elf", "a.bin"))
    subprocess.run([assembler, *options, "-o", a_out, str(source)], check=True)
    subprocess.run([linker, f"-Ttext={origin:#x}", "-o", linked, a_out], check=True)
    subprocess.run([objcopy, "-O", "binary", "-j", ".text", linked, raw], check=True)
    return Path(raw).read_bytes()
