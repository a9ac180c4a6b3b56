"""Names and source lines of a guest's code, from an ELF file or a System.map.

The file is not trusted: what is taken of it is bounded, and what cannot be read is a ConfigError.
Lines are looked for when the first one is asked for (`vm.lines`).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from pathlib import Path
from typing import Any

from vmlab import hints
from vmlab.errors import ConfigError
from vmlab.vm.lines import Lines, read_lines

__all__ = ["Symbols"]

#: symbols that are kept; a large kernel with everything has a tenth of that
MAX_SYMBOLS = 2_000_000
#: sections that are looked through
MAX_SECTIONS = 100_000
#: bytes of a System.map; Debian's has 6 MiB
MAX_MAP = 64 << 20
#: how far behind its last byte a function without a size reaches
REACH = 1 << 20
_FUNCTION, _NOTYPE = 2, 0
_CODE = frozenset("tTwW")


class Symbols:
    """at: where the file's lowest loaded address lies in the guest, when that is not where it was linked
    (a position-independent kernel, kASLR). ConfigError when the file is neither kind, or has no symbols."""

    def __init__(self, path: str | Path, at: int | None = None) -> None:
        self.path = Path(path)
        self._names: list[tuple[int, int, str]] = []
        self._lines: Lines | None = None
        self._shift = 0
        try:
            with self.path.open("rb") as file:
                self._is_elf = file.read(4) == b"\x7fELF"
                self._read_elf(file, at) if self._is_elf else self._read_map(file, at)
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from error
        if not self._names:
            raise ConfigError(
                f"{self.path}: no symbols: it is stripped; use the file before `strip`"
            )
        self._names.sort()
        self._starts = [start for start, _, _ in self._names]

    # -- reading ---------------------------------------------------------------------------------------

    def _read_elf(self, file: Any, at: int | None) -> None:
        elf = _open(file, self.path)
        try:
            starts = [one["p_vaddr"] for one in elf.iter_segments("PT_LOAD")]
            table = elf.get_section_by_name(".symtab") or elf.get_section_by_name(".dynsym")
            if table is None:
                return
            wide = elf.elfclass == 64
            form = struct.Struct("<IBBHQQ" if wide else "<IIIBBH")
            size = min(table["sh_size"], MAX_SYMBOLS * form.size)
            data = _part(file, table["sh_offset"], size - size % form.size)
            names = elf.get_section(table["sh_link"])
            text = _part(file, names["sh_offset"], min(names["sh_size"], MAX_MAP))
        except Exception as error:  # pyelftools raises anything when a file lies
            raise ConfigError(f"{self.path}: its symbols cannot be read: {error!r:.200}") from error
        if at is not None and starts:
            self._shift = at - min(starts)
        for row in form.iter_unpack(data[: len(data) - len(data) % form.size]):
            name, value, length, info, section = (
                (row[0], row[4], row[5], row[1], row[3])
                if wide
                else (row[0], row[1], row[2], row[3], row[5])
            )
            if section and value and info & 0xF in (_FUNCTION, _NOTYPE) and name < len(text):
                end = text.find(b"\0", name, name + 512)
                word = text[name : end if end >= 0 else name + 512].decode("ascii", "replace")
                if word and not word.startswith("$"):
                    self._names.append((value, length, word))

    def _read_map(self, file: Any, at: int | None) -> None:
        file.seek(0)
        for line in file.read(MAX_MAP).splitlines()[:MAX_SYMBOLS]:
            parts = line.decode("ascii", "replace").split()
            try:
                value = int(parts[0], 16)
                if len(parts) >= 3 and parts[1] in _CODE and value >> 64 == 0:
                    self._names.append((value, 0, parts[2][:512]))
            except (ValueError, IndexError):
                raise ConfigError(f"{self.path}: neither an ELF file nor a System.map") from None
        if at is not None and self._names:
            self._shift = at - min(self._names)[0]

    # -- asking ----------------------------------------------------------------------------------------

    def function(self, pc: int | None) -> str:
        """ "name+0x3a"; "" where no symbol covers the address."""
        if pc is None:
            return ""
        address = pc - self._shift
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return ""
        start, size, name = self._names[place]
        if address - start >= (size or REACH):
            return ""
        return f"{name}+{address - start:#x}"

    def address_of(self, name: str) -> int:
        """Where the function begins; of several of that name the first. ConfigError for none."""
        for start, _, known in self._names:
            if known == name:
                return start + self._shift
        raise ConfigError(hints.unknown("symbol", name, [known for _, _, known in self._names]))

    def source(self, pc: int | None) -> str:
        """ "blk.c:42"; "" where no line is known."""
        if pc is None:
            return ""
        rows = self.lines.rows
        place = bisect_right(rows, (pc - self._shift, "\U0010ffff")) - 1
        return rows[place][1] if place >= 0 else ""

    @property
    def lines(self) -> Lines:
        """The line table, read when it is first asked for; its `note` says why there is no more of it."""
        if self._lines is None:
            self._lines = (
                read_lines(self.path) if self._is_elf else Lines(note="a System.map has no lines")
            )
        return self._lines

    def __repr__(self) -> str:
        note = f"; {self._lines.note}" if self._lines is not None and self._lines.note else ""
        return f"<Symbols of {self.path.name}: {len(self._names):,}{note}>"


def _open(file: Any, path: Path) -> Any:
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise ConfigError(
            "symbols of ELF files need pyelftools: pip install 'vmlab[symbols]'"
        ) from None
    try:
        file.seek(0)
        elf = ELFFile(file)
        if elf.num_sections() > MAX_SECTIONS:
            raise ValueError(f"{elf.num_sections():,} sections")
        return elf
    except Exception as error:
        raise ConfigError(f"{path}: not an ELF file that can be read: {error!r:.200}") from error


def _part(file: Any, offset: int, size: int) -> bytes:
    file.seek(offset)
    data: bytes = file.read(size)
    return data
