"""Translated code that is thrown away when what it was made of changes.

Unicorn notices a store into translated code as long as the page's TLB entry is marked (TLB_NOTDIRTY). It
takes the mark off after the first store to a page that this virtual address may not execute, whatever was
translated from the same page at another address: a kernel that writes a page of code through its direct map
goes on running what was there before. Other vCPUs, which are Unicorn instances of their own, and devices
write without any mark.

The cure keeps a byte for each page of RAM: how many of the machine's instances hold code made of it. Four
functions of the library are called through slots that lead here (see `slots`):

- tlb_protect_code, at a page's first code: count it, and mark the page in the TLBs of all instances;
- tb_invalidate_phys_page_fast, at each marked store: note whether the page holds code, and the write;
- tlb_set_dirty, after it: leave the mark on while the page holds code;
- tlb_unprotect_code, when the last code is gone: count it.

All but the first are too frequent for Python (one per TLB entry that is written through) and are machine
code. What one vCPU wrote is thrown away by the others before their next turn, as is what `wrote` tells of.

Where it takes a mark off at all, that is: a page that may be executed where it is written keeps it for good.
While a RISC-V hart's addresses are physical they all may, and each store would be slow: the second function
takes the mark off such a page itself, unless it holds code.

A device's thread writes while a vCPU translates: of bytes that were read before the write, into a page that
is counted after it. So each write during a turn is noted, a byte for each page, and a page's first code is
looked up there. The notes of a turn go before the next: nothing is being translated then.

Where that cannot be had (another host CPU or system, another build of the library, no executable memory) a
hook for writes to write-protected RAM, of which there is none, makes Unicorn leave the marks on: correct
for each vCPU by itself, and a store costs ten times as much.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from ctypes import c_int, c_size_t
from typing import Any, Protocol

from vmlab.core.memory import Region
from vmlab.engine.soft import slots, uclib
from vmlab.engine.soft.uclib import Uc

__all__ = ["MARK_KEPT", "MARK_OFF", "CodeCaches", "Context", "Patch", "patched"]

_PAGE = 0x1000
_FUNCTIONS = (
    "tlb_protect_code",
    "tb_invalidate_phys_page_fast",
    "tlb_set_dirty",
    "tlb_unprotect_code",
)
#: of QEMU's own that are called from here (include/exec/exec-all.h, ram_addr.h): arguments
_CALLED: dict[str, tuple[Any, ...]] = {
    "qemu_get_cpu": (c_size_t, c_int),
    "qemu_ram_addr_from_host": (c_size_t, c_size_t),
    "tlb_reset_dirty": (c_size_t, c_size_t, c_size_t),
    "tb_invalidate_phys_page_range": (c_size_t, c_size_t, c_size_t),
}
#: of the page of machine code: the entry points, and where the original functions' addresses lie
_FAST, _DIRTY, _CLEAN, _ORIGINALS = 0x00, 0x80, 0xC0, 0x100
# (rdi: uc, rdx: address in RAM) lea r10,[rip+table]; 1: mov rax,[r10]; cmp rax,rdi; je 2f; add r10,64;
# test rax,rax; jne 1b; jmp [rip+fast]; 2: mov r9,rdx; shr r9,12; mov byte ptr [r10+16],1; cmp
# r9,[r10+48]; jae 3f; mov rax,[r10+24]; mov al,[rax+r9]; mov [r10+16],al; test al,al; je 3f; mov
# rax,[r10+32]; mov byte ptr [rax+r9],1; mov byte ptr [r10+40],1; 3: jmp [rip+fast]
MARK_KEPT = bytes.fromhex(
    "4c8d15f90f0000498b024839f8740f4983c2404885c075efff25e20000004989d149c1e90c41c64210014d3b4a30"
    "731e498b4218428a04084188421084c0740e498b422042c604080141c6422801ff25ac000000"
)
# the same, but 2: mov r9,rdx; shr r9,12; mov byte ptr [r10+16],1; cmp r9,[r10+48]; jae 3f; mov rax,[r10+24];
# mov al,[rax+r9]; mov [r10+16],al; test al,al; jne 3f; mov rax,[r10+40]; cmp dword ptr [rax],0; jne 3f;
# mov rdi,[r10+8]; mov rsi,[r10+32]; add rsi,rdx; jmp [rip+dirty]; 3: jmp [rip+fast]
MARK_OFF = bytes.fromhex(
    "4c8d15f90f0000498b024839f8740f4983c2404885c075efff25e20000004989d149c1e90c41c64210014d3b4a30"
    "73e8498b4218428a04084188421084c075d8498b422883380075cf498b7a08498b72204801d6ff25ae000000"
)
# (rdi: cpu) lea r10,[rip+table]; 1: cmp [r10+8],rdi; je 2f; mov rax,[r10]; add r10,64; test rax,rax; jne
# 1b; jmp [rip+dirty]; 2: cmp byte ptr [r10+16],0; jne 3f; jmp [rip+dirty]; 3: ret
_DIRTY_CODE = bytes.fromhex(
    "4c8d15790f000049397a087412498b024983c2404885c075eeff256900000041807a10007506ff255c000000c3"
)
# (rdi: uc, rsi: address in RAM) lea r10,[rip+table]; 1: mov rax,[r10]; cmp rax,rdi; je 2f; add r10,64;
# test rax,rax; jne 1b; ret; 2: shr rsi,12; cmp rsi,[r10+48]; jae 3f; mov rax,[r10+56]; cmp byte ptr
# [rax+rsi],0; je 3f; mov byte ptr [rax+rsi],0; mov rax,[r10+24]; dec byte ptr [rax+rsi]; 3: ret
_CLEAN_CODE = bytes.fromhex(
    "4c8d15390f0000498b024839f8740a4983c2404885c075efc348c1ee0c493b72307315498b4238803c3000740bc6"
    "043000498b4218fe0c30c3"
)
#: the index of an instance's one CPU: never assigned (QEMU's UNASSIGNED_CPU_INDEX)
_ONLY_CPU = -1
#: in QEMU's CPUState: env_ptr, which points into the structure around it
_ENV, _CPU_SIZE = 0x128, 0x10000
#: of a row that was given back: no instance lies there
_FREE = 1
#: of a row that is given out: no instance lies there either
_TAKEN = 2


#: as if its addresses were virtual
_NOT_ZERO = ctypes.c_uint64(1)


def _env(cpu: int) -> int | None:
    """Where the processor's own part of its structure begins; None: not where it was."""
    env: int = ctypes.c_uint64.from_address(cpu + _ENV).value
    return env if 0 < env - cpu < _CPU_SIZE else None


