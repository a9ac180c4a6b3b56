"""One KVM virtual machine: its descriptors and run pages, and nothing that runs.

A machine reset makes a new one (`KvmEngine.load`): what KVM hands out is the power-on state of
CPUs, interrupt controllers and timer in full, model-specific registers and paravirtual clocks too.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from vmlab.core.host import Host
from vmlab.engine.kvm import abi
from vmlab.engine.kvm.x86_64 import cpuid, state
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.arch.x86_64.cpu_state import CpuState
    from vmlab.core.memory import GuestMemory

__all__ = ["KvmVm", "VcpuFd", "control"]

#: three pages and one page of guest-physical space that Intel hosts need for real mode (KVM API
#: 4.36, 4.40); below 4 GiB, outside RAM, devices and firmware
TSS_ADDRESS = 0xFFFB_D000
IDENTITY_MAP_ADDRESS = 0xFFFB_C000


def control(host: Host, fd: int, name: str, argument: Any = 0) -> int:
    """The ioctl called `name`; EngineError with that name when it fails."""
    try:
        return host.ioctl(fd, getattr(abi, name), argument)
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

    def call(self, name: str, argument: Any = 0) -> int:
        return control(self._host, self.fd, name, argument)

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

    def boot(self, start: CpuState) -> None:
        """Put a fresh vCPU in its start state."""
        sregs, regs = self.sregs(), state.start_regs(start)
        state.start_sregs(sregs, start)
        self.call("KVM_SET_SREGS", sregs)
        self.call("KVM_SET_REGS", regs)

    def close(self) -> None:
        for view in (self.u8, self.u16, self.u32, self.u64):
            view.release()
        self._page.close()
        self._host.close(self.fd)


class KvmVm:
    """A VM with memory, interrupt controllers, PIT and `cpus` vCPUs in their power-on state."""

    def __init__(
        self, host: Host, kvm: int, memory: GuestMemory, cpus: int, template: abi.Cpuid2
    ) -> None:
        self._host = host
        self.vcpus: list[VcpuFd] = []
        self._clock: int | None = None
        page_size = control(host, kvm, "KVM_GET_VCPU_MMAP_SIZE")
        self.fd = control(host, kvm, "KVM_CREATE_VM")
        try:
            self._furnish(memory)
            for index in range(cpus):
                vcpu = VcpuFd(host, self.fd, index, page_size)
                self.vcpus.append(vcpu)
                vcpu.call("KVM_SET_CPUID2", cpuid.for_vcpu(template, index, cpus))
        except BaseException:
            self.close()
            raise

    def _furnish(self, memory: GuestMemory) -> None:
        def vm(name: str, argument: Any = 0) -> None:
            control(self._host, self.fd, name, argument)

        vm("KVM_SET_TSS_ADDR", TSS_ADDRESS)
        vm("KVM_SET_IDENTITY_MAP_ADDR", ctypes.c_uint64(IDENTITY_MAP_ADDRESS))
        vm("KVM_CREATE_IRQCHIP")
        # the dummy speaker is what answers at port 0x61, which guests use to calibrate their clocks
        vm("KVM_CREATE_PIT2", abi.PitConfig(flags=abi.KVM_PIT_SPEAKER_DUMMY))
        for slot, region in enumerate(memory.regions):
            vm(
                "KVM_SET_USER_MEMORY_REGION",
                abi.UserspaceMemoryRegion(
                    slot=slot,
                    guest_phys_addr=region.base,
                    memory_size=region.size,
                    userspace_addr=region.host_address,
                ),
            )

    def hold_clock(self) -> None:
        """No vCPU runs: kvmclock is to stand still until `release_clock`."""
        if self._clock is not None:
            return
        now = abi.ClockData()
        try:
            control(self._host, self.fd, "KVM_GET_CLOCK", now)
        except EngineError:
            return  # a KVM without a clock
        self._clock = now.clock

    def release_clock(self) -> None:
        """kvmclock goes on from where it was held, and the guest is told that it was stopped: its
        watchdogs would take the time for a CPU that hangs (KVM API 4.70)."""
        if self._clock is None:
            return
        clock, self._clock = self._clock, None
        control(self._host, self.fd, "KVM_SET_CLOCK", abi.ClockData(clock=clock))
        for vcpu in self.vcpus:
            try:
                vcpu.call("KVM_KVMCLOCK_CTRL")
            except EngineError:
                pass  # this guest does not use it

    def close(self) -> None:
        while self.vcpus:
            self.vcpus.pop().close()
        self._host.close(self.fd)
