"""The frequency of the time stamp counter that guests read.

Unicorn's RDTSC gives what the host's own counter says, whose frequency nothing here tells: it is measured,
once a process, when a guest first asks (CPUID leaf 0x15).
"""

from __future__ import annotations

import mmap
import time

from vmlab.core.once import once
from vmlab.engine.soft.uclib import Uc

__all__ = ["frequency"]

#: long enough for an error below 0.01 %
_SECONDS = 0.02
# rdtsc; hlt
_CODE = b"\x0f\x31\xf4"
# UC_X86_REG_* of unicorn/x86.h
_RAX, _RDX = 35, 40


@once
def frequency() -> int:
    """In Hz."""
    from ctypes import addressof, c_char

    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[: len(_CODE)] = _CODE
    uc = Uc()
    hold = c_char.from_buffer(page)
    uc.map_ram(0, mmap.PAGESIZE, addressof(hold))
    try:
        _read(uc)  # translates the code
        began, first = time.monotonic_ns(), _read(uc)
        time.sleep(_SECONDS)
        ended, last = time.monotonic_ns(), _read(uc)
    finally:
        uc.close()
        del hold
        page.close()
    return (last - first) * 1_000_000_000 // (ended - began)


def _read(uc: Uc) -> int:
    uc.run(0)
    low, high = (uc.read_register(one) & 0xFFFF_FFFF for one in (_RAX, _RDX))
    return high << 32 | low
