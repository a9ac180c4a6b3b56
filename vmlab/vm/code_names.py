"""Who names a guest's code: the symbols that were loaded, else those of its image."""

from __future__ import annotations

import threading
from pathlib import Path

from vmlab.errors import ConfigError
from vmlab.vm.connection import Connection
from vmlab.vm.symbols import Symbols

__all__ = ["CodeNames"]


class CodeNames:
    """The image is looked at when the first name is asked for, never at start."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._symbols: Symbols | None = None
        self._looked = False
        self._lock = threading.Lock()

    def load(self, path: str | Path, at: int | None) -> Symbols:
        self._symbols = Symbols(path, at)
        return self._symbols

    @property
    def symbols(self) -> Symbols | None:
        """None: nothing was loaded, and the image has none that hold."""
        with self._lock:
            if self._symbols is None and not self._looked:
                self._looked = True
                self._symbols = self._of_image()
        return self._symbols

    def _of_image(self) -> Symbols | None:
        connection = self._connection
        if connection.linux and "nokaslr" not in connection.config.cmdline.split():
            return None  # it may lie anywhere: names would be wrong ones
        try:
            with Path(connection.config.kernel).open("rb") as file:
                if file.read(4) != b"\x7fELF":
                    return None
            return Symbols(connection.config.kernel)
        except (ConfigError, OSError):  # stripped, or pyelftools is not there: `load` says so
            return None

    def function(self, pc: int | None) -> str:
        """ "name+0x3a"; "" where no symbol covers the address."""
        symbols = self.symbols if pc is not None else None
        return symbols.function(pc) if symbols is not None else ""

    def source(self, pc: int | None) -> str:
        """ "blk.c:42"; "" where no line is known."""
        symbols = self.symbols if pc is not None else None
        return symbols.source(pc) if symbols is not None else ""
