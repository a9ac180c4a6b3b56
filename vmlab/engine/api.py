"""The seam between a machine and what runs its CPUs.

An engine runs vCPUs over guest memory and hands every access that is not RAM to two buses. It knows
no device. Both engines satisfy `Engine`; `machine` is written against this file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from msgspec import Struct, field

from vmlab.arch import DEFAULT
from vmlab.core.counters import EXIT_KINDS

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory

__all__ = [
    "AccessBus",
    "Doorbell",
    "Engine",
    "EngineConfig",
    "Hit",
    "IrqSink",
    "Point",
    "Stop",
    "Tally",
]


class AccessBus(Protocol):
    """Where accesses go. Neither method raises; a hole reads all ones.

    Engines look the methods up per access (never cache the bound method): tracing swaps them.
    """

    def read(self, address: int, size: int) -> int:
        """`size` is 1, 2, 4 or 8 bytes; the value fits it."""
        ...

    def write(self, address: int, size: int, value: int) -> None: ...


class Stop(Struct, frozen=True):
    """Why a vCPU cannot go on.

    kind: what the guest has asked of the machine, "power-off" or "reset"; else "shutdown" (triple fault),
    "internal-error", "fail-entry", "system-event", "unknown-exit", "engine-error". `text` is one line with
    the program counter in hex and, where known, the code bytes there.
    """

    kind: str
    text: str
    registers: Mapping[str, int] = field(default_factory=dict)


class Point(Struct, frozen=True):
    """Where a CPU is to stop. kind: "code", before the instruction at `address`; "write", "read" or
    "access" (either), after the instruction that touches one of the `size` bytes there. Addresses are as the
    guest's code uses them."""

    number: int
    kind: Literal["code", "write", "read", "access"]
    address: int
    size: int = 1


class Hit(Struct, frozen=True):
    """A CPU has met a point. pc: where it stands. address, size, value, write: of the access that was met;
    value is None where the engine does not know it."""

    number: int
    pc: int
    address: int = 0
    size: int = 0
    value: int | None = None
    write: bool = False


class Tally(Protocol):
    """Counts by index: a list, or words of shared memory."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, count: int, /) -> None: ...

    def __iter__(self) -> Iterator[int]: ...


class EngineConfig(Struct, frozen=True):
    memory: GuestMemory
    mmio: AccessBus
    ports: AccessBus
    cpus: int = 1
    #: called on a vCPU's thread when it cannot go on; the vCPU is parked afterwards
    on_stop: Callable[[int, Stop], None] = lambda cpu, stop: None
    #: CPU -> where its exits are counted, EXIT_KINDS of them, by KVM's number of the reason
    exits: Callable[[int], Tally] = lambda cpu: [0] * EXIT_KINDS
    #: device accesses are exactly the instructions'. False allows the soft engine, which pays for that with
    #: every access to RAM, to cut those of 8 bytes and the unaligned ones into pieces
    exact: bool = True
    #: the guest's architecture
    arch: str = DEFAULT
    #: arm64: the version of the interrupt controller; None: the engine's usual
    gic: int | None = None
    #: called on a vCPU's thread, outside the guest, when it has met a point; the vCPU goes on when that
    #: returns, unless a pause was requested meanwhile
    on_break: Callable[[int, Hit], None] = lambda cpu, hit: None


class IrqSink(Protocol):
    """One interrupt line (GSI) as an engine takes it."""

    def set(self, level: bool) -> bool | None:
        """Drive the line. Idempotent; safe from any thread. For a rising line: whether the interrupt
        controllers took it; None where the engine cannot tell."""
        ...

    def pulse(self) -> bool | None:
        """One edge (KVM: irqfd); the result as `set`'s."""
        ...

    def close(self) -> None: ...


class Doorbell(Protocol):
    """A notification address taken out of the trap path (KVM: ioeventfd)."""

    def close(self) -> None: ...