class Context(Protocol):
    """A CPU's registers, as `CodeCaches.flags` wants them."""

    @property
    def handle(self) -> int: ...
    def live_flags(self, env: int) -> tuple[int, int] | None: ...


class _Fifth(ctypes.Union):
    _fields_ = (("written", ctypes.c_uint64), ("offset", ctypes.c_uint64))


class _Sixth(ctypes.Union):
    _fields_ = (("any_written", ctypes.c_uint64), ("paging", ctypes.c_uint64))


class _Row(ctypes.Structure):
    """What the machine code knows of an instance. An instance runs on one thread at a time.

    offset, paging (`MARK_OFF`): from an address in RAM to the guest's; a word that is 0 while its addresses
    are physical.
    """

    _anonymous_ = ("fifth", "sixth")

    _fields_ = (
        ("uc", ctypes.c_uint64),
        ("cpu", ctypes.c_uint64),
        ("holds_code", ctypes.c_uint64),  # the page of the last marked store
        ("counts", ctypes.c_uint64),
        ("fifth", _Fifth),
        ("sixth", _Sixth),
        ("pages", ctypes.c_uint64),
        ("own", ctypes.c_uint64),
    )


#: the last one stays empty: it ends the search
_ROWS = _PAGE // ctypes.sizeof(_Row)


def _function(name: str, arch: str) -> Any:
    """AttributeError where the library does not have it."""
    return getattr(uclib.library(), f"{name}_{arch}")


