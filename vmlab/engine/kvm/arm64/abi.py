"""KVM's interface on arm64 (linux/arch/arm64/include/uapi/asm/kvm.h; KVM API, the sections named)."""

from __future__ import annotations

import ctypes
from ctypes import c_uint32, c_uint64

from vmlab.engine.kvm.abi import _ior, _iow, _iowr

__all__ = ["CreateDevice", "DeviceAttr", "GuestDebug", "OneReg", "VcpuInit", "core", "system"]


class VcpuInit(ctypes.Structure):
    """struct kvm_vcpu_init (4.82)."""

    _fields_ = (("target", c_uint32), ("features", c_uint32 * 7))


class OneReg(ctypes.Structure):
    """struct kvm_one_reg (4.68): a register's id, and where its value lies."""

    _fields_ = (("id", c_uint64), ("addr", c_uint64))


class CreateDevice(ctypes.Structure):
    """struct kvm_create_device (4.79)."""

    _fields_ = (("type", c_uint32), ("fd", c_uint32), ("flags", c_uint32))


class DeviceAttr(ctypes.Structure):
    """struct kvm_device_attr (4.80)."""

    _fields_ = (("flags", c_uint32), ("group", c_uint32), ("attr", c_uint64), ("addr", c_uint64))


class GuestDebug(ctypes.Structure):
    """struct kvm_guest_debug (4.87) with its breakpoint and watchpoint registers."""

    _fields_ = (("control", c_uint32), ("pad", c_uint32), ("registers", c_uint64 * 64))


_sizeof = ctypes.sizeof

KVM_SET_GUEST_DEBUG = _iow(0x9B, _sizeof(GuestDebug))
KVM_GET_ONE_REG = _iow(0xAB, _sizeof(OneReg))
KVM_SET_ONE_REG = _iow(0xAC, _sizeof(OneReg))
KVM_ARM_VCPU_INIT = _iow(0xAE, _sizeof(VcpuInit))
KVM_ARM_PREFERRED_TARGET = _ior(0xAF, _sizeof(VcpuInit))
KVM_CREATE_DEVICE = _iowr(0xE0, _sizeof(CreateDevice))
KVM_SET_DEVICE_ATTR = _iow(0xE1, _sizeof(DeviceAttr))

# features of a vCPU, bits of VcpuInit.features[0]
KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2 = 1 << 0, 1 << 2
KVM_MP_STATE_STOPPED = 5
#: in kvm_irq_level's `irq` (4.25): a shared interrupt, by its INTID
KVM_ARM_IRQ_TYPE_SPI = 1 << 24
#: a device, by its version (arm-vgic.rst and arm-vgic-v3.rst, beside the KVM API)
KVM_DEV_TYPE_ARM_VGIC = {2: 5, 3: 7}
KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_DEV_ARM_VGIC_GRP_CTRL = 0, 3, 4
KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V2_ADDR_TYPE_CPU = 0, 1
KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST = 2, 3
KVM_DEV_ARM_VGIC_CTRL_INIT = 0

_ARM64_U64 = 0x6030_0000_0000_0000
_CORE, _SYSTEM = 0x0010 << 16, 0x0013 << 16
#: the virtual counter, of all vCPUs; it has the number of another register (4.68)
KVM_REG_ARM_TIMER_CNT = _ARM64_U64 | _SYSTEM | 3 << 14 | 3 << 11 | 14 << 7 | 3 << 3 | 2


def core(word: int) -> int:
    """The id of the core register at that 32-bit word of struct kvm_regs."""
    return _ARM64_U64 | _CORE | word


def system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """The id of a system register."""
    return _ARM64_U64 | _SYSTEM | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
