"""What CPUID says inside the guest: the host's answers with this machine's topology put in.

KVM_GET_SUPPORTED_CPUID (KVM API 4.46) gives the values of the host CPU that happens to run it, its
APIC id among them; a guest whose CPUs read another one's id does not start its second CPU.
"""

from __future__ import annotations

import ctypes

from vmlab.core.host import Host
from vmlab.engine.kvm import abi

__all__ = ["for_vcpu", "supported"]

_HYPERVISOR = 1 << 31  # leaf 1 ECX
_TSC_DEADLINE = 1 << 24  # leaf 1 ECX
_HTT = 1 << 28  # leaf 1 EDX: EBX[23:16] is valid
_LEVEL_SMT, _LEVEL_CORE = 1 << 8, 2 << 8  # leaf 0xb ECX[15:8]


def supported(host: Host, kvm: int) -> abi.Cpuid2:
    """Every leaf that the host can give a guest."""
    table = abi.Cpuid2(nent=abi.MAX_CPUID_ENTRIES)
    host.ioctl(kvm, abi.KVM_GET_SUPPORTED_CPUID, table)
    # leaf 1 leaves the TSC deadline out, because it depends on the irqchip (KVM API 4.46)
    if host.ioctl(kvm, abi.KVM_CHECK_EXTENSION, abi.KVM_CAP_TSC_DEADLINE_TIMER) > 0:
        for entry in table.entries[: table.nent]:
            if entry.function == 1:
                entry.ecx |= _TSC_DEADLINE
    return table


def for_vcpu(template: abi.Cpuid2, index: int, cpus: int) -> abi.Cpuid2:
    """`template` as vCPU `index` of `cpus` shows it: one package, one thread per core."""
    table = abi.Cpuid2()
    ctypes.memmove(ctypes.byref(table), ctypes.byref(template), ctypes.sizeof(template))
    for entry in table.entries[: table.nent]:
        if entry.function == 1:
            entry.ebx = (entry.ebx & 0xFFFF) | (min(cpus, 255) << 16) | ((index & 0xFF) << 24)
            entry.ecx |= _HYPERVISOR
            entry.edx = entry.edx | _HTT if cpus > 1 else entry.edx & ~_HTT
        elif entry.function in (0xB, 0x1F):
            _topology(entry, index, cpus)
        elif entry.function == 0x8000_001E:
            entry.eax, entry.ebx, entry.ecx = index, index & 0xFF, 0
    return table


def _topology(entry: abi.CpuidEntry2, index: int, cpus: int) -> None:
    """Leaves 0xb and 0x1f (Intel SDM vol. 2A, CPUID): EDX is the x2APIC id in every sub-leaf."""
    levels = {
        0: (0, 1, _LEVEL_SMT),
        1: ((cpus - 1).bit_length(), cpus, _LEVEL_CORE | 1),
    }
    entry.eax, entry.ebx, entry.ecx = levels.get(entry.index, (0, 0, entry.index & 0xFF))
    entry.edx = index
