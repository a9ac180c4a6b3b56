"""Unicorn's C library through ctypes: the few calls the engine makes, and nothing of the Python binding.

Loading the shared library alone takes a fifth of the time of `import unicorn`, and raw callbacks cost
less than the binding's wrappers. The wheel `unicorn` (pinned, see pyproject.toml) is only looked up
for the place of its library. Numbers are those of `unicorn/unicorn.h` and `unicorn/x86.h`, 2.1.4.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
from ctypes import c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from vmlab.errors import EngineError, EngineUnavailable

__all__ = ["Uc", "available", "library"]

ARCH_ARM64 = 2
ARCH_X86 = 4
ARCH_RISCV = 8
MODE_ARM = 0
MODE_64 = 1 << 3
MODE_RISCV32 = 1 << 2
MODE_RISCV64 = 1 << 3
PROT_ALL = 7
CPU_MODEL_WESTMERE = 16
CPU_MODEL_ARM64_MAX = 3
#: U54 and U34
CPU_MODEL_RISCV_SIFIVE = 3

ERR_OK = 0
ERR_INSN_INVALID = 10

HOOK_INTR = 1
HOOK_INSN = 2
HOOK_CODE = 4
HOOK_BLOCK = 8
HOOK_MEM_WRITE_PROT = 1 << 8
HOOK_MEM_READ = 1 << 10
HOOK_MEM_WRITE = 1 << 11

INSN_CPUID = 113
INSN_IN = 218
INSN_OUT = 500
INSN_SYSCALL = 699
INSN_SYSENTER = 700

REG_EFLAGS = 25
REG_MSR = 248


def _control(kind: int, arguments: int) -> int:
    """UC_CTL_WRITE(kind, arguments) of unicorn.h."""
    return kind | arguments << 26 | 1 << 30


CTL_USE_EXITS = _control(4, 1)
CTL_CPU_MODEL = _control(7, 1)
CTL_TB_FLUSH = _control(10, 0)
CTL_TLB_FLUSH = _control(11, 0)
CTL_TCG_BUFFER_SIZE = _control(13, 1)

#: bytes of host code kept per vCPU; Unicorn's default reserves 1 GiB of address space for each
TCG_BUFFER = 64 << 20

# Handles and addresses are c_size_t, which ctypes hands over as plain ints (c_void_p's NULL is None).
BLOCK_HOOK = ctypes.CFUNCTYPE(None, c_size_t, c_uint64, c_uint32, c_size_t)
INTR_HOOK = ctypes.CFUNCTYPE(None, c_size_t, c_uint32, c_size_t)
#: SYSCALL, SYSENTER (no result is read) and CPUID (non-zero: the callback has done it)
INSN_HOOK = ctypes.CFUNCTYPE(c_int, c_size_t, c_size_t)
IN_HOOK = ctypes.CFUNCTYPE(c_uint32, c_size_t, c_uint32, c_int, c_size_t)
OUT_HOOK = ctypes.CFUNCTYPE(None, c_size_t, c_uint32, c_int, c_uint32, c_size_t)
MEM_HOOK = ctypes.CFUNCTYPE(None, c_size_t, c_int, c_uint64, c_int, c_uint64, c_size_t)
MMIO_READ = ctypes.CFUNCTYPE(c_uint64, c_size_t, c_uint64, c_uint32, c_size_t)
MMIO_WRITE = ctypes.CFUNCTYPE(None, c_size_t, c_uint64, c_uint32, c_uint64, c_size_t)

#: tlb_protect_code: uc, address in its RAM
PROTECT = ctypes.CFUNCTYPE(None, c_size_t, c_size_t)

_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "uc_open": (c_int, c_int, c_void_p),
    "uc_close": (c_size_t,),
    "uc_ctl": (c_size_t, c_int),  # variadic from here on
    "uc_mem_map_ptr": (c_size_t, c_uint64, c_uint64, c_uint32, c_void_p),
    "uc_mem_unmap": (c_size_t, c_uint64, c_uint64),
    "uc_mmio_map": (c_size_t, c_uint64, c_uint64, c_void_p, c_void_p, c_void_p, c_void_p),
    "uc_hook_add": (c_size_t, c_void_p, c_int, c_void_p, c_void_p, c_uint64, c_uint64),  # variadic
    "uc_hook_del": (c_size_t, c_size_t),
    "uc_emu_start": (c_size_t, c_uint64, c_uint64, c_uint64, c_size_t),
    "uc_emu_stop": (c_size_t,),
    "uc_vmem_translate": (c_size_t, c_uint64, c_uint32, c_void_p),
    "uc_reg_read": (c_size_t, c_int, c_void_p),
    "uc_reg_write": (c_size_t, c_int, c_void_p),
    "uc_context_alloc": (c_size_t, c_void_p),
    "uc_context_save": (c_size_t, c_size_t),
    "uc_context_restore": (c_size_t, c_size_t),
    "uc_context_free": (c_size_t,),
}


def _path() -> str | None:
    """Where the installed wheel keeps its shared library; None when it is not installed."""
    try:
        spec = importlib.util.find_spec("unicorn")
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    names = {"darwin": ("libunicorn.2.dylib", "libunicorn.dylib"), "win32": ("unicorn.dll",)}
    for folder in spec.submodule_search_locations:
        for name in names.get(sys.platform, ("libunicorn.so.2", "libunicorn.so")):
            path = os.path.join(folder, "lib", name)
            if os.path.exists(path):
                return path
    return None


def available() -> tuple[bool, str]:
    """(usable, why not). Loads nothing."""
    if _path() is not None:
        return True, ""
    return False, "unicorn is not installed: pip install 'vmlab[soft]'"


@functools.cache
def library() -> Any:
    """The loaded library with its prototypes. Raises EngineUnavailable."""
    path = _path()
    if path is None:
        raise EngineUnavailable(available()[1])
    try:
        loaded = ctypes.CDLL(path)
        for name, arguments in _PROTOTYPES.items():
            function = getattr(loaded, name)
            function.argtypes = arguments
            function.restype = c_int
        loaded.uc_strerror.argtypes = (c_int,)
        loaded.uc_strerror.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        raise EngineUnavailable(f"cannot use {path}: {error}") from error
    return loaded


def describe(status: int) -> str:
    """Unicorn's own words for a status."""
    text: bytes = library().uc_strerror(status)
    return text.decode("ascii", "replace")


