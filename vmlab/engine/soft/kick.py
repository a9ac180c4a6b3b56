"""Stopping a running guest from any thread without disturbing an instruction.

`uc_emu_stop` from another thread may stop in the middle of an instruction, whose loads and stores then
happen twice. A block hook runs between instructions, but one in Python on every block costs most of the
speed. Where machine code of our own can be had, the hook is 51 bytes of it over all addresses, which look
at a word; a *kick* sets the word, which is legal from any thread, and the Python callback then runs at
the next block and may call `uc_emu_stop` there. Unicorn calls a hook that is the only one of its kind
without a detour: so there is only one.

While only an interrupt waits, which a guest with IF = 0 does not take, Python would be called in vain on
every block. So the machine code looks at IF and the interrupt shadow first, where it is told of them. The
shadow covers one instruction; Unicorn keeps it for all of a REP, so it is ended at the second block in a
row that begins in it.

Elsewhere there are two block hooks: one native function that does nothing, over all addresses (it makes
the translator emit the call), and one Python callback with an empty address range. A kick widens that
range by one aligned store into Unicorn's `struct hook` (include/uc_priv.h of 2.1.4): begin at +24, end at
+32, callback at +40.

Both are checked once per process; should the check fail, or on demand, the callback simply covers all
addresses all the time: correct and slower.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable

from vmlab.core.once import once
from vmlab.engine.soft import uclib
from vmlab.engine.soft.uclib import Uc

__all__ = ["Kick", "machine_code", "self_check"]

_NEVER = (1 << 64) - 1
_BEGIN, _END, _CALLBACK = 24, 32, 40
#: what keeps the machine code's page
_pages: list[ctypes.c_char] = []
#: where the self-check's code lies; any page will do, nothing else is mapped then
_SCRATCH = 0x1000
_PAGE = 0x1000
#: (rcx: _Gate) cmp byte ptr [rcx+40],0; je 2f; cmp byte ptr [rcx+24],0; jne 1f; mov rax,[rcx+8]; test
#: byte ptr [rax],8; je 3f; cmp byte ptr [rcx+32],0; mov byte ptr [rcx+32],1; je 2f; and byte ptr
#: [rax],0xf7; 3: mov byte ptr [rcx+32],0; mov rax,[rcx]; test byte ptr [rax+1],2; je 2f; 1: jmp
#: [rcx+16]; 2: ret
_CODE = bytes.fromhex(
    "80792800742c807918007523488b4108f60008740d80792000c641200174138020f7c6412000488b01f64001027403ff6110c3"
)
# mov ecx,1000; 1: dec ecx; jnz 1b; hlt
_COUNT_DOWN = bytes.fromhex("b9e8030000 ffc9 75fc f4")
# 1: inc ecx; jmp 1b
_ENDLESS = bytes.fromhex("ffc1 ebfc")


class _Gate(ctypes.Structure):
    """What the machine code looks at."""

    _fields_ = (
        ("eflags", ctypes.c_uint64),
        ("hflags", ctypes.c_uint64),
        ("callback", ctypes.c_uint64),
        ("force", ctypes.c_uint64),
        ("shadowed", ctypes.c_uint64),
        ("armed", ctypes.c_uint64),
    )


@once
def machine_code() -> int | None:
    """Where `_CODE` lies, from now on; None: it cannot be had here."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return None
    page = mmap.mmap(-1, _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page[: len(_CODE)] = _CODE
    _pages.append(ctypes.c_char.from_buffer(page))
    address = ctypes.addressof(_pages[-1])
    refused = ctypes.CDLL(None).mprotect(
        ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), mmap.PROT_READ | mmap.PROT_EXEC
    )
    return None if refused else address


class Kick:
    """`on_block()` is called at block starts while armed (always, when not `patched`).

    flags: where EFLAGS and hflags are; it is then called only where an interrupt can be taken, or when
    forced.
    """

    def __init__(
        self,
        uc: Uc,
        on_block: Callable[[], None],
        patched: bool,
        flags: tuple[int, int] | None = None,
    ) -> None:
        self._uc = uc
        self.patched = patched
        self._gate = gate = _Gate(force=1)
        self._looks = flags is not None
        self._set, self._clear = 1, 0

        def callback(_uc: int, _address: int, _size: int, _data: int) -> None:
            on_block()

        self._callback = raw = uclib.BLOCK_HOOK(callback)
        gate.callback = uclib.address_of(raw)
        #: what a kick sets
        self._word = ctypes.c_uint64.from_buffer(gate, _Gate.armed.offset)
        self.layout_known = True
        code = machine_code()
        if not patched:
            uc.hook(uclib.HOOK_BLOCK, raw, 1, 0)
        elif code is not None:
            if flags is not None:
                gate.eflags, gate.hflags = flags
            uc.hook_address(uclib.HOOK_BLOCK, code, 1, 0, data=ctypes.addressof(gate))
        else:
            self._set, self._clear = 0, _NEVER
            self._hook_without_code(raw)

    def _hook_without_code(self, raw: object) -> None:
        uc = self._uc
        # any exported function without effects will do as the one that is called on every block
        idle = uclib.address_of(uc.lib.uc_arch_supported)
        uc.hook_address(uclib.HOOK_BLOCK, idle, 1, 0)
        handle = uc.hook(uclib.HOOK_BLOCK, raw, _NEVER, _NEVER)
        self.layout_known = (
            ctypes.c_uint64.from_address(handle + _BEGIN).value == _NEVER
            and ctypes.c_uint64.from_address(handle + _END).value == _NEVER
            and ctypes.c_size_t.from_address(handle + _CALLBACK).value == self._gate.callback
        )
        if self.layout_known:
            self._word = ctypes.c_uint64.from_address(handle + _BEGIN)

    def arm(self, force: bool = False) -> None:
        """`force`: whatever the guest's interrupt flag; it lasts until `relax`."""
        if force:
            self._gate.force = 1
        self._word.value = self._set

    def relax(self) -> None:
        """From the engine's thread, which must look afterwards whether somebody wants to force."""
        self._gate.force = int(not self._looks)
        self._gate.shadowed = 0

    def disarm(self) -> None:
        self._word.value = self._clear

    def close(self) -> None:
        """The hook is gone with its Unicorn instance: a late kick must hit nothing."""
        self._word = ctypes.c_uint64(0)


@once
def self_check() -> bool:
    """Does the patched kick work with this library? Done once per process, in about 10 ms."""
    uc = Uc()
    calls: list[None] = []

    def on_block() -> None:
        calls.append(None)
        uc.lib.uc_emu_stop(uc.handle)

    page = mmap.mmap(-1, _PAGE)
    host = (ctypes.c_char * _PAGE).from_buffer(page)
    try:
        uc.map_ram(_SCRATCH, _PAGE, ctypes.addressof(host))
        kick = Kick(uc, on_block, patched=True)
        if not kick.layout_known:
            return False
        page[: len(_COUNT_DOWN)] = _COUNT_DOWN
        if uc.run(_SCRATCH) or calls:
            return False
        uc.flush_code()
        page[: len(_ENDLESS)] = _ENDLESS
        kick.arm()
        # should the kick be without effect, the instruction count ends the run
        return not uc.run(_SCRATCH, 100_000) and len(calls) == 1
    finally:
        uc.close()
        del host
        page.close()
