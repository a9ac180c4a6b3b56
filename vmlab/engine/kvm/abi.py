"""The kernel's KVM interface as ctypes: structures, ioctl numbers, capabilities, exit reasons.

Names are those of <linux/kvm.h>; sections are those of Documentation/virt/kvm/api.rst. The ioctl
numbers are computed from the sizes of the structures, as the kernel's _IO macros do, and a test
compares every number, size and offset with the header's where a compiler and it are installed.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_uint8, c_uint16, c_uint32, c_uint64

# --- structures ---------------------------------------------------------------------------------


class UserspaceMemoryRegion(ctypes.Structure):
    """struct kvm_userspace_memory_region (KVM API 4.35)."""

    _fields_ = (
        ("slot", c_uint32),
        ("flags", c_uint32),
        ("guest_phys_addr", c_uint64),
        ("memory_size", c_uint64),
        ("userspace_addr", c_uint64),
    )


class Regs(ctypes.Structure):
    """struct kvm_regs (KVM API 4.11)."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
            *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
            *("rip", "rflags"),
        )
    )


class Segment(ctypes.Structure):
    """struct kvm_segment: a segment register with its hidden part."""

    _fields_ = (
        ("base", c_uint64),
        ("limit", c_uint32),
        ("selector", c_uint16),
        ("type", c_uint8),
        ("present", c_uint8),
        ("dpl", c_uint8),
        ("db", c_uint8),
        ("s", c_uint8),
        ("l", c_uint8),
        ("g", c_uint8),
        ("avl", c_uint8),
        ("unusable", c_uint8),
        ("padding", c_uint8),
    )


class Dtable(ctypes.Structure):
    """struct kvm_dtable: GDTR or IDTR."""

    _fields_ = (("base", c_uint64), ("limit", c_uint16), ("padding", c_uint16 * 3))