class Engine(Protocol):
    name: str
    cpus: int

    @property
    def gic(self) -> int:
        """The version of an arm64 machine's interrupt controller; 0 for other machines."""
        ...

    @property
    def exits(self) -> dict[str, int]:
        """Kind -> how often a vCPU left the guest: "mmio", "io", "hlt", "intr", ..."""
        ...

    def irq_sink(self, gsi: int) -> IrqSink: ...

    def doorbell(
        self, address: int, size: int, match: int | None, ring: Callable[[int], None]
    ) -> Doorbell:
        """Writes of `size` bytes (of value `match`, or any) at MMIO `address` skip the bus; `ring(n)`
        is called on the engine's doorbell thread, n = writes since the last call."""
        ...

    def load(self, state: Any) -> None:
        """Put all vCPUs in their start state: cpu 0 as `state`, which the architecture's loader has made
        (`arch.api.CpuState`), the others wait to be started by it (x86_64: INIT/SIPI, arm64: PSCI).
        Interrupt controllers are reset. Only while created or paused."""
        ...

    def start(self) -> None:
        """Begin running (after `load`, once)."""
        ...

    def pause(self, timeout: float | None = None) -> bool:
        """Return when no vCPU executes guest code; False when one still did after `timeout` seconds (it is
        in a device access), and stops at its end. Not from a vCPU thread."""
        ...

    def request_pause(self) -> None:
        """As `pause` without waiting. Legal from any thread, bus accesses on vCPU threads included."""
        ...

    def resume(self) -> None: ...

    def park(self) -> bool:
        """Called by a bus access on a vCPU's own thread: block it, counted as paused, until `resume`
        (True) or `close` (False)."""
        ...

    def step(self, cpu: int = 0) -> bool:
        """Execute one instruction (device accesses included) on a paused vCPU. False: there was none,
        since the vCPU is halted and no interrupt waits."""
        ...

    def current_cpu(self) -> int:
        """The vCPU whose access is being handled on this thread; 0 where there is none."""
        ...

    def cpu_here(self) -> int | None:
        """The vCPU whose access is being handled on this thread; None where there is none."""
        ...

    def access_here(self, port: bool = False) -> tuple[int, int | None]:
        """(`current_cpu`, `program_counter`) at once."""
        ...

    def watch_interrupts(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        """Call `seen("ack", number, line)` when a CPU takes an interrupt, `seen("eoi", ...)` when it says
        that it was served, on that CPU's thread: vector, INTID or source, and the line that it came by, None
        where it is none or not known. An engine whose controllers are in the host's kernel never calls. None:
        no more."""
        ...

    def program_counter(self, port: bool = False) -> int | None:
        """Where the instruction lies whose access, of memory or of a port, is being handled on this thread:
        its first byte or, of a write under KVM on x86_64, one of its bytes. None where there is none."""
        ...

    def get_regs(self, cpu: int = 0) -> dict[str, int]:
        """What `Arch.registers` of the guest's names, in that order. Paused only."""
        ...

    def set_regs(self, cpu: int, values: Mapping[str, int]) -> None:
        """General registers, the program counter and the flags. Paused only."""
        ...

    def set_points(self, points: Sequence[Point]) -> list[str]:
        """From the next resume on these are the points, and no others; paused only -> how each is done:
        "hardware", "software", "int3", "single-stepping". EngineError, and nothing has changed, for what
        cannot be had."""
        ...

    def pass_points(self) -> None:
        """The next resume does not stop at the instructions that the CPUs stand at. Paused only."""
        ...

    def unpatched(self, address: int, data: bytes) -> bytes:
        """`data`, read at a virtual address, as it is without what points have put there."""
        ...

    def translate(self, address: int, cpu: int = 0) -> int | None:
        """Where a virtual address lies, by the CPU's page tables; None: nowhere. Paused only."""
        ...

    def close(self) -> None:
        """End the vCPU threads and free everything. Idempotent, any state."""
        ...
