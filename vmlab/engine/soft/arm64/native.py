"""The same by the library's inner functions, which builds of Unicorn for Linux export.

- Exceptions: `arm_cpu_do_interrupt` inside the callback that reports one enters it completely.
- Interrupts: a bit in QEMU's `interrupt_request` is looked at natively wherever a CPU may take one.
- System registers: QEMU's description of a register (`ARMCPRegInfo`) gets functions or a value of ours before
  any code is translated.
- Code: IC IVAU and its like, which Unicorn ignores, throw translations away, as the architecture wants it
  from a guest that writes code (DDI 0487, B2.7.4). CTR_EL0.IminLine says 4 KiB: one is enough for a page.

Structures are QEMU 5's, from which Unicorn 2 derives. `usable` looks whether they are where this version has
them, and tries it all; where that fails, there is `core`.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from vmlab.core.memory import Region
from vmlab.core.once import once
from vmlab.engine.soft import uclib
from vmlab.engine.soft.arm64 import registers as r
from vmlab.engine.soft.arm64.core import Core, Owner
from vmlab.engine.soft.arm64.registers import Key
from vmlab.engine.soft.arm64.timer import TICK_NS
from vmlab.engine.soft.uclib import Uc

__all__ = ["NativeCore", "usable"]

_SIZE, _U64, _INT = ctypes.c_size_t, ctypes.c_uint64, ctypes.c_int
_READ = ctypes.CFUNCTYPE(_U64, _SIZE, _SIZE)
_WRITE = ctypes.CFUNCTYPE(None, _SIZE, _SIZE, _U64)
_FUNCTIONS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "qemu_get_cpu_aarch64": ((_SIZE, _INT), _SIZE),
    "arm_cpu_do_interrupt_aarch64": ((_SIZE,), None),
    "get_arm_cp_reginfo_aarch64": ((_SIZE, ctypes.c_uint32), _SIZE),
    "define_one_arm_cp_reg_with_opaque_aarch64": ((_SIZE, _SIZE, _SIZE), None),
    "arm_cpu_get_phys_page_attrs_debug_aarch64": ((_SIZE, _U64, _SIZE), _U64),
    "tb_invalidate_phys_range_aarch64": ((_SIZE, _U64, _U64), None),
    "qemu_ram_addr_from_host_aarch64": ((_SIZE, _SIZE), _U64),
}
#: 2.1.4, as uc_version() says it
_VERSION = 2 << 24 | 1 << 16 | 4 << 8
# in QEMU's CPUState: interrupt_request, env_ptr, icount_decr_ptr; the latter lies before the former's target
_REQUEST, _ENV, _ICOUNT, _ICOUNT_BEFORE = 0x1C, 0x128, 0x130, 16
_HARD = 2
#: of a counter in QEMU's icount_decr: leave the chain of blocks
_LEAVE = 0xFFFF
# in CPUARMState: x0, pc; what follows the part that a context has: 16 watchpoints, Unicorn's handle, the
# table of system registers
_X, _PC, _WATCHPOINTS = 64, 320, 128
# in ARMCPRegInfo (cpu.h)
_STATE, _TYPE, _RESET, _READFN, _WRITEFN, _INFO_SIZE = 16, 20, 40, 80, 88, 136
_CONST, _IO, _NO_RAW = 2, 0x40, 0x80
_AA64, _EL1_ONLY = 1, 0xFC
#: of a 64-bit system register in QEMU's table: CP_REG_AARCH64, CP_REG_ARM64_SYSREG_CP
_AARCH64, _COPROCESSOR = 1 << 28, 0x13
_CNTV_CTL: Key = (3, 3, 14, 3, 1)
_CTR_EL0: Key = (3, 3, 0, 0, 1)
_LINE_4K = 10
#: IC IVAU; IC IALLU, IALLUIS
_IC_IVAU: Key = (1, 3, 7, 5, 1)
_IC_ALL: tuple[Key, ...] = ((1, 0, 7, 5, 0), (1, 0, 7, 1, 0))
_PAGE = 0x1000
_FAR_ABOVE = (1 << 64) - 1
# svc #0; msr daifclr, #2; mrs x2, cntv_ctl_el0; mrs x3, S3_0_C12_C12_0; mrs x4, ctr_el0; add x5, x3, #1;
# msr S3_0_C12_C12_0, x5; wfi; b .
_TRIAL = bytes.fromhex(
    "010000d4 ff4203d5 22e33bd5 03cc38d5 24003bd5 65040091 05cc18d5 7f2003d5 00000014"
)
_VECTORS, _VALUE, _LONG = 0x800, 0x5EED, 1000
_MADE_UP: Key = (3, 0, 12, 12, 0)
_HANDLERS = {
    # add x0, x0, #1; eret
    0xA00: bytes.fromhex("00040091 e0039fd6"),
    # add x1, x1, #1; mov x6, #0x3c5; msr spsr_el1, x6; eret
    0xA80: bytes.fromhex("21040091 a67880d2 064018d5 e0039fd6"),
}


def _bind(library: Any) -> bool:
    """Declare the functions -> whether all are there."""
    for name, (arguments, result) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            return False
        function.argtypes, function.restype = arguments, result
    return True


def _word(address: int) -> int:
    return _U64.from_address(address).value


class _Inside:
    """Addresses in an instance's structures; `known` False: they are not what this version has."""

    def __init__(self, uc: Uc) -> None:
        self.known = False
        # the library may have been loaded anew since: undeclared functions would cut their arguments
        if not _bind(uc.lib):
            return
        self.cpu = uc.lib.qemu_get_cpu_aarch64(uc.handle, -1)
        if not self.cpu:
            return
        self.env = _word(self.cpu + _ENV)
        if _word(self.cpu + _ICOUNT) != self.env - _ICOUNT_BEFORE:
            return
        size = _context_size(uc)
        at = self.env + size + _WATCHPOINTS
        if _word(at) != uc.handle:
            return
        self.table = _word(at + 8 + 15 & ~15)
        self.known = self._marks(uc) and self._describes()

    def _marks(self, uc: Uc) -> bool:
        mark = 0x5EED_0000_ABCD_1230
        found = []
        for number, at in ((r.GENERAL[3], _X + 24), (r.PC, _PC)):
            before = uc.read_register(number)
            uc.write_register(number, mark)
            found.append(_word(self.env + at) == mark)
            uc.write_register(number, before)
        return all(found)

    def _describes(self) -> bool:
        """Is the register's description as it should be?"""
        info = self.info(_CNTV_CTL)
        wanted = bytes((_COPROCESSOR, 14, 3, 3, 3, 1))
        if not info or ctypes.string_at(info + 8, 6) != wanted:
            return False
        return ctypes.string_at(_word(info), 13) == b"CNTV_CTL_EL0\0"

    def info(self, key: Key) -> int:
        """The address of its ARMCPRegInfo; 0: there is none."""
        op0, op1, crn, crm, op2 = key
        number = _AARCH64 | _COPROCESSOR << 16 | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
        return int(uclib.library().get_arm_cp_reginfo_aarch64(self.table, number))


