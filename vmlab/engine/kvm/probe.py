"""Whether this host can run the engine, and in words why not."""

from __future__ import annotations

import errno
import platform
import sys

from vmlab import arch
from vmlab.core.host import HOST, Host
from vmlab.engine.kvm import abi
from vmlab.errors import EngineUnavailable

__all__ = ["DEVICE", "available", "check_capabilities", "open_kvm"]

DEVICE = "/dev/kvm"

_COMMON = {
    "KVM_CAP_IRQCHIP": abi.KVM_CAP_IRQCHIP,
    "KVM_CAP_USER_MEMORY": abi.KVM_CAP_USER_MEMORY,
    "KVM_CAP_MP_STATE": abi.KVM_CAP_MP_STATE,
    "KVM_CAP_SET_GUEST_DEBUG": abi.KVM_CAP_SET_GUEST_DEBUG,
    "KVM_CAP_IRQFD": abi.KVM_CAP_IRQFD,
    "KVM_CAP_IOEVENTFD": abi.KVM_CAP_IOEVENTFD,
    "KVM_CAP_IMMEDIATE_EXIT": abi.KVM_CAP_IMMEDIATE_EXIT,
}
#: what the engine cannot do without, by the architecture and by the name that the KVM API document uses
REQUIRED = {
    "x86_64": _COMMON
    | {
        "KVM_CAP_SET_TSS_ADDR": abi.KVM_CAP_SET_TSS_ADDR,
        "KVM_CAP_EXT_CPUID": abi.KVM_CAP_EXT_CPUID,
        "KVM_CAP_IRQ_INJECT_STATUS": abi.KVM_CAP_IRQ_INJECT_STATUS,
        "KVM_CAP_VCPU_EVENTS": abi.KVM_CAP_VCPU_EVENTS,
        "KVM_CAP_PIT2": abi.KVM_CAP_PIT2,
        "KVM_CAP_SET_IDENTITY_MAP_ADDR": abi.KVM_CAP_SET_IDENTITY_MAP_ADDR,
    },
    "arm64": _COMMON
    | {
        "KVM_CAP_ONE_REG": abi.KVM_CAP_ONE_REG,
        "KVM_CAP_DEVICE_CTRL": abi.KVM_CAP_DEVICE_CTRL,
        "KVM_CAP_ARM_PSCI_0_2": abi.KVM_CAP_ARM_PSCI_0_2,
    },
}


def available(host: Host = HOST, arch: str = "") -> tuple[bool, str]:
    """For guests of `arch`, this host's unless said: (True, what was found) or (False, why not and what to do
    about it)."""
    try:
        fd = open_kvm(host, arch)
    except EngineUnavailable as error:
        return False, str(error)
    host.close(fd)
    return True, f"{DEVICE} opens, KVM API version {abi.KVM_API_VERSION}"


def open_kvm(host: Host, wanted: str = "") -> int:
    """/dev/kvm, checked. wanted: the guest's architecture. EngineUnavailable says what is missing; nothing
    stays open then."""
    if not sys.platform.startswith("linux"):
        raise EngineUnavailable(f"KVM is a part of Linux, and this host runs {sys.platform}")
    if (wanted or arch.host()) != arch.host() or arch.host() not in REQUIRED:
        raise EngineUnavailable(
            f"KVM runs guests of the host's architecture, and this host is {platform.machine()}"
        )
    try:
        fd = host.open(DEVICE)
    except OSError as error:
        raise EngineUnavailable(_cannot_open(error)) from error
    try:
        check_capabilities(host, fd)
    except BaseException:
        host.close(fd)
        raise
    return fd


def _cannot_open(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        what = "does not exist" if error.errno == errno.ENOENT else "has no driver behind it"
        return (
            f"{DEVICE} {what}: load the module (sudo modprobe kvm_intel, or kvm_amd), turn "
            "virtualization on in the firmware, or give the container the device "
            "(--device /dev/kvm)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{DEVICE} may not be opened by this user ({error.strerror}): add yourself to the "
            "group kvm: sudo usermod -aG kvm $USER, then log in again"
        )
    return f"{DEVICE} cannot be opened: {error.strerror or error}"


def check_capabilities(host: Host, fd: int) -> None:
    """EngineUnavailable unless the KVM behind `fd` has the API version and all of `REQUIRED`."""
    try:
        version = host.ioctl(fd, abi.KVM_GET_API_VERSION)
        missing = [
            name
            for name, number in REQUIRED[arch.host()].items()
            if host.ioctl(fd, abi.KVM_CHECK_EXTENSION, number) <= 0
        ]
    except OSError as error:
        raise EngineUnavailable(
            f"{DEVICE} does not answer as KVM does: {error.strerror or error}"
        ) from error
    if version != abi.KVM_API_VERSION:
        raise EngineUnavailable(
            f"{DEVICE} speaks KVM API version {version}; version {abi.KVM_API_VERSION} is needed"
        )
    if missing:
        raise EngineUnavailable(
            f"this host's KVM lacks {', '.join(missing)}; a newer host kernel may have it"
        )
