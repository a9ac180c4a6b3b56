"""One vCPU and its thread: the run loop, and how it is stopped without losing an access.

Stopping (KVM API 5, `immediate_exit`; 4.21, KVM_SET_SIGNAL_MASK). A vCPU that is asked to stop
gets `immediate_exit` = 1, which makes the next KVM_RUN finish the access under way and come back
before another instruction, and a signal for the case that it is inside KVM_RUN now. The signal is
blocked in the thread and let through by KVM alone, only while the guest runs: it needs no handler,
reaches no other thread, and is taken off the thread's list afterwards. All of it happens under the
gate's lock, which a thread must take to leave its loop: the thread that is signalled is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmlab.core.counters import EXIT_KINDS
from vmlab.core.host import Host
from vmlab.core.log import Log
from vmlab.core.patience import Taken
from vmlab.core.safely import text_of
from vmlab.engine.api import EngineConfig, Hit, Stop
from vmlab.engine.kvm import abi, access, report
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.engine.kvm.descriptors import VcpuFd
    from vmlab.engine.kvm.parts import Debugger, Parts

__all__ = ["EXIT_NAMES", "Gate", "Plan", "Vcpu"]

log = Log(__name__)

#: a real-time signal, because nobody sends those to a process; +4 keeps off the first few, which
#: threading libraries like
KICK = signal.SIGRTMIN + 4
_HALT_POLL = 0.01  # seconds

EXIT_NAMES = {
    abi.KVM_EXIT_IO: "io",
    abi.KVM_EXIT_DEBUG: "debug",
    abi.KVM_EXIT_HLT: "hlt",
    abi.KVM_EXIT_MMIO: "mmio",
    abi.KVM_EXIT_IRQ_WINDOW_OPEN: "irq-window",
    abi.KVM_EXIT_SHUTDOWN: "shutdown",
    abi.KVM_EXIT_FAIL_ENTRY: "fail-entry",
    abi.KVM_EXIT_INTR: "intr",
    abi.KVM_EXIT_INTERNAL_ERROR: "internal-error",
    abi.KVM_EXIT_SYSTEM_EVENT: "system-event",
}
#: exits that ask for nothing but to be entered again
_REENTER = (abi.KVM_EXIT_IRQ_WINDOW_OPEN, abi.KVM_EXIT_INTR, abi.KVM_EXIT_DEBUG)


class Gate:
    """What all vCPU threads of an engine wait at."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.running = False
        self.closing = False


class Plan:
    """Where the vCPUs stop: by what, the addresses of all code points, and whether some need stepping."""

    def __init__(self, debugger: Debugger | None, code: dict[int, int], stepping: bool) -> None:
        self.debugger, self.code, self.stepping = debugger, code, stepping