class _Msr(ctypes.Structure):
    """uc_x86_msr of unicorn/x86.h."""

    _fields_ = (("number", c_uint32), ("value", c_uint64))


class Uc:
    """One Unicorn instance, 64-bit x86 unless it is said. It belongs to one thread at a time."""

    def __init__(
        self, arch: int = ARCH_X86, mode: int = MODE_64, model: int = CPU_MODEL_WESTMERE
    ) -> None:
        self.lib = library()
        handle = c_size_t()
        self._check(self.lib.uc_open(arch, mode, ctypes.byref(handle)), "open")
        self.handle = handle.value
        #: callbacks that C holds: they live as long as the instance
        self._callbacks: list[Any] = []
        self._control(CTL_TCG_BUFFER_SIZE, c_uint32(TCG_BUFFER))
        # Westmere: x86-64-v2 without XSAVE, SMAP, PCID and SVM, which Unicorn has no working half of
        self._control(CTL_CPU_MODEL, c_int(model))
        # otherwise the `until` address of a run (0 here) ends it
        self._control(CTL_USE_EXITS, c_int(1))

    def _check(self, status: int, what: str) -> None:
        if status != ERR_OK:
            raise EngineError(f"unicorn: {what}: {describe(status)}")

    def _control(self, control: int, *arguments: Any) -> None:
        self._check(self.lib.uc_ctl(self.handle, control, *arguments), "control")

    def flush_code(self) -> None:
        """Forget all translated code (the host wrote to guest memory)."""
        self._control(CTL_TB_FLUSH)

    def flush_tlb(self) -> None:
        self._control(CTL_TLB_FLUSH)

    def map_ram(self, base: int, size: int, host_address: int) -> None:
        status = self.lib.uc_mem_map_ptr(self.handle, base, size, PROT_ALL, host_address)
        self._check(status, f"map {size:#x} bytes of RAM at {base:#x}")

    def unmap(self, base: int, size: int) -> None:
        self._check(self.lib.uc_mem_unmap(self.handle, base, size), f"unmap {base:#x}")

    def map_mmio(self, base: int, size: int, read: Any, write: Any) -> None:
        """`read`, `write` are MMIO_READ and MMIO_WRITE objects; their offset counts from `base`."""
        self._callbacks += (read, write)
        status = self.lib.uc_mmio_map(
            self.handle, base, size, address_of(read), None, address_of(write), None
        )
        self._check(status, f"map {size:#x} bytes of MMIO at {base:#x}")

    def hook(self, kind: int, callback: Any, begin: int, end: int, insn: int | None = None) -> int:
        """Install a raw callback over [begin, end] (all addresses when end < begin). -> its handle."""
        self._callbacks.append(callback)
        return self.hook_address(kind, address_of(callback), begin, end, insn)

    def hook_address(
        self,
        kind: int,
        address: int,
        begin: int,
        end: int,
        insn: int | None = None,
        data: int | None = None,
    ) -> int:
        handle = c_size_t()
        more = () if insn is None else (c_int(insn),)
        status = self.lib.uc_hook_add(
            self.handle, ctypes.byref(handle), kind, address, data, begin, end, *more
        )
        self._check(status, "hook")
        return handle.value

    def unhook(self, handle: int) -> None:
        """Not from inside a run."""
        self._check(self.lib.uc_hook_del(self.handle, handle), "remove a hook")

    def read_register(self, number: int) -> int:
        value = c_int64()
        self._check(
            self.lib.uc_reg_read(self.handle, number, ctypes.byref(value)), "read a register"
        )
        return value.value & (1 << 64) - 1

    def write_register(self, number: int, value: int) -> None:
        raw = c_uint64(value)
        self._check(
            self.lib.uc_reg_write(self.handle, number, ctypes.byref(raw)), "write a register"
        )

    def write_msr(self, number: int, value: int) -> None:
        msr = _Msr(number, value)
        self._check(
            self.lib.uc_reg_write(self.handle, REG_MSR, ctypes.byref(msr)), f"write MSR {number:#x}"
        )

    def run(self, pc: int, count: int = 0) -> int:
        """Execute from `pc` until something stops it (or `count` instructions) -> UC_ERR_*."""
        status: int = self.lib.uc_emu_start(self.handle, pc, 0, 0, count)
        return status

    def close(self) -> None:
        if self.handle:
            self.lib.uc_close(self.handle)
            self.handle = 0
            # the closures behind them refer to the vCPU: without this a cycle keeps everything
            self._callbacks.clear()


def address_of(callback: Any) -> int:
    """The C address of a ctypes callback or function."""
    return ctypes.cast(callback, c_void_p).value or 0
