"""One KVM virtual machine: its descriptors and run pages, and nothing that runs.

A machine reset makes a new one (`KvmEngine.load`): what KVM hands out is the power-on state of
CPUs, interrupt controllers and timer in full, model-specific registers and paravirtual clocks too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vmlab.core.host import Host
from vmlab.engine.kvm import abi
from vmlab.engine.kvm.parts import Parts
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory

__all__ = ["KvmVm", "VcpuFd", "control"]


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

    def __init__(self, host: Host, vm: int, index: int, page_size: int, parts: Parts) -> None:
        self._host = host
        self.index, self.parts = index, parts
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


class KvmVm:
    """A VM with memory, interrupt controllers and `cpus` vCPUs in their power-on state."""

    def __init__(self, host: Host, kvm: int, memory: GuestMemory, cpus: int, parts: Parts) -> None:
        self._host, self._parts = host, parts
        self.vcpus: list[VcpuFd] = []
        self._clock: int | None = None
        page_size = control(host, kvm, "KVM_GET_VCPU_MMAP_SIZE")
        self.fd = control(host, kvm, "KVM_CREATE_VM")
        try:
            parts.furnish(self._control)
            self._place(memory)
            for index in range(cpus):
                vcpu = VcpuFd(host, self.fd, index, page_size, parts)
                self.vcpus.append(vcpu)
                parts.set_up(vcpu)
            parts.complete(self._control)
        except BaseException:
            self.close()
            raise

    def _control(self, name: str, argument: Any = 0, numbers: Any = abi) -> int:
        return control(self._host, self.fd, name, argument, numbers)

    def _place(self, memory: GuestMemory) -> None:
        for slot, region in enumerate(memory.regions):
            self._control(
                "KVM_SET_USER_MEMORY_REGION",
                abi.UserspaceMemoryRegion(
                    slot=slot,
                    guest_phys_addr=region.base,
                    memory_size=region.size,
                    userspace_addr=region.host_address,
                ),
            )

    def hold_clock(self) -> None:
        """No vCPU runs: the guest's clock is to stand still until `release_clock`."""
        if self._clock is None:
            self._clock = self._parts.time(self._control, self.vcpus)

    def release_clock(self) -> None:
        """It goes on from where it was held."""
        if self._clock is not None:
            clock, self._clock = self._clock, None
            self._parts.set_time(self._control, self.vcpus, clock)

    def close(self) -> None:
        while self.vcpus:
            self.vcpus.pop().close()
        self._host.close(self.fd)