class Patch:
    """The machine code, its table and the redirected slots: one of each in a process and architecture.

    arch: as the names of the library's functions end. fast: what tb_invalidate_phys_page_fast becomes.
    """

    def __init__(self, arch: str, fast: bytes, found: list[int]) -> None:
        called = [_function(name, arch) for name in _CALLED]
        for function, arguments in zip(called, _CALLED.values(), strict=True):
            function.argtypes, function.restype = arguments, c_size_t
        self.cpu_of, self.ram_address, self.mark, self.invalidate = called
        self._lock = threading.Lock()
        self.members: dict[int, CodeCaches] = {}
        self._page = page = mmap.mmap(-1, 2 * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        self.rows = (_Row * _ROWS).from_buffer(page, _PAGE)
        functions = [uclib.address_of(_function(name, arch)) for name in _FUNCTIONS]
        for at, code in (
            (_FAST, fast),
            (_DIRTY, _DIRTY_CODE),
            (_CLEAN, _CLEAN_CODE),
        ):
            page[at : at + len(code)] = code
        page[_ORIGINALS : _ORIGINALS + 16] = struct.pack("<2Q", functions[1], functions[2])
        if ctypes.CDLL(None).mprotect(
            ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), mmap.PROT_READ | mmap.PROT_EXEC
        ):
            raise OSError("no executable memory")
        self._protect = uclib.PROTECT(self._on_first_code)
        entries = (address + n for n in (_FAST, _DIRTY, _CLEAN))
        self._targets = (uclib.address_of(self._protect), *entries)
        self._slots = [ctypes.c_uint64.from_address(slot) for slot in found]
        self._before = [slot.value for slot in self._slots]

    def apply(self) -> None:
        for slot, value in zip(self._slots, self._targets, strict=True):
            slot.value = value

    def undo(self) -> None:
        for slot, value in zip(self._slots, self._before, strict=True):
            slot.value = value

    def _on_first_code(self, uc: int, address: int) -> None:
        caches = self.members.get(uc)
        if caches is not None:
            caches.protect(uc, address)

    def row(self) -> _Row | None:
        """A free one, which is nobody else's from now on; None when all are taken."""
        with self._lock:
            for row in self.rows[:-1]:
                if row.uc in (0, _FREE):
                    row.uc = _TAKEN
                    return row
        return None


class _Instance:
    def __init__(self, uc: Uc, cpu: int, row: _Row, own: Any) -> None:
        self.uc, self.cpu, self.row = uc, cpu, row
        #: a byte for each page: whether this instance holds code made of it
        self.own = own


