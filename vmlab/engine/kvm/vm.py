"""One KVM virtual machine: its descriptors and run pages, and nothing that runs.

A machine reset makes a new one (`KvmEngine.load`): what KVM hands out is the power-on state of
CPUs, interrupt controllers and timer in full, model-specific registers and paravirtual clocks too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmlab.core.host import Host
from vmlab.engine.kvm import abi
from vmlab.engine.kvm.descriptors import VcpuFd, control
from vmlab.engine.kvm.parts import Parts

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory

__all__ = ["KvmVm"]


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
                vcpu = VcpuFd(host, self.fd, index, page_size)
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
