"""A host whose /dev/kvm is made up: for tests of managers, engines and devices without KVM.

`FakeKvm` is a `Host`. Give it to `KvmEngine` (or to anything that makes host calls) and look at what
was asked of it; make the n-th call fail; write a script of exits that its vCPUs "run":

    host = FakeKvm()
    host.script(0, mmio_write(0xD000_0000, 4, 7), mmio_read(0xD000_0004, 4))
    engine = KvmEngine(EngineConfig(memory, bus, ports), host)
    engine.load(CpuState("protected", 0x1000))
    engine.start()
    host.wait_until_played()
    host.vms[-1].vcpus[0].answers      # [b"..."]: what the reads were answered with

No guest code is executed: registers hold what was written to them, a vCPU whose script is over waits
in KVM_RUN until it is told to leave. Descriptors are real ones, so leaks show in /proc/self/fd and in
`host.held`. Writes that match an ioeventfd ring it, as in the kernel. Needs Linux, for eventfd.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from vmlab.core.host import Host
from vmlab.engine.kvm import abi

__all__ = [
    "Exit",
    "FakeKvm",
    "FakeVcpu",
    "FakeVm",
    "fails",
    "io_in",
    "io_out",
    "leaves",
    "mmio_read",
    "mmio_write",
]

PAGE = 0x1000
#: struct kvm_run and the page of port data, as on x86 (KVM_PIO_PAGE_OFFSET is 1)
RUN_SIZE = 2 * PAGE
_UNION = abi.Run.u.offset
_POLL = 0.0005  # seconds


@dataclass(frozen=True)
class Exit:
    """One entry of a script: an exit with its union, or `error`, an errno that KVM_RUN returns."""

    reason: int = 0
    union: bytes = b""
    data: bytes = b""
    #: where in the run page the engine's answer will lie, and how long it is
    answer: tuple[int, int] | None = None
    error: int = 0


def mmio_write(address: int, size: int, value: int) -> Exit:
    mmio = abi._RunMmio(phys_addr=address, len=size, is_write=1)
    mmio.data[:size] = value.to_bytes(size, "little")
    return Exit(abi.KVM_EXIT_MMIO, bytes(mmio))


def mmio_read(address: int, size: int) -> Exit:
    at = _UNION + abi._RunMmio.data.offset
    mmio = abi._RunMmio(phys_addr=address, len=size)
    return Exit(abi.KVM_EXIT_MMIO, bytes(mmio), answer=(at, size))


def io_out(port: int, size: int, data: bytes) -> Exit:
    """`data` is one element of `size` bytes, or several: rep outs."""
    io = abi._RunIo(abi.KVM_EXIT_IO_OUT, size, port, len(data) // size, PAGE)
    return Exit(abi.KVM_EXIT_IO, bytes(io), data)


def io_in(port: int, size: int, count: int = 1) -> Exit:
    io = abi._RunIo(0, size, port, count, PAGE)
    return Exit(abi.KVM_EXIT_IO, bytes(io), answer=(PAGE, size * count))


def leaves(reason: int, union: bytes = b"") -> Exit:
    """Any other exit: KVM_EXIT_SHUTDOWN, KVM_EXIT_INTERNAL_ERROR with its union..."""
    return Exit(reason, union)


def fails(error: int) -> Exit:
    """KVM_RUN fails with this errno once."""
    return Exit(error=error)


@dataclass(eq=False)
class FakeVcpu:
    index: int
    fd: int
    page: mmap.mmap
    script: deque[Exit]
    regs: bytes = bytes(ctypes.sizeof(abi.Regs))
    sregs: bytes = bytes(ctypes.sizeof(abi.Sregs))
    mp_state: int = 0
    #: what keeps interrupts out for one instruction (KVM_X86_SHADOW_INT_*)
    shadow: int = 0
    cpuid: bytes = b""
    debug: int = 0
    #: the bytes that each read of the script was answered with
    answers: list[bytes] = field(default_factory=list)
    pending: tuple[int, int] | None = None


@dataclass(eq=False)
class FakeVm:
    fd: int
    vcpus: list[FakeVcpu] = field(default_factory=list)
    #: slot -> (guest address, size)
    slots: dict[int, tuple[int, int]] = field(default_factory=dict)
    irqchip: bool = False
    pit: bool = False
    #: GSI -> level; only lines that were driven
    lines: dict[int, int] = field(default_factory=dict)
    #: GSI -> eventfd
    irqfds: dict[int, int] = field(default_factory=dict)
    #: (address, length, match or None) -> eventfd
    ioeventfds: dict[tuple[int, int, int | None], int] = field(default_factory=dict)


class FakeKvm(Host):
    """See the module's text.

    missing: capabilities that it denies, as numbers. open_error: errno of opening /dev/kvm, 0 for none.
    fail_at: the number of the call (1 is the first) that fails with errno `error`.
    """

    def __init__(
        self,
        *,
        missing: Iterable[int] = (),
        api_version: int = abi.KVM_API_VERSION,
        open_error: int = 0,
        fail_at: int = 0,
        error: int = errno.ENOMEM,
    ) -> None:
        self.missing = frozenset(missing)
        self.api_version = api_version
        self.open_error = open_error
        self.fail_at = fail_at
        self.error = error
        #: the name of every call, in order
        self.calls: list[str] = []
        #: descriptors that were given out and not closed
        self.held: set[int] = set()
        self.vms: list[FakeVm] = []
        self._scripts: dict[int, list[Exit]] = {}
        self._objects: dict[int, FakeVm | FakeVcpu] = {}
        self._lock = threading.Lock()
        self._names = {
            value: name
            for name, value in vars(abi).items()
            if name.startswith("KVM_") and value >> 8 & 0xFF == abi.KVMIO
        }

    # --- what a test says and asks -------------------------------------------------------------

    def script(self, cpu: int, *exits: Exit) -> None:
        """What vCPU `cpu` does, in every VM that is made from now on."""
        self._scripts[cpu] = list(exits)

    def wait_until_played(self, timeout: float = 5.0) -> None:
        """Return when every vCPU of the last VM is past its script and waits in KVM_RUN."""
        deadline = time.monotonic() + timeout
        while any(vcpu.script or vcpu.pending for vcpu in self.vms[-1].vcpus):
            if time.monotonic() > deadline:
                raise TimeoutError("the vCPUs did not come to the end of their scripts")
            time.sleep(_POLL)

    # --- Host ------------------------------------------------------------------------------------

    def open(self, path: str) -> int:
        self._count(f"open {path}")
        if path != "/dev/kvm":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if self.open_error:
            raise OSError(self.open_error, os.strerror(self.open_error), path)
        return self._descriptor()

    def close(self, fd: int) -> None:
        self.held.discard(fd)
        gone = self._objects.pop(fd, None)
        if isinstance(gone, FakeVcpu):
            gone.page.close()
        super().close(fd)

    def memory_fd(self, name: str, size: int, sealed: bool = True) -> int:
        self._count("memory_fd")
        fd = super().memory_fd(name, size, sealed)
        self.held.add(fd)
        return fd

    def map(self, fd: int, size: int) -> mmap.mmap:
        self._count("map")
        return super().map(fd, size)

    def eventfd(self) -> int:
        self._count("eventfd")
        fd = super().eventfd()
        self.held.add(fd)
        return fd

    def epoll(self) -> Any:
        self._count("epoll")
        return super().epoll()

    def runner(self) -> Callable[[int, int, int], int]:
        def run(fd: int, request: int, argument: int) -> int:
            vcpu = self._objects[fd]
            assert isinstance(vcpu, FakeVcpu)
            code = self._run(vcpu)
            ctypes.set_errno(code)
            return -1 if code else 0

        return run

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        name = self._names.get(request, f"{request:#x}")
        self._count(name)
        target = self._objects.get(fd)
        handler = getattr(self, f"_{name.lower()}", None)
        if handler is None:
            return 0
        result = handler(target, argument) if target is not None else handler(argument)
        return int(result or 0)

    def _count(self, name: str) -> None:
        with self._lock:
            self.calls.append(name)
            number = len(self.calls)
        if number == self.fail_at:
            raise OSError(self.error, os.strerror(self.error))

    def _descriptor(self) -> int:
        fd = super().memory_fd("fake-kvm", RUN_SIZE)
        self.held.add(fd)
        return fd

    # --- ioctls on /dev/kvm ------------------------------------------------------------------------

    def _kvm_get_api_version(self, argument: Any) -> int:
        return self.api_version

    def _kvm_check_extension(self, number: int) -> int:
        if number in self.missing:
            return 0
        return 64 if number == abi.KVM_CAP_MAX_VCPUS else 1

    def _kvm_get_vcpu_mmap_size(self, argument: Any) -> int:
        return RUN_SIZE

    def _kvm_get_supported_cpuid(self, table: abi.Cpuid2) -> None:
        functions = (0, 1, 0xB, 0x8000_001E)
        table.nent = len(functions)
        for entry, function in zip(table.entries, functions, strict=False):
            entry.function = function

    def _kvm_create_vm(self, argument: Any) -> int:
        vm = FakeVm(self._descriptor())
        self._objects[vm.fd] = vm
        self.vms.append(vm)
        return vm.fd

    # --- ioctls on a VM ----------------------------------------------------------------------------

    def _kvm_create_vcpu(self, vm: FakeVm, index: int) -> int:
        fd = self._descriptor()
        vcpu = FakeVcpu(index, fd, super().map(fd, RUN_SIZE), deque(self._scripts.get(index, ())))
        vcpu.mp_state = abi.KVM_MP_STATE_UNINITIALIZED if index else abi.KVM_MP_STATE_RUNNABLE
        vm.vcpus.append(vcpu)
        self._objects[fd] = vcpu
        return fd

    def _kvm_set_user_memory_region(self, vm: FakeVm, region: abi.UserspaceMemoryRegion) -> None:
        vm.slots[region.slot] = (region.guest_phys_addr, region.memory_size)

    def _kvm_create_irqchip(self, vm: FakeVm, argument: Any) -> None:
        vm.irqchip = True

    def _kvm_create_pit2(self, vm: FakeVm, argument: Any) -> None:
        vm.pit = True

    def _kvm_irq_line(self, vm: FakeVm, address: int) -> None:
        line = abi.IrqLevel.from_address(address)
        vm.lines[line.irq] = line.level

    def _kvm_irq_line_status(self, vm: FakeVm, address: int) -> None:
        line = abi.IrqLevel.from_address(address)
        vm.lines[line.irq] = line.level
        line.irq = 1

    def _kvm_irqfd(self, vm: FakeVm, irqfd: abi.Irqfd) -> None:
        if irqfd.flags & abi.KVM_IRQFD_FLAG_DEASSIGN:
            vm.irqfds.pop(irqfd.gsi, None)
        else:
            vm.irqfds[irqfd.gsi] = irqfd.fd

    def _kvm_ioeventfd(self, vm: FakeVm, event: abi.Ioeventfd) -> None:
        match = event.datamatch if event.flags & abi.KVM_IOEVENTFD_FLAG_DATAMATCH else None
        key = (event.addr, event.len, match)
        if event.flags & abi.KVM_IOEVENTFD_FLAG_DEASSIGN:
            del vm.ioeventfds[key]
        elif key in vm.ioeventfds:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        else:
            vm.ioeventfds[key] = event.fd

    # --- ioctls on a vCPU --------------------------------------------------------------------------

    def _kvm_get_regs(self, vcpu: FakeVcpu, regs: abi.Regs) -> None:
        ctypes.memmove(ctypes.byref(regs), vcpu.regs, len(vcpu.regs))

    def _kvm_set_regs(self, vcpu: FakeVcpu, regs: abi.Regs) -> None:
        vcpu.regs = bytes(regs)

    def _kvm_get_sregs(self, vcpu: FakeVcpu, sregs: abi.Sregs) -> None:
        ctypes.memmove(ctypes.byref(sregs), vcpu.sregs, len(vcpu.sregs))

    def _kvm_set_sregs(self, vcpu: FakeVcpu, sregs: abi.Sregs) -> None:
        vcpu.sregs = bytes(sregs)

    def _kvm_get_mp_state(self, vcpu: FakeVcpu, state: abi.MpState) -> None:
        state.mp_state = vcpu.mp_state

    def _kvm_set_mp_state(self, vcpu: FakeVcpu, state: abi.MpState) -> None:
        vcpu.mp_state = state.mp_state

    def _kvm_get_vcpu_events(self, vcpu: FakeVcpu, events: abi.VcpuEvents) -> None:
        events.interrupt_shadow = vcpu.shadow

    def _kvm_set_vcpu_events(self, vcpu: FakeVcpu, events: abi.VcpuEvents) -> None:
        if events.flags & abi.KVM_VCPUEVENT_VALID_SHADOW:
            vcpu.shadow = events.interrupt_shadow

    def _kvm_set_guest_debug(self, vcpu: FakeVcpu, debug: abi.GuestDebug) -> None:
        vcpu.debug = debug.control

    def _kvm_set_cpuid2(self, vcpu: FakeVcpu, table: abi.Cpuid2) -> None:
        vcpu.cpuid = bytes(table)

    def _kvm_translate(self, vcpu: FakeVcpu, at: abi.Translation) -> None:
        at.physical_address, at.valid = at.linear_address, 1

    def _run(self, vcpu: FakeVcpu) -> int:
        """KVM_RUN: finish the access under way, then the next exit of the script. An errno, or 0."""
        page = vcpu.page
        if vcpu.pending is not None:
            at, size = vcpu.pending
            vcpu.answers.append(page[at : at + size])
            vcpu.pending = None
        while True:
            if page[abi.Run.immediate_exit.offset]:
                return errno.EINTR
            if not vcpu.script:
                time.sleep(_POLL)
                continue
            entry = vcpu.script[0]
            if entry.answer is not None:
                vcpu.pending = entry.answer
            vcpu.script.popleft()
            if entry.error:
                return entry.error
            if not self._rings(vcpu, entry):
                self._show(page, entry)
                return 0

    def _rings(self, vcpu: FakeVcpu, entry: Exit) -> bool:
        """Whether the exit is a write that an ioeventfd takes."""
        if entry.reason != abi.KVM_EXIT_MMIO or entry.answer is not None:
            return False
        mmio = abi._RunMmio.from_buffer_copy(entry.union)
        value = int.from_bytes(bytes(mmio.data[: mmio.len]), "little")
        vm = next(vm for vm in self.vms if vcpu in vm.vcpus)
        for match in (None, value):
            fd = vm.ioeventfds.get((mmio.phys_addr, mmio.len, match))
            if fd is not None:
                os.eventfd_write(fd, 1)
                return True
        return False

    @staticmethod
    def _show(page: mmap.mmap, entry: Exit) -> None:
        ctypes.c_uint32.from_buffer(page, abi.Run.exit_reason.offset).value = entry.reason
        page[_UNION : _UNION + len(entry.union)] = entry.union
        page[PAGE : PAGE + len(entry.data)] = entry.data
