"""The descriptors that KVM hands out, asked by the names of their ioctls."""

from __future__ import annotations

import os
from typing import Any

from vmlab.core.host import Host
from vmlab.engine.kvm import abi
from vmlab.errors import EngineError

__all__ = ["VcpuFd", "control"]


def control(host: Host, fd: int, name: str, argument: Any = 0, numbers: Any = abi) -> int:
    """The ioctl called `name` in the module `numbers`; EngineError with that name when it fails."""
    try:
        return host.ioctl(fd, getattr(numbers, name), argument)
    except OSError as error:
        raise EngineError(f"{name} failed: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno or 0)


class VcpuFd:
    """A vCPU's descriptor and its run page (struct kvm_run) as arrays of each width."""

    def __init__(self, host: Host, vm: int, index: int, page_size: int) -> None:
        self._host = host
        self.index = index
        self.fd = control(host, vm, "KVM_CREATE_VCPU", index)
        try:
            self._page = host.map(self.fd, page_size)
        except (OSError, ValueError) as error:
            host.close(self.fd)
            raise EngineError(f"the run page of vCPU {index} cannot be mapped: {error}") from error
        whole = memoryview(self._page)
        self.u8 = whole.cast("B")
        self.u16 = whole.cast("H")
        self.u32 = whole.cast("I")
        self.u64 = whole.cast("Q")
        whole.release()

    def call(self, name: str, argument: Any = 0, numbers: Any = abi) -> int:
        return control(self._host, self.fd, name, argument, numbers)

    def regs(self) -> abi.Regs:
        regs = abi.Regs()
        self.call("KVM_GET_REGS", regs)
        return regs

    def sregs(self) -> abi.Sregs:
        sregs = abi.Sregs()
        self.call("KVM_GET_SREGS", sregs)
        return sregs

    def mp_state(self) -> int:
        current = abi.MpState()
        self.call("KVM_GET_MP_STATE", current)
        return int(current.mp_state)

    def close(self) -> None:
        for view in (self.u8, self.u16, self.u32, self.u64):
            view.release()
        self._page.close()
        self._host.close(self.fd)
