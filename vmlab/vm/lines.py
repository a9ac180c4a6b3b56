"""Source lines of an ELF file's DWARF, read in a process of its own: a file that lies costs that process its
time and memory, and the notebook nothing.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["MAX_DEBUG", "MAX_LINES", "SECONDS", "Lines", "read_lines"]

#: bytes of .debug_line that are decoded (seconds), and of all debugging sections together
MAX_LINES, MAX_DEBUG = 4 << 20, 64 << 20
#: rows that are kept
MAX_ROWS = 1_000_000
#: seconds that reading may take, and bytes of memory
SECONDS, MEMORY = 20.0, 2 << 30
#: characters of a file's name
_NAME = 200


class Lines(msgspec.Struct):
    """rows: (address, "file:line"), sorted; "" from an end of a sequence on. note: why there are not more."""

    rows: list[tuple[int, str]] = []
    note: str = ""


def read_lines(path: Path, seconds: float = SECONDS) -> Lines:
    """Those of the file; it is not trusted. Never raises for what is in it."""
    search = [entry or str(Path.cwd()) for entry in sys.path]
    program = f"import sys; sys.path[:] = {search!r}; from vmlab.vm.lines import main; main({str(path)!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Lines(note=f"its line table was not read within {seconds:g} s")
    except OSError as error:
        return Lines(note=f"no process for reading its line table: {error.strerror}")
    try:
        return msgspec.msgpack.decode(done.stdout, type=Lines)
    except msgspec.DecodeError:
        return Lines(note="its line table cannot be read")


# --- in that process --------------------------------------------------------------------------------------


def main(path: str) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # of Linux and its like
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = Lines()
    try:
        with Path(path).open("rb") as file:
            found.note = _read(file, found.rows)
    except BaseException as error:  # noqa: BLE001  lying debugging data; what was read so far holds
        found.note = f"its line table ends in nonsense: {error!r:.100}"
    found.rows.sort()
    sys.stdout.buffer.write(msgspec.msgpack.encode(found))


def _read(file: Any, rows: list[tuple[int, str]]) -> str:
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(file)
    if not _debug_size(elf, ".debug_line"):
        return "it has no line table"
    for prefix, most in ((".debug_line", MAX_LINES), (".debug_", MAX_DEBUG)):
        if (size := _debug_size(elf, prefix)) > most:
            name = "line table" if prefix == ".debug_line" else "debugging data"
            return f"its {name} has {size / (1 << 20):,.0f} MiB, and {most >> 20} at most are read"
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is not None and not _add(rows, program):
            return f"only {MAX_ROWS:,} lines are kept"
    return ""


def _debug_size(elf: Any, prefix: str) -> int:
    """Bytes of the sections of that beginning, as they say themselves."""
    return sum(
        max(one.data_size, one["sh_size"])
        for one in elf.iter_sections()
        if one.name.startswith(prefix)
    )


def _add(rows: list[tuple[int, str]], program: Any) -> bool:
    """Whether there was room."""
    files = program.header.file_entry
    first = 0 if program.header.version >= 5 else 1
    last = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        number = state.file - first
        name = files[number].name.decode("utf-8", "replace") if 0 <= number < len(files) else "?"
        text = "" if state.end_sequence else f"{name.rpartition('/')[2][:_NAME]}:{state.line}"
        if text != last:
            if len(rows) >= MAX_ROWS:
                return False
            rows.append((state.address & (1 << 64) - 1, text))
        last = text
    return True
