"""The leaves of CPUID that Unicorn's CPU model gets wrong for this machine.

Everything else is Unicorn's own answer (Westmere: x86-64-v2). The callback runs before the instruction;
returning 1 skips it.
"""

from __future__ import annotations

from collections.abc import Callable

from vmlab.engine.soft.uclib import Uc

__all__ = ["hook"]

# UC_X86_REG_* of unicorn/x86.h
_RAX, _RBX, _RCX, _RDX = 35, 37, 38, 40
_HYPERVISOR_LEAF = 0x4000_0000
_SIGNATURE = b"vmlab soft\0\0"

# leaf 1: family 6 model 44 stepping 1
_VERSION = 0x0002_06C1
#: SSE3 PCLMULQDQ SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES, hypervisor; neither MONITOR, x2APIC,
#: TSC-deadline nor XSAVE, for which there is nothing behind
_FEATURES_C = 1 << 0 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 25 | 1 << 31
#: FPU VME DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2
_FEATURES_D = 0x078B_F97F


def hook(uc: Uc, number: int) -> Callable[[int, int], int]:
    """The callback for vCPU `number`."""

    def on_cpuid(_uc: int, _data: int) -> int:
        leaf = uc.read_register(_RAX) & 0xFFFF_FFFF
        if leaf == 1:
            # EBX: APIC id, one logical processor, CLFLUSH of 64 bytes
            _answer(uc, _VERSION, number << 24 | 1 << 16 | 8 << 8, _FEATURES_C, _FEATURES_D)
        elif leaf == _HYPERVISOR_LEAF:
            words = (int.from_bytes(_SIGNATURE[n : n + 4], "little") for n in (0, 4, 8))
            _answer(uc, _HYPERVISOR_LEAF, *words)
        elif (
            leaf in (0x0B, 0x0D, 0x14, 0x1F) or _HYPERVISOR_LEAF < leaf < _HYPERVISOR_LEAF + 0x10000
        ):
            _answer(uc, 0, 0, 0, 0)
        else:
            return 0
        return 1

    return on_cpuid


def _answer(uc: Uc, *values: int) -> None:
    for register, value in zip((_RAX, _RBX, _RCX, _RDX), values, strict=True):
        uc.write_register(register, value)