class Vcpu:
    """Fields marked (gate) are read and written under the gate's lock only."""

    def __init__(
        self, index: int, gate: Gate, config: EngineConfig, host: Host, fds: VcpuFd, parts: Parts
    ) -> None:
        self.index = index
        self._gate = gate
        self._config = config
        self._ioctl = host.runner()
        self.fds = fds
        self._parts = parts
        self._masked: VcpuFd | None = None
        self.thread: threading.Thread | None = None
        self.exits = config.exits(index)
        self.idle = True  # (gate) not in the run loop
        self.parked = False  # (gate) inside `park`
        self.stepping = False  # (gate)
        self.cancelled = False  # (gate) the step has had its time
        self.stopped: Stop | None = None  # (gate)
        self._abandoned = False  # (gate) the access that is parked will not be retried
        self._signalled = False  # (gate)
        self.plan: Plan | None = None  # changes while the vCPU is idle
        self.passing = False  # the point at its present instruction has been met

    # --- from other threads, under the gate's lock ---------------------------------------------

    @property
    def quiet(self) -> bool:
        """Executes no guest code, and will not before the gate opens."""
        return self.parked or (self.idle and not self.stepping)

    @property
    def step_over(self) -> bool:
        return self.parked or not self.stepping

    def kick(self) -> None:
        """Make the thread leave its loop after at most the access under way."""
        if self.idle:
            return
        self.fds.u8[access.IMMEDIATE_EXIT_8] = 1
        thread = self.thread
        if thread is None or thread.ident is None or thread is threading.current_thread():
            return  # on its own thread the guest is not running: `immediate_exit` alone does it
        if not self._signalled:
            self._signalled = True
            signal.pthread_kill(thread.ident, KICK)

    def unpark(self, abandon: bool = False) -> None:
        if self.parked:
            self.parked = False
            self._abandoned = abandon

    def start_thread(self) -> None:
        if self.thread is not None:
            return
        thread = threading.Thread(target=self._main, name=f"vmlab-vcpu{self.index}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise EngineError(f"no thread for vCPU {self.index}: {error}") from error
        self.thread = thread

    # --- on the vCPU's thread --------------------------------------------------------------------

    def park(self) -> bool:
        """See `Engine.park`."""
        gate = self._gate
        with gate.changed:
            if gate.closing:
                return False
            self.parked, self._abandoned = True, False
            gate.changed.notify_all()
            while self.parked:
                gate.changed.wait()
            return not self._abandoned

    def program_counter(self) -> int:
        """See `Engine.program_counter`."""
        return self._parts.accessing(self.fds)

    def _main(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {KICK})
        while self._wait_for_go():
            stop: Stop | None
            try:
                if self._masked is not self.fds:
                    self._set_signal_mask()
                if self.stepping:
                    stop = self._step()
                else:
                    stop = self._run() if self.plan is None else self._run_debugged(self.plan)
            except EngineError as error:
                stop = Stop("engine-error", str(error))
            except Taken:
                stop = None  # it came too late, when the device had answered
            except BaseException as error:  # this thread is the guest's
                log.exception("vCPU %d: the handling of an access raised", self.index)
                name, _, said = text_of(error).partition(": ")
                text = f"{name} in the handling of an access: {said}"
                stop = report.failure(text, self._parts, self.fds, self._config.memory)
            if stop is not None:
                self._stop(stop)
            self._arrive()

    def _wait_for_go(self) -> bool:
        """False: end the thread."""
        gate = self._gate
        with gate.changed:
            while not gate.closing:
                if self.stopped is None and (gate.running or self.stepping):
                    self.idle = False
                    # a step that was cancelled before it began
                    self.fds.u8[access.IMMEDIATE_EXIT_8] = self.stepping and self.cancelled
                    return True
                gate.changed.wait()
            return False

    def _arrive(self) -> None:
        """Become idle, with no signal and no `immediate_exit` left over."""
        with self._gate.changed:
            if self._signalled:
                while signal.sigtimedwait([KICK], 0) is not None:
                    pass
            self._signalled = False
            self.fds.u8[access.IMMEDIATE_EXIT_8] = 0
            self.stepping, self.idle = False, True
            self._gate.changed.notify_all()

    def _stop(self, stop: Stop) -> None:
        with self._gate.changed:
            self.stopped = stop
        try:
            self._config.on_stop(self.index, stop)
        except BaseException:
            log.exception("vCPU %d: on_stop raised", self.index)

    def _set_signal_mask(self) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) - {KICK}
        bits = sum(1 << (number - 1) for number in blocked)
        mask = abi.SignalMask(len=8)
        mask.sigset[:] = bits.to_bytes(8, "little")
        self.fds.call("KVM_SET_SIGNAL_MASK", mask)
        self._masked = self.fds

    def _run(self) -> Stop | None:
        """Run the guest until it is kicked (None) or cannot go on.

        The hot path: an exit costs two to three dozen bytecodes here. Buses are looked up per
        access because tracing swaps their methods; the exit fields are indices into the run page.
        """
        run, fd, fds, exits = self._ioctl, self.fds.fd, self.fds, self.exits
        mmio, ports, kvm_run = self._config.mmio, self._config.ports, abi.KVM_RUN
        u8, u32, u64 = fds.u8, fds.u32, fds.u64
        while True:
            if run(fd, kvm_run, 0):
                code = ctypes.get_errno()
                if code == errno.EINTR:
                    exits[10] += 1
                    return None
                if code != errno.EAGAIN:  # that is an AP which has just had its INIT or SIPI
                    return self._refused(code)
                continue
            reason = u32[2]
            if reason == 6:  # KVM_EXIT_MMIO
                exits[6] += 1
                size = u32[12]
                if u8[52]:
                    if size == 4:
                        mmio.write(u64[4], 4, u32[10])
                    elif size == 1:
                        mmio.write(u64[4], 1, u8[40])
                    elif size == 8:
                        mmio.write(u64[4], 8, u64[5])
                    else:
                        access.mmio(fds, mmio)
                elif size == 4:
                    u32[10] = mmio.read(u64[4], 4)
                elif size == 1:
                    u8[40] = mmio.read(u64[4], 1)
                else:
                    access.mmio(fds, mmio)
            elif reason == 2:  # KVM_EXIT_IO
                exits[2] += 1
                if u32[9] == 1 and u8[33] == 1:
                    if u8[32]:
                        ports.write(fds.u16[17], 1, u8[u64[5]])
                    else:
                        u8[u64[5]] = ports.read(fds.u16[17], 1)
                else:
                    access.port_io(fds, ports)
            elif (stop := self._rare(reason)) is not None:
                return stop

    def _rare(self, reason: int) -> Stop | None:
        # reasons that are newer than the counters share the last one
        self.exits[min(reason, EXIT_KINDS - 1)] += 1
        if reason == abi.KVM_EXIT_HLT:
            # only without the in-kernel irqchip; a kick ends the wait, `immediate_exit` stays set
            signal.sigtimedwait([KICK], _HALT_POLL)
            return None
        if reason == abi.KVM_EXIT_DEBUG and self.plan is not None and self.plan.debugger:
            hit = self.plan.debugger.hit(self.fds)
            return self._met(hit, self.plan) if hit is not None else None
        if reason in _REENTER:
            return None
        return report.explain(self._parts, self.fds, self._config.memory)

    def _run_debugged(self, plan: Plan) -> Stop | None:
        """As `_run`, with points."""
        if self.passing and (stop := self._pass(plan)) is not None:
            return stop
        if plan.stepping:
            return self._run_by_steps(plan)
        if plan.debugger is not None:
            plan.debugger.arm(self.fds)
        return self._run()

    def _pass(self, plan: Plan) -> Stop | None:
        """Execute the instruction of a point that was met."""
        pc = self._parts.program_counter(self.fds)
        stop = None
        if pc in plan.code:
            lifted = plan.debugger.lifted(self.fds) if plan.debugger else contextlib.nullcontext()
            with lifted:
                stop = self._step()
        # asked to stop before it was executed: it still is to be passed
        moved = self._parts.program_counter(self.fds) != pc
        self.passing = pc in plan.code and not moved and self.cancelled
        return stop

    def _run_by_steps(self, plan: Plan) -> Stop | None:
        while self._goes_on():
            if (stop := self._step()) is not None:
                return stop
            pc = self._parts.program_counter(self.fds)
            number = plan.code.get(pc)
            # a step that was cut short has executed nothing
            if number is not None and not self.cancelled:
                self._config.on_break(self.index, Hit(number, pc))
        return None

    def _goes_on(self) -> bool:
        with self._gate.changed:
            return self._gate.running and not self._gate.closing

    def _met(self, hit: Hit, plan: Plan) -> Stop | None:
        """A point stops the vCPU; it goes on when nobody wants it to stay."""
        self._config.on_break(self.index, hit)
        self.passing = not hit.size
        if not self._goes_on():
            return None
        stop = self._pass(plan)
        if stop is None and plan.debugger is not None:
            plan.debugger.arm(self.fds)
        return stop

    def _refused(self, code: int) -> Stop:
        text = f"KVM_RUN failed: {os.strerror(code)}"
        return report.failure(text, self._parts, self.fds, self._config.memory)

    def _step(self) -> Stop | None:
        """One instruction by KVM_GUESTDBG_SINGLESTEP (KVM API 4.87).

        An instruction that leaves for a device is not single-stepped by KVM: it finishes with the
        next KVM_RUN, and another would follow. `immediate_exit` cuts there.
        """
        fds = self.fds
        if self._parts.halt(fds, self._config.memory):
            return None
        self._parts.single_step(fds, True)
        try:
            return self._step_once(self._ioctl)
        finally:
            self._parts.single_step(fds, False)

    def _step_once(self, run: Callable[[int, int, int], int]) -> Stop | None:
        fds, finishing = self.fds, False
        while True:
            if run(fds.fd, abi.KVM_RUN, 0):
                code = ctypes.get_errno()
                if code == errno.EINTR:
                    self.exits[abi.KVM_EXIT_INTR] += 1
                    # of a repeated string instruction, which may have 2^64 elements, some are done
                    if self.cancelled or finishing:
                        return None
                    finishing = self._clear_immediate_exit()
                elif code != errno.EAGAIN:
                    return self._refused(code)
                continue
            reason = fds.u32[access.EXIT_REASON_32]
            if reason == abi.KVM_EXIT_DEBUG:
                self.exits[reason] += 1
                return None
            if reason in (abi.KVM_EXIT_MMIO, abi.KVM_EXIT_IO):
                self.exits[reason] += 1
                is_mmio = reason == abi.KVM_EXIT_MMIO
                if is_mmio:
                    access.mmio(fds, self._config.mmio)
                else:
                    access.port_io(fds, self._config.ports)
                finishing = True
                fds.u8[access.IMMEDIATE_EXIT_8] = 1
            elif (stop := self._rare(reason)) is not None:
                return stop

    def _clear_immediate_exit(self) -> bool:
        """Go on with the step, unless somebody wants it to end. Always False."""
        with self._gate.changed:
            if not self.cancelled:
                self.fds.u8[access.IMMEDIATE_EXIT_8] = 0
        return False


_LAYOUT = {
    access.EXIT_REASON_32: 2,
    access.MMIO_ADDRESS_64: 4,
    access.MMIO_DATA_8: 40,
    access.MMIO_LENGTH_32: 12,
    access.MMIO_WRITE_8: 52,
    access.IO_DIRECTION_8: 32,
    access.IO_SIZE_8: 33,
    access.IO_PORT_16: 17,
    access.IO_COUNT_32: 9,
    access.IO_DATA_64: 5,
}
# the run loop writes its indices as numbers, which cost nothing to look up
assert all(index == number for index, number in _LAYOUT.items())