def _context_size(uc: Uc) -> int:
    handle = _SIZE()
    uc.lib.uc_context_alloc(uc.handle, ctypes.byref(handle))
    # struct uc_context starts with the size of its data
    size = _SIZE.from_address(handle.value).value
    uc.lib.uc_context_free(handle.value)
    return size


@once
def usable() -> bool:
    """Whether this build's insides are known here, and a small guest finds it all working. Done once a
    process, in about 10 ms."""
    uc = r.new_cpu()
    page = mmap.mmap(-1, _PAGE)
    hold = ctypes.c_char.from_buffer(page)
    core = None
    try:
        if not _known(uc):
            return False
        page[: len(_TRIAL)] = _TRIAL
        for at, code in _HANDLERS.items():
            page[at : at + len(code)] = code
        uc.map_ram(0, _PAGE, ctypes.addressof(hold))
        owner = _Trial()
        region = Region(0, _PAGE, 0, memoryview(page))
        served = {_CNTV_CTL: "", _MADE_UP: "VMLAB"}
        owner.core = core = NativeCore(uc, (region,), owner, served, {_CTR_EL0: 0})
        uc.write_register(r.VBAR_EL1, _VECTORS)
        core.set_line(True)
        if core.run(_LONG) or core.pc != len(_TRIAL) - 4:
            return False
        values = [uc.read_register(r.GENERAL[n]) for n in range(5)]
        return values == [1, 1, _VALUE, _VALUE, _LINE_4K] and owner.written == [_VALUE + 1]
    finally:
        if core is not None:
            core.close()
        uc.close()
        del hold


class _Trial:
    """The owner of the trial's CPU."""

    def __init__(self) -> None:
        self.core: NativeCore | None = None
        self.written: list[int] = []

    def on_exception(self, _number: int) -> bool:
        return False

    def read_system(self, _key: Key) -> int:
        return _VALUE

    def write_system(self, _key: Key, value: int) -> None:
        self.written.append(value)
        if self.core is not None:
            self.core.set_line(False)

    def leave_soon(self) -> None:
        return

    def code_at(self, _address: int) -> bytes:
        return b""


def _known(uc: Uc) -> bool:
    """Whether `uc` is of a build whose structures are known here."""
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return False
    version = getattr(uc.lib, "uc_version", None)
    if version is None or version(None, None) >> 8 << 8 != _VERSION or not _bind(uc.lib):
        return False
    return _Inside(uc).known