class CodeCaches:
    """Those of one machine's vCPUs. All but `wrote` and `forget` belong to the thread that runs them.

    interrupt: called when the vCPU that runs is to leave the guest, for what it has translated is stale.
    """

    def __init__(
        self,
        regions: Iterable[Region],
        patch: Patch | None,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._regions = tuple(regions)
        self._patch = patch
        self._interrupt = interrupt
        self._instances: dict[int, _Instance] = {}
        self._plain: list[Uc] = []
        #: (address in Unicorn's RAM, address of the guest, size, address of the host), in Unicorn's order
        self._ram: list[tuple[int, int, int, int]] = []
        self._counts: Any = None
        self._written: Any = None
        #: a byte for each page: whether it was written from outside during this turn
        self._noted = bytearray()
        self._any_noted = False
        #: address ranges in Unicorn's RAM that were written from outside
        self._pending: deque[tuple[int, int]] = deque()
        self._all = False
        self.stale = False

    # -- instances -----------------------------------------------------------------------------------

    def join(self, uc: Uc, paging: int | None = None) -> None:
        """`uc` has the machine's RAM mapped, and has run nothing yet.

        paging: of the one instance of a machine, for `MARK_OFF`: where in its CPU's structure that word is.
        """
        row = self._patch.row() if self._patch is not None else None
        if row is None or self._patch is None:
            self._plain.append(uc)
            idle = uclib.address_of(uc.lib.uc_arch_supported)
            for region in self._regions:
                uc.hook_address(uclib.HOOK_MEM_WRITE_PROT, idle, region.base, region.end - 1)
            return
        self._lay_out(uc, self._patch)
        own = (ctypes.c_uint8 * len(self._counts))()
        instance = _Instance(uc, self._patch.cpu_of(uc.handle, _ONLY_CPU), row, own)
        for name, array in (("counts", self._counts), ("written", self._written), ("own", own)):
            setattr(row, name, ctypes.addressof(array))
        row.pages, row.any_written, row.holds_code = len(own), 0, 1
        if paging is not None:
            self._watch_paging(instance, paging)
        row.cpu = instance.cpu
        row.uc = uc.handle
        self._instances[uc.handle] = instance
        self._patch.members[uc.handle] = self
        # marks are kept where code is: spares a scan of the TLB for each translation outside these addresses
        end = max(region.end for region in self._regions)
        idle = uclib.address_of(uc.lib.uc_arch_supported)
        uc.hook_address(uclib.HOOK_MEM_WRITE_PROT, idle, end, (1 << 64) - 1)

    def _watch_paging(self, instance: _Instance, paging: int) -> None:
        (start, base, _, _), *others = self._ram
        env = _env(instance.cpu)
        instance.row.offset = (base - start) % (1 << 64)
        word = ctypes.addressof(_NOT_ZERO) if env is None or others else env + paging
        instance.row.paging = word

    def _lay_out(self, uc: Uc, patch: Patch) -> None:
        """Where Unicorn has the regions in its RAM: the same for each instance of a machine."""
        if self._ram:
            return
        for region in self._regions:
            host = region.host_address
            start = patch.ram_address(uc.handle, host)
            self._ram.append((start, region.base, region.size, host))
        pages = max(start + size for start, _, size, _ in self._ram) // _PAGE
        self._counts = (ctypes.c_uint8 * pages)()
        self._written = (ctypes.c_uint8 * pages)()
        self._noted = bytearray(pages)

    def leave(self, uc: Uc) -> None:
        instance = self._instances.pop(uc.handle, None)
        if instance is not None and self._patch is not None:
            del self._patch.members[uc.handle]
            instance.row.cpu = _FREE
            instance.row.uc = _FREE

    def flags(self, context: Context) -> tuple[int, int] | None:
        """Where the CPU has what `Kick` looks at by itself; None: its structure is not where it was."""
        instance = self._instances.get(context.handle)
        env = None if instance is None or self._patch is None else _env(instance.cpu)
        return None if env is None else context.live_flags(env)

    # -- what is written -----------------------------------------------------------------------------

    def protect(self, uc: int, address: int) -> None:
        """The instance gets its first code of the page at `address` in its RAM."""
        page = address // _PAGE
        own = self._instances[uc].own
        if own[page] or self._patch is None:
            return
        own[page] = 1
        self._counts[page] += 1
        start = page * _PAGE
        for base, _, size, host in self._ram:
            if base <= start < base + size:
                for one in self._instances.values():
                    self._patch.mark(one.cpu, host + start - base, _PAGE)
        # counted first and then looked up, as `wrote` notes first and then looks: one of the two sees it
        if self._noted[page]:
            self._pending.append((start, start + _PAGE))
            self.stale = True
            self._interrupt()

    def wrote(self, address: int, size: int) -> bool:
        """Somebody but the CPUs has written to guest memory; any thread -> whether code may be stale."""
        if self._plain:
            self._all = self.stale = True
            return True
        for base, guest, length, _ in self._ram:
            first, last = max(address, guest), min(address + size, guest + length)
            if first < last:
                start, end = base + first - guest, base + last - guest
                page, after = start // _PAGE, (end - 1) // _PAGE + 1
                self._noted[page:after] = b"\1" * (after - page)
                self._any_noted = True
                if any(self._counts[page:after]):
                    self._pending.append((start, end))
                    self.stale = True
        return self.stale

    def forget(self) -> None:
        """Any of the memory may have been written; any thread."""
        self._all = self.stale = True

    def begin(self) -> None:
        """A turn begins: nothing is being translated, and what is stale is thrown away."""
        if self._any_noted:
            self._any_noted = False
            self._noted[:] = bytes(len(self._noted))
        if self.stale:
            self.refresh()

    def refresh(self) -> None:
        """Throw away what is stale; nothing runs now."""
        self.stale = False
        if self._all:
            self._all = False
            for uc in (*self._plain, *(one.uc for one in self._instances.values())):
                uc.flush_code()
            return
        while self._pending:
            start, end = self._pending.popleft()
            for one in self._instances.values():
                self._throw_away(one, start, end)

    def settle(self, uc: Uc) -> None:
        """`uc` has had its turn: what it wrote is not to be run by others as it was."""
        writer = self._instances.get(uc.handle)
        if writer is None or not writer.row.any_written:
            return
        writer.row.any_written = 0
        if len(self._instances) == 1:
            return
        written = bytes(self._written)
        ctypes.memset(self._written, 0, len(written))
        page = written.find(1)
        while page >= 0:
            for one in self._instances.values():
                if one is not writer and one.own[page]:
                    self._throw_away(one, page * _PAGE, (page + 1) * _PAGE)
            page = written.find(1, page + 1)

    def _throw_away(self, one: _Instance, start: int, end: int) -> None:
        assert self._patch is not None
        for at in range(start & -_PAGE, end, _PAGE):
            self._patch.invalidate(one.uc.handle, max(at, start), min(at + _PAGE, end))


def patched(arch: str, fast: bytes, works: Callable[[Patch], bool]) -> Patch | None:
    """To be made once in a process; checked by `works`. None: this library, system or machine does not allow
    it."""
    try:
        found = slots.find(
            {f"{name}_{arch}": uclib.address_of(_function(name, arch)) for name in _FUNCTIONS}
        )
        made = Patch(arch, fast, found) if found is not None else None
    except (AttributeError, OSError, ValueError):
        return None
    return made if made is not None and _applied(made, works) else None


def _applied(made: Patch, works: Callable[[Patch], bool]) -> bool:
    """Redirect the slots; undone unless it works: they must not lead to a page that goes."""
    good = False
    try:
        made.apply()
        good = works(made)
    finally:
        if not good:
            made.undo()
    return good
