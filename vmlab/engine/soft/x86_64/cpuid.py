"""The leaves of CPUID that Unicorn's CPU model gets wrong for this machine.

Everything else is Unicorn's own answer (Westmere: x86-64-v2). The callback runs before the instruction;
returning 1 skips it.
"""

from __future__ import annotations

from collections.abc import Callable

from vmlab.engine.soft.uclib import Uc
from vmlab.engine.soft.x86_64 import tsc
from vmlab.engine.soft.x86_64.lapic import BUS_HZ

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
_FEATURES_D = 0x078B_FB7F
#: the highest leaf; those that this machine has nothing to say in read as zero
_LAST_LEAF = 0x16
_ZERO_LEAVES = frozenset((0x0B, 0x0C, 0x0D, 0x0E, 0x0F, *range(0x10, 0x15), 0x1F))
_VENDOR = b"GenuineIntel"


def hook(uc: Uc, number: int) -> Callable[[int, int], int]:
    """The callback for vCPU `number`."""

    def on_cpuid(_uc: int, _data: int) -> int:
        leaf = uc.read_register(_RAX) & 0xFFFF_FFFF
        if leaf == 0:
            vendor = (int.from_bytes(_VENDOR[n : n + 4], "little") for n in (0, 8, 4))
            _answer(uc, _LAST_LEAF, *vendor)
        elif leaf == 1:
            # EBX: APIC id, one logical processor, CLFLUSH of 64 bytes
            _answer(uc, _VERSION, number << 24 | 1 << 16 | 8 << 8, _FEATURES_C, _FEATURES_D)
        elif leaf == _HYPERVISOR_LEAF:
            words = (int.from_bytes(_SIGNATURE[n : n + 4], "little") for n in (0, 4, 8))
            _answer(uc, _HYPERVISOR_LEAF, *words)
        elif leaf in (0x15, 0x16):
            _answer(uc, *_clocks(leaf))
        elif leaf in _ZERO_LEAVES or _HYPERVISOR_LEAF < leaf < _HYPERVISOR_LEAF + 0x10000:
            _answer(uc, 0, 0, 0, 0)
        else:
            return 0
        return 1

    return on_cpuid


def _clocks(leaf: int) -> tuple[int, int, int, int]:
    """Leaf 0x15: TSC = crystal * EBX / EAX, ECX the crystal, which is the APIC timer's clock too; so a
    guest need not measure either. Leaf 0x16: base, maximum and bus frequency in MHz."""
    frequency = tsc.frequency()
    if leaf == 0x16:
        mhz = round(frequency / 1e6)
        return mhz, mhz, 100, 0
    from fractions import Fraction  # only here: few guests ask

    # a guest multiplies EBX by the crystal's kHz, perhaps in 32 bits
    most = 0xFFFF_FFFF // (BUS_HZ // 1000)
    ratio = Fraction(frequency, BUS_HZ).limit_denominator(max(most * BUS_HZ // frequency, 1))
    return ratio.denominator, ratio.numerator, BUS_HZ, 0


def _answer(uc: Uc, *values: int) -> None:
    for register, value in zip((_RAX, _RBX, _RCX, _RDX), values, strict=True):
        uc.write_register(register, value)