class NativeCore(Core):
    def __init__(
        self,
        uc: Uc,
        regions: Iterable[Region],
        owner: Owner,
        served: Mapping[Key, str],
        constants: Mapping[Key, int],
    ) -> None:
        self._inside = inside = _Inside(uc)
        self._cpu = inside.cpu
        self._request = ctypes.c_uint32.from_address(inside.cpu + _REQUEST)
        self._leave = ctypes.c_uint16.from_address(inside.env - _ICOUNT_BEFORE + 2)
        self._enter = uc.lib.arm_cpu_do_interrupt_aarch64
        #: what C refers to
        self._kept: list[Any] = []
        super().__init__(uc, regions, owner, served, constants)

    # -- system registers ------------------------------------------------------------------------------

    def _serve(self, served: Mapping[Key, str], constants: Mapping[Key, int]) -> None:
        for key, value in constants.items():
            self._make_constant(key, value)
        for key, name in served.items():
            info = self._inside.info(key)
            if info:
                self._put(info, key)
            else:
                self._define(key, name)
        # both counters are the one with an offset, which stops with the machine
        virtual, physical = self._inside.info(r.CNTVCT_EL0), self._inside.info(r.CNTPCT_EL0)
        _U64.from_address(physical + _READFN).value = _word(virtual + _READFN)

    def _make_constant(self, key: Key, value: int) -> None:
        info = self._inside.info(key)
        ctypes.c_int32.from_address(info + _TYPE).value = _CONST
        _U64.from_address(info + _READFN).value = 0
        _U64.from_address(info + _RESET).value = value

    def _functions(self, key: Key) -> tuple[int, int]:
        owner = self._owner
        read = _READ(lambda _env, _info: owner.read_system(key))
        write = _WRITE(lambda _env, _info, value: owner.write_system(key, value))
        self._kept += (read, write)
        return uclib.address_of(read), uclib.address_of(write)

    def _put(self, info: int, key: Key) -> None:
        read, write = self._functions(key)
        _U64.from_address(info + _READFN).value = read
        _U64.from_address(info + _WRITEFN).value = write

    def _define(self, key: Key, name: str) -> None:
        read, write = self._functions(key)
        op0, op1, crn, crm, op2 = key
        text = ctypes.create_string_buffer(name.encode())
        info = ctypes.create_string_buffer(_INFO_SIZE)
        struct.pack_into("<Q6B", info, 0, ctypes.addressof(text), 0, crn, crm, op0, op1, op2)
        struct.pack_into("<3i", info, _STATE, _AA64, _NO_RAW | _IO, _EL1_ONLY)
        struct.pack_into("<2Q", info, _READFN, read, write)
        self._kept += (text, info)
        self.uc.lib.define_one_arm_cp_reg_with_opaque_aarch64(self._cpu, ctypes.addressof(info), 0)

    # -- code ------------------------------------------------------------------------------------------

    def _watch_code(self) -> None:
        lib, handle = self.uc.lib, self.uc.handle
        find = lib.qemu_ram_addr_from_host_aarch64
        #: (address of the guest, its end, address in Unicorn's RAM)
        self._ram = [
            (region.base, region.end, find(handle, region.host_address)) for region in self._regions
        ]
        self._attributes = ctypes.create_string_buffer(64)
        for key in (_IC_IVAU, *_IC_ALL):
            callback = _WRITE(self._forget_page if key == _IC_IVAU else self._forget_all)
            self._kept.append(callback)
            info = self._inside.info(key)
            ctypes.c_int32.from_address(info + _TYPE).value = _NO_RAW
            _U64.from_address(info + _WRITEFN).value = uclib.address_of(callback)
        lines = r.read_system(self.uc, _CTR_EL0)
        self._make_constant(_CTR_EL0, lines & ~15 | _LINE_4K)
        # spares a scan of the TLB for each translation outside these addresses
        idle = uclib.address_of(lib.uc_arch_supported)
        top = max(one.end for one in self._regions)
        self.uc.hook_address(uclib.HOOK_MEM_WRITE_PROT, idle, top, _FAR_ABOVE)

    def _forget_page(self, _env: int, _info: int, address: int) -> None:
        at = self.uc.lib.arm_cpu_get_phys_page_attrs_debug_aarch64(
            self._cpu, address, ctypes.addressof(self._attributes)
        )
        self._forget(at & ~(_PAGE - 1), _PAGE)

    def _forget_all(self, _env: int, _info: int, _value: int) -> None:
        for base, end, _ in self._ram:
            self._forget(base, end - base)

    def _forget(self, address: int, size: int) -> None:
        for base, end, at in self._ram:
            first, last = max(address, base), min(address + size, end)
            if first < last:
                self.uc.lib.tb_invalidate_phys_range_aarch64(
                    self.uc.handle, at + first - base, at + last - base
                )

    # -- exceptions and interrupts ---------------------------------------------------------------------

    def _on_interrupt(self, _uc: int, number: int, _data: int) -> None:
        if not self._owner.on_exception(number):
            self._enter(self._cpu)

    def set_line(self, level: bool) -> None:
        self._request.value = self._request.value & ~_HARD | level * _HARD

    def leave_for_interrupt(self) -> bool:
        self._leave.value = _LEAVE
        return True

    def _settle(self) -> None:
        return

    def enter_interrupt(self) -> None:
        return

    def wrote(self) -> None:
        return

    def refresh(self) -> None:
        return

    def set_clock(self, offset: int) -> None:
        r.write_system(self.uc, r.CNTVOFF_EL2, offset // TICK_NS)

    def close(self) -> None:
        self._kept.clear()
