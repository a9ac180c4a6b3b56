"""What of KVM differs between processors: how a VM is furnished, a vCPU started, looked at and stepped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vmlab.core.host import Host
from vmlab.engine.api import EngineConfig

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["Control", "Line", "Parts", "of"]

#: an ioctl of the VM's, by its name; EngineError when it fails
Control = Callable[..., int]


class Line(NamedTuple):
    """An interrupt line as KVM names it: for KVM_IRQ_LINE, for KVM_IRQFD; tells: whether KVM says what became
    of a rising line."""

    code: int
    gsi: int
    tells: bool


class Parts(Protocol):
    """Of one engine; made with its config and the descriptor of /dev/kvm. EngineError and ConfigError as the
    engine's constructor."""

    #: how many CPUs at most, whatever this host's KVM says
    most_cpus: int
    #: what a guest asks of the machine by a system event (KVM API 5): its type -> the kind of stop
    events: Mapping[int, str]
    #: the version of an arm64 machine's interrupt controller, else 0
    gic: int

    def furnish(self, vm: Control) -> None:
        """Before there are vCPUs: interrupt controllers, timers."""
        ...

    def set_up(self, vcpu: VcpuFd) -> None:
        """A vCPU has been made: put it in its power-on state."""
        ...

    def complete(self, vm: Control) -> None:
        """All vCPUs are there."""
        ...

    def line(self, number: int) -> Line:
        """EngineError for a line that there is not."""
        ...

    def boot(self, vcpu: VcpuFd, start: Any) -> None: ...

    def registers(self, vcpu: VcpuFd) -> dict[str, int]: ...

    def program_counter(self, vcpu: VcpuFd) -> int:
        """As `Engine.program_counter`; on the vCPU's thread."""
        ...

    def change(self, vcpu: VcpuFd, values: Mapping[str, int]) -> None: ...

    def unstarted(self, vcpu: VcpuFd) -> str:
        """How the guest would start it, while it has not; else ""."""
        ...

    def sleeps(self, vcpu: VcpuFd, memory: GuestMemory) -> bool:
        """Whether a step may wait for an interrupt."""
        ...

    def halt(self, vcpu: VcpuFd, memory: GuestMemory) -> bool:
        """Execute the next instruction here if KVM must not step it -> whether it was."""
        ...

    def single_step(self, vcpu: VcpuFd, on: bool) -> None: ...

    def where(self, vcpu: VcpuFd, memory: GuestMemory, kind: str) -> tuple[str, dict[str, int]]:
        """(where it stopped, in words; its registers)"""
        ...

    def time(self, vm: Control, vcpus: list[VcpuFd]) -> int | None:
        """The guest's clock, which is to stand still; None where there is none."""
        ...

    def set_time(self, vm: Control, vcpus: list[VcpuFd], time: int) -> None:
        """The clock goes on from there."""
        ...


def of(config: EngineConfig, host: Host, kvm: int) -> Parts:
    made: Parts = import_module(f"vmlab.engine.kvm.{config.arch}.parts").make(config, host, kvm)
    return made
