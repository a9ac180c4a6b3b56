"""What of KVM differs between processors: how a VM is furnished, a vCPU started, looked at and stepped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vmlab.core.host import Host
from vmlab.engine.api import EngineConfig, Hit, Point

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


class Debugger(Protocol):
    """Puts points into a VM. Used while nothing runs, but for `hit` and `arm`, on a vCPU's thread."""

    def plan(self, vcpu: VcpuFd, points: Sequence[Point]) -> list[str]:
        """Take these in place of those before -> how each is done (`Engine.set_points`). EngineError for what
        cannot be had; nothing has changed then."""
        ...

    def arm(self, vcpu: VcpuFd) -> None:
        """Before the vCPU runs."""
        ...

    def lifted(self, vcpu: VcpuFd) -> contextlib.AbstractContextManager[None]:
        """The vCPU steps one instruction as if there were none."""
        ...

    def unpatched(self, address: int, data: bytes) -> bytes:
        """See `Engine.unpatched`."""
        ...

    def hit(self, vcpu: VcpuFd) -> Hit | None:
        """After KVM_EXIT_DEBUG: the point that was met."""
        ...


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

    def accessing(self, vcpu: VcpuFd) -> int:
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

    def debugger(self, memory: GuestMemory) -> Debugger | None:
        """Breakpoints in hardware and by INT3; None: none are known, every instruction is stepped."""
        ...

    def program_counter(self, vcpu: VcpuFd) -> int: ...

    def translate(self, vcpu: VcpuFd, address: int) -> int | None:
        """Where a virtual address lies; None: nowhere, or not known."""
        ...

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
