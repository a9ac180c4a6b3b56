"""The state of a CPU that does not run: Unicorn's context."""

from __future__ import annotations

import ctypes

from vmlab.engine.soft.uclib import Uc
from vmlab.errors import EngineError

__all__ = ["Saved"]

#: bytes before the data in struct uc_context (include/uc_priv.h)
_HEADER = 40


class Saved:
    """It begins as `uc` is now."""

    def __init__(self, uc: Uc) -> None:
        handle = ctypes.c_size_t()
        if uc.lib.uc_context_alloc(uc.handle, ctypes.byref(handle)):
            raise EngineError("unicorn: cannot allocate a context")
        self._uc, self.block = uc, handle.value
        self.save()

    def save(self) -> None:
        self._uc.lib.uc_context_save(self._uc.handle, self.block)

    def restore(self) -> None:
        self._uc.lib.uc_context_restore(self._uc.handle, self.block)

    @property
    def address(self) -> int:
        """Of the data: the CPU's structure, up to what no program sees."""
        return self.block + _HEADER

    @property
    def size(self) -> int:
        """Of the data, in bytes."""
        return ctypes.c_size_t.from_address(self.block).value

    def data(self) -> bytes:
        return ctypes.string_at(self.address, self.size)

    def close(self) -> None:
        if self.block:
            self._uc.lib.uc_context_free(self.block)
            self.block = 0