class Sregs(ctypes.Structure):
    """struct kvm_sregs (KVM API 4.13)."""

    _fields_ = (
        *((name, Segment) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")),
        ("gdt", Dtable),
        ("idt", Dtable),
        *((name, c_uint64) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")),
        ("interrupt_bitmap", c_uint64 * 4),
    )


class ClockData(ctypes.Structure):
    """struct kvm_clock_data (KVM API 4.29)."""

    _fields_ = (
        ("clock", c_uint64),  # nanoseconds
        ("flags", c_uint32),
        ("pad0", c_uint32),
        ("realtime", c_uint64),
        ("host_tsc", c_uint64),
        ("pad", c_uint32 * 4),
    )


class CpuidEntry2(ctypes.Structure):
    """struct kvm_cpuid_entry2 (KVM API 4.46)."""

    _fields_ = (
        *((name, c_uint32) for name in ("function", "index", "flags", "eax", "ebx", "ecx", "edx")),
        ("padding", c_uint32 * 3),
    )


#: the kernel's own bound, KVM_MAX_CPUID_ENTRIES
MAX_CPUID_ENTRIES = 256


class Cpuid2(ctypes.Structure):
    """struct kvm_cpuid2 with room for all that the kernel can give; `HEADER` is its fixed part."""

    _fields_ = (
        ("nent", c_uint32),
        ("padding", c_uint32),
        ("entries", CpuidEntry2 * MAX_CPUID_ENTRIES),
    )
    HEADER = 8


class Irqfd(ctypes.Structure):
    """struct kvm_irqfd (KVM API 4.75)."""

    _fields_ = (
        ("fd", c_uint32),
        ("gsi", c_uint32),
        ("flags", c_uint32),
        ("resamplefd", c_uint32),
        ("pad", c_uint8 * 16),
    )


class Ioeventfd(ctypes.Structure):
    """struct kvm_ioeventfd (KVM API 4.59)."""

    _fields_ = (
        ("datamatch", c_uint64),
        ("addr", c_uint64),
        ("len", c_uint32),
        ("fd", c_int32),
        ("flags", c_uint32),
        ("pad", c_uint8 * 36),
    )


class IrqLevel(ctypes.Structure):
    """struct kvm_irq_level (KVM API 4.25); `irq` is a GSI on x86, and KVM_IRQ_LINE_STATUS puts its
    answer over it: > 0 taken, 0 merged with one still pending, < 0 masked, or a level that waits."""

    _fields_ = (("irq", c_uint32), ("level", c_uint32))


class MpState(ctypes.Structure):
    """struct kvm_mp_state (KVM API 4.38)."""

    _fields_ = (("mp_state", c_uint32),)


class VcpuEvents(ctypes.Structure):
    """struct kvm_vcpu_events (KVM API 4.31), its inner structures flat."""

    _fields_ = (
        ("exception", c_uint8 * 8),
        *((f"interrupt_{name}", c_uint8) for name in ("injected", "nr", "soft", "shadow")),
        ("nmi", c_uint8 * 4),
        ("sipi_vector", c_uint32),
        ("flags", c_uint32),
        ("rest", c_uint8 * 40),
    )


class PitConfig(ctypes.Structure):
    """struct kvm_pit_config (KVM API 4.71)."""

    _fields_ = (("flags", c_uint32), ("pad", c_uint32 * 15))


class Translation(ctypes.Structure):
    """struct kvm_translation (KVM API 4.15)."""

    _fields_ = (
        ("linear_address", c_uint64),
        ("physical_address", c_uint64),
        ("valid", c_uint8),
        ("writeable", c_uint8),
        ("usermode", c_uint8),
        ("pad", c_uint8 * 5),
    )


class GuestDebug(ctypes.Structure):
    """struct kvm_guest_debug (KVM API 4.87)."""

    _fields_ = (("control", c_uint32), ("pad", c_uint32), ("debugreg", c_uint64 * 8))


class SignalMask(ctypes.Structure):
    """struct kvm_signal_mask (KVM API 4.21) with the kernel's 8-byte signal set; `HEADER` is its
    fixed part, the one the ioctl number is made of."""

    _fields_ = (("len", c_uint32), ("sigset", c_uint8 * 8))
    HEADER = 4


class _RunIo(ctypes.Structure):
    _fields_ = (
        ("direction", c_uint8),
        ("size", c_uint8),
        ("port", c_uint16),
        ("count", c_uint32),
        ("data_offset", c_uint64),
    )


class _RunMmio(ctypes.Structure):
    _fields_ = (
        ("phys_addr", c_uint64),
        ("data", c_uint8 * 8),
        ("len", c_uint32),
        ("is_write", c_uint8),
    )


class _RunFailEntry(ctypes.Structure):
    _fields_ = (("hardware_entry_failure_reason", c_uint64), ("cpu", c_uint32))


class _RunInternal(ctypes.Structure):
    _fields_ = (("suberror", c_uint32), ("ndata", c_uint32), ("data", c_uint64 * 16))


class _RunSystemEvent(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("ndata", c_uint32), ("data", c_uint64 * 16))


class _RunHw(ctypes.Structure):
    _fields_ = (("hardware_exit_reason", c_uint64),)


class _RunDebug(ctypes.Structure):
    """struct kvm_debug_exit_arch of x86."""

    _fields_ = (
        ("exception", c_uint32),
        ("pad", c_uint32),
        ("pc", c_uint64),
        ("dr6", c_uint64),
        ("dr7", c_uint64),
    )


class _RunUnion(ctypes.Union):
    _fields_ = (
        ("hw", _RunHw),
        ("io", _RunIo),
        ("debug", _RunDebug),
        ("mmio", _RunMmio),
        ("fail_entry", _RunFailEntry),
        ("internal", _RunInternal),
        ("system_event", _RunSystemEvent),
        ("padding", c_uint8 * 256),
    )


class Run(ctypes.Structure):
    """struct kvm_run (KVM API 5) up to the general registers, which x86 puts there on demand (KVM API 4.99,
    KVM_CAP_SYNC_REGS)."""

    _fields_ = (
        ("request_interrupt_window", c_uint8),
        ("immediate_exit", c_uint8),
        ("padding1", c_uint8 * 6),
        ("exit_reason", c_uint32),
        ("ready_for_interrupt_injection", c_uint8),
        ("if_flag", c_uint8),
        ("flags", c_uint16),
        ("cr8", c_uint64),
        ("apic_base", c_uint64),
        ("u", _RunUnion),
        ("kvm_valid_regs", c_uint64),
        ("kvm_dirty_regs", c_uint64),
        ("regs", Regs),
    )


# --- ioctl numbers ------------------------------------------------------------------------------

KVMIO = 0xAE


def _io(number: int, size: int = 0, direction: int = 0) -> int:
    """The kernel's _IOC: direction in bits 31:30, size in 29:16, type in 15:8, number in 7:0."""
    return direction << 30 | size << 16 | KVMIO << 8 | number


def _iow(number: int, size: int) -> int:
    return _io(number, size, 1)


def _ior(number: int, size: int) -> int:
    return _io(number, size, 2)


def _iowr(number: int, size: int) -> int:
    return _io(number, size, 3)


_sizeof = ctypes.sizeof

KVM_API_VERSION = 12

# on /dev/kvm
KVM_GET_API_VERSION = _io(0x00)
KVM_CREATE_VM = _io(0x01)
KVM_CHECK_EXTENSION = _io(0x03)
KVM_GET_VCPU_MMAP_SIZE = _io(0x04)
KVM_GET_SUPPORTED_CPUID = _iowr(0x05, Cpuid2.HEADER)
# on a VM
KVM_CREATE_VCPU = _io(0x41)
KVM_SET_USER_MEMORY_REGION = _iow(0x46, _sizeof(UserspaceMemoryRegion))
KVM_SET_TSS_ADDR = _io(0x47)
KVM_SET_IDENTITY_MAP_ADDR = _iow(0x48, _sizeof(c_uint64))
KVM_CREATE_IRQCHIP = _io(0x60)
KVM_IRQ_LINE = _iow(0x61, _sizeof(IrqLevel))
KVM_IRQ_LINE_STATUS = _iowr(0x67, _sizeof(IrqLevel))
KVM_IRQFD = _iow(0x76, _sizeof(Irqfd))
KVM_CREATE_PIT2 = _iow(0x77, _sizeof(PitConfig))
KVM_IOEVENTFD = _iow(0x79, _sizeof(Ioeventfd))
KVM_SET_CLOCK = _iow(0x7B, _sizeof(ClockData))
KVM_GET_CLOCK = _ior(0x7C, _sizeof(ClockData))
# on a vCPU
KVM_RUN = _io(0x80)
KVM_GET_REGS = _ior(0x81, _sizeof(Regs))
KVM_SET_REGS = _iow(0x82, _sizeof(Regs))
KVM_GET_SREGS = _ior(0x83, _sizeof(Sregs))
KVM_SET_SREGS = _iow(0x84, _sizeof(Sregs))
KVM_TRANSLATE = _iowr(0x85, _sizeof(Translation))
KVM_SET_SIGNAL_MASK = _iow(0x8B, SignalMask.HEADER)
KVM_SET_CPUID2 = _iow(0x90, Cpuid2.HEADER)
KVM_GET_MP_STATE = _ior(0x98, _sizeof(MpState))
KVM_SET_MP_STATE = _iow(0x99, _sizeof(MpState))
KVM_SET_GUEST_DEBUG = _iow(0x9B, _sizeof(GuestDebug))
KVM_GET_VCPU_EVENTS = _ior(0x9F, _sizeof(VcpuEvents))
KVM_SET_VCPU_EVENTS = _iow(0xA0, _sizeof(VcpuEvents))
KVM_KVMCLOCK_CTRL = _io(0xAD)

# --- capabilities (KVM_CHECK_EXTENSION, KVM API 4.4) ----------------------------------------------

KVM_CAP_IRQCHIP = 0
KVM_CAP_USER_MEMORY = 3
KVM_CAP_SET_TSS_ADDR = 4
KVM_CAP_EXT_CPUID = 7
KVM_CAP_MP_STATE = 14
KVM_CAP_SET_GUEST_DEBUG = 23
KVM_CAP_IRQ_INJECT_STATUS = 26
KVM_CAP_IRQFD = 32
KVM_CAP_PIT2 = 33
KVM_CAP_IOEVENTFD = 36
KVM_CAP_SET_IDENTITY_MAP_ADDR = 37
KVM_CAP_VCPU_EVENTS = 41
KVM_CAP_MAX_VCPUS = 66
KVM_CAP_ONE_REG = 70
KVM_CAP_TSC_DEADLINE_TIMER = 72
KVM_CAP_SYNC_REGS = 74
KVM_CAP_DEVICE_CTRL = 89
KVM_CAP_ARM_PSCI_0_2 = 102
KVM_CAP_IMMEDIATE_EXIT = 136

# --- exit reasons (KVM API 5) ---------------------------------------------------------------------

KVM_EXIT_UNKNOWN = 0
KVM_EXIT_EXCEPTION = 1
KVM_EXIT_IO = 2
KVM_EXIT_DEBUG = 4
KVM_EXIT_HLT = 5
KVM_EXIT_MMIO = 6
KVM_EXIT_IRQ_WINDOW_OPEN = 7
KVM_EXIT_SHUTDOWN = 8
KVM_EXIT_FAIL_ENTRY = 9
KVM_EXIT_INTR = 10
KVM_EXIT_INTERNAL_ERROR = 17
KVM_EXIT_SYSTEM_EVENT = 24
KVM_EXIT_ARM_NISV = 28

KVM_EXIT_IO_OUT = 1

KVM_INTERNAL_ERROR_EMULATION = 1
KVM_INTERNAL_ERROR_SIMUL_EX = 2
KVM_INTERNAL_ERROR_DELIVERY_EV = 3
KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4

KVM_SYSTEM_EVENT_SHUTDOWN = 1
KVM_SYSTEM_EVENT_RESET = 2
KVM_SYSTEM_EVENT_CRASH = 3

# --- flags ----------------------------------------------------------------------------------------

KVM_MP_STATE_RUNNABLE = 0
KVM_MP_STATE_UNINITIALIZED = 1
KVM_MP_STATE_INIT_RECEIVED = 2
KVM_MP_STATE_HALTED = 3

KVM_VCPUEVENT_VALID_SHADOW = 4

KVM_GUESTDBG_ENABLE = 1
KVM_GUESTDBG_SINGLESTEP = 2
KVM_GUESTDBG_USE_SW_BP = 1 << 16
KVM_GUESTDBG_USE_HW_BP = 1 << 17

KVM_IRQFD_FLAG_DEASSIGN = 1
KVM_IOEVENTFD_FLAG_DATAMATCH = 1
KVM_IOEVENTFD_FLAG_DEASSIGN = 4
KVM_PIT_SPEAKER_DUMMY = 1
KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1
