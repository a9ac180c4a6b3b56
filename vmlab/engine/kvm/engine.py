"""The kvm engine: vCPU threads, registers, interrupt lines and doorbells over one KVM VM."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vmlab.core.host import HOST, Host
from vmlab.engine.api import EngineConfig, Point
from vmlab.engine.kvm import abi, parts
from vmlab.engine.kvm.descriptors import control
from vmlab.engine.kvm.doorbell import DoorbellPump, KvmDoorbell
from vmlab.engine.kvm.irq import KvmIrqSink
from vmlab.engine.kvm.probe import open_kvm
from vmlab.engine.kvm.vcpu import EXIT_NAMES, Gate, Plan, Vcpu
from vmlab.engine.kvm.vm import KvmVm
from vmlab.errors import ConfigError, EngineError, VmlabError

__all__ = ["KvmEngine"]

#: how long a step waits for a halted CPU's interrupt before it gives up, in seconds
HALTED_STEP = 0.1
#: how long `close` waits for a device access that does not end, in seconds
JOIN = 10.0


class KvmEngine:
    """Runs vCPUs of this host's architecture with /dev/kvm. See `vmlab.engine.api.Engine` for the contract.

    Raises EngineUnavailable when the host cannot do it, ConfigError for an impossible number of
    CPUs and EngineError for a call that KVM refuses; nothing stays open then.
    """

    name = "kvm"

    def __init__(self, config: EngineConfig, host: Host = HOST) -> None:
        self.cpus = config.cpus
        self._config = config
        self._host = host
        self._gate = Gate()
        self._loaded = False
        self._started = False
        self._closed = False
        self._sinks: list[KvmIrqSink] = []
        #: held while a line is taken and while the lines move to another VM
        self._wiring = threading.Lock()
        self._kvm = open_kvm(host, config.arch)
        try:
            self._parts = parts.of(config, host, self._kvm)
            self._check_cpus()
            self._vm = self._new_vm()
        except BaseException:
            host.close(self._kvm)
            raise
        self.debugger = self._parts.debugger(config.memory)
        self._pump = DoorbellPump(host, self._vm)
        self._vcpus = [
            Vcpu(index, self._gate, config, host, fds, self._parts)
            for index, fds in enumerate(self._vm.vcpus)
        ]

    def _check_cpus(self) -> None:
        most = control(self._host, self._kvm, "KVM_CHECK_EXTENSION", abi.KVM_CAP_MAX_VCPUS) or 4
        most = min(most, self._parts.most_cpus)
        if not 1 <= self.cpus <= most:
            raise ConfigError(f"a kvm machine has 1 to {most} CPUs here, not {self.cpus}")

    def _new_vm(self) -> KvmVm:
        return KvmVm(self._host, self._kvm, self._config.memory, self.cpus, self._parts)

    # --- counters -------------------------------------------------------------------------------

    @property
    def gic(self) -> int:
        """The version of an arm64 machine's interrupt controller; 0 for other machines."""
        return self._parts.gic

    @property
    def exits(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for vcpu in self._vcpus:
            for reason, count in enumerate(vcpu.exits):
                if count:
                    name = EXIT_NAMES.get(reason, f"kvm-{reason}")
                    totals[name] = totals.get(name, 0) + count
        return totals

    def current_cpu(self) -> int:
        return self.cpu_here() or 0

    def cpu_here(self) -> int | None:
        vcpu = self._own_vcpu()
        return vcpu.index if vcpu is not None else None

    def access_here(self, port: bool = False) -> tuple[int, int | None]:
        # an event log asks at each access: no calls that can be spared
        thread, accessing = threading.current_thread(), self._parts.accessing
        for vcpu in self._vcpus:
            if vcpu.thread is thread:
                return vcpu.index, accessing(vcpu.fds)
        return 0, None

    def watch_interrupts(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        """KVM's controllers do not tell."""

    def program_counter(self, port: bool = False) -> int | None:
        vcpu = self._own_vcpu()
        return vcpu.program_counter() if vcpu is not None else None

    def _own_vcpu(self) -> Vcpu | None:
        """The vCPU whose thread this is."""
        thread = threading.current_thread()
        for vcpu in self._vcpus:
            if vcpu.thread is thread:
                return vcpu
        return None

    # --- devices --------------------------------------------------------------------------------

    def irq_sink(self, gsi: int) -> KvmIrqSink:
        """Two sinks of one GSI do not know of each other: the later level wins."""
        line = self._parts.line(gsi)
        with self._wiring:
            if self._gate.closing:
                raise EngineError("the engine is closed; no interrupt line can be taken")
            self._sinks = [sink for sink in self._sinks if sink.open]
            sink = KvmIrqSink(self._host, self._vm, gsi, line)
            self._sinks.append(sink)
            return sink

    def doorbell(
        self, address: int, size: int, match: int | None, ring: Callable[[int], None]
    ) -> KvmDoorbell:
        return self._pump.add(address, size, match, ring)

    # --- life -----------------------------------------------------------------------------------

    def load(self, state: Any) -> None:
        """As the contract says. The second time it makes a new VM, whose power-on state is KVM's
        own, and moves interrupt lines and doorbells there; when that fails, the old one stays."""
        self._not_on_vcpu("load")
        self._settle()
        fresh = self._new_vm() if self._loaded else self._vm
        self._loaded = True
        try:
            self._parts.boot(fresh.vcpus[0], state)
            if fresh is not self._vm:
                self._replace_vm(fresh)
        except BaseException:
            if fresh is not self._vm:
                fresh.close()
            raise

    def _settle(self) -> None:
        """All vCPUs idle, accesses that are parked given up: nothing holds the old VM any more."""
        gate = self._gate
        with gate.changed:
            self._must_be_open()
            if gate.running:
                raise EngineError("the vCPUs run; pause the engine before it is loaded")
            for vcpu in self._vcpus:
                vcpu.unpark(abandon=True)
                vcpu.cancelled = True
                vcpu.kick()
            gate.changed.notify_all()
            gate.changed.wait_for(
                lambda: gate.closing or not any(v.stepping or not v.idle for v in self._vcpus)
            )
            self._must_be_open()

    def _replace_vm(self, fresh: KvmVm) -> None:
        """Put `fresh` in the place of the VM, which is closed; on an error nothing has changed."""
        old = self._vm
        with self._wiring:
            try:
                for sink in self._sinks:
                    sink.move(fresh)
                self._pump.move(fresh)
            except VmlabError:
                for sink in self._sinks:
                    with contextlib.suppress(VmlabError):  # the first failure is the one to tell
                        sink.move(old)
                raise
            self._vm = fresh
        with self._gate.changed:
            for vcpu, fds in zip(self._vcpus, fresh.vcpus, strict=True):
                vcpu.fds = fds
                vcpu.stopped = None
        old.close()

    def start(self) -> None:
        with self._gate.changed:
            self._must_be_open()
            if not self._loaded:
                raise EngineError("the engine has no start state yet; call load first")
            if self._started:
                raise EngineError("the engine was started before; resume it")
            self._start_threads()
            self._started = True
            self.resume()

    def _start_threads(self) -> None:
        for vcpu in self._vcpus:
            vcpu.start_thread()

    def pause(self, timeout: float | None = None) -> bool:
        self._not_on_vcpu("pause")
        gate = self._gate
        with gate.changed:
            self.request_pause()
            # somebody may resume while this waits: then there is nothing to wait for
            if not gate.changed.wait_for(
                lambda: gate.running or gate.closing or all(v.quiet for v in self._vcpus), timeout
            ):
                return False
            if not gate.running and not gate.closing:
                self._vm.hold_clock()
            return True

    def request_pause(self) -> None:
        with self._gate.changed:
            self._gate.running = False
            for vcpu in self._vcpus:
                vcpu.cancelled = True
                vcpu.kick()

    def resume(self) -> None:
        with self._gate.changed:
            self._must_be_open()
            if not self._started:
                raise EngineError("the engine was not started yet; call start")
            self._vm.release_clock()
            self._gate.running = True
            for vcpu in self._vcpus:
                vcpu.unpark()
                vcpu.cancelled = False
            self._gate.changed.notify_all()

    def park(self) -> bool:
        vcpu = self._own_vcpu()
        if vcpu is None:
            raise EngineError("park is for a device access on a vCPU's own thread")
        return vcpu.park()

    def step(self, cpu: int = 0) -> bool:
        """As the contract says. A halted CPU is given 0.1 s to get an interrupt."""
        self._not_on_vcpu("step")
        vcpu = self._vcpu(cpu)
        gate = self._gate
        with gate.changed:
            self._paused(vcpu, "stepped")
            if not self._loaded:
                raise EngineError("the engine has no start state yet; call load first")
            if vcpu.parked:
                return self._finish_access(vcpu)
            if vcpu.stopped is not None:
                raise EngineError(f"vCPU {cpu} cannot go on: {vcpu.stopped.text}")
            if way := self._parts.unstarted(vcpu.fds):
                raise EngineError(f"vCPU {cpu} has not been started by the guest ({way})")
            sleeps = self._parts.sleeps(vcpu.fds, self._config.memory)
            vcpu.start_thread()
            self._vm.release_clock()
            vcpu.stepping, vcpu.cancelled = True, False
            gate.changed.notify_all()
            try:
                return self._await_step(vcpu, sleeps)
            finally:
                self._vm.hold_clock()

    def _finish_access(self, vcpu: Vcpu) -> bool:
        """The vCPU waits inside an access of its instruction: let it end that."""
        vcpu.cancelled = True
        vcpu.kick()
        vcpu.unpark()
        self._gate.changed.notify_all()
        self._gate.changed.wait_for(lambda: vcpu.quiet)
        return True

    # --- points ---------------------------------------------------------------------------------

    def set_points(self, points: Sequence[Point]) -> list[str]:
        with self._gate.changed:
            for vcpu in self._vcpus:
                self._paused(vcpu, "watched")
            ways = self._plan(points)
            code = {one.address: one.number for one in points if one.kind == "code"}
            had = self._vcpus[0].plan is not None
            plan = Plan(self.debugger, code, "single-stepping" in ways) if points or had else None
            for vcpu in self._vcpus:
                vcpu.plan = plan
            return ways

    def _plan(self, points: Sequence[Point]) -> list[str]:
        if self.debugger is not None:
            return self.debugger.plan(self._vm.vcpus[0], points)
        if any(one.kind != "code" for one in points):
            raise EngineError(
                "memory is not watched by KVM on this host's architecture; engine='soft' can"
            )
        return ["single-stepping"] * len(points)

    def pass_points(self) -> None:
        with self._gate.changed:
            for vcpu in self._vcpus:
                vcpu.passing = vcpu.plan is not None and not vcpu.parked

    def unpatched(self, address: int, data: bytes) -> bytes:
        return self.debugger.unpatched(address, data) if self.debugger is not None else data

    def translate(self, address: int, cpu: int = 0) -> int | None:
        vcpu = self._vcpu(cpu)
        with self._gate.changed:
            self._paused(vcpu, "read")
            return self._parts.translate(vcpu.fds, address)

    def _await_step(self, vcpu: Vcpu, sleeps: bool) -> bool:
        changed = self._gate.changed
        if changed.wait_for(lambda: vcpu.step_over, HALTED_STEP if sleeps else None):
            return True
        vcpu.cancelled = True
        vcpu.kick()
        changed.wait_for(lambda: vcpu.step_over)
        return False

    # --- registers ------------------------------------------------------------------------------

    def get_regs(self, cpu: int = 0) -> dict[str, int]:
        vcpu = self._vcpu(cpu)
        with self._gate.changed:
            self._paused(vcpu, "read")
            return self._parts.registers(vcpu.fds)

    def set_regs(self, cpu: int, values: Mapping[str, int]) -> None:
        vcpu = self._vcpu(cpu)
        with self._gate.changed:
            self._paused(vcpu, "changed")
            if vcpu.parked or vcpu.stopped is not None:
                where = "is inside a device access" if vcpu.parked else "cannot go on"
                raise EngineError(
                    f"vCPU {cpu} {where}: its registers can be read, and changed after a "
                    f"{'resume' if vcpu.parked else 'load'}"
                )
            self._parts.change(vcpu.fds, values)

    def _vcpu(self, cpu: int) -> Vcpu:
        if not 0 <= cpu < self.cpus:
            raise EngineError(f"there is no vCPU {cpu}; the last one is {self.cpus - 1}")
        return self._vcpus[cpu]

    def _paused(self, vcpu: Vcpu, verb: str) -> None:
        self._must_be_open()
        if vcpu.stopped is None and (self._gate.running or not vcpu.quiet):
            raise EngineError(f"vCPU {vcpu.index} runs; its state can be {verb} while paused only")

    def _must_be_open(self) -> None:
        if self._gate.closing:
            raise EngineError("the engine is closed")

    def _not_on_vcpu(self, call: str) -> None:
        if self._own_vcpu() is not None:
            raise EngineError(f"{call} on a vCPU's own thread would wait for itself")

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """EngineError when a device access has not ended after 10 s; a later call tries again."""
        self._not_on_vcpu("close")
        gate = self._gate
        with gate.changed:
            gate.closing, gate.running = True, False
            for vcpu in self._vcpus:
                vcpu.unpark(abandon=True)
                vcpu.cancelled = True
                vcpu.kick()
            gate.changed.notify_all()
        deadline = time.monotonic() + JOIN
        for vcpu in self._vcpus:
            if vcpu.thread is not None:
                vcpu.thread.join(max(0.0, deadline - time.monotonic()))
                if vcpu.thread.is_alive():
                    raise EngineError(f"vCPU {vcpu.index} is stuck inside a device access")
        with gate.changed:
            if self._closed:
                return
            self._closed = True
        self._pump.close()
        for sink in self._sinks:
            sink.close()
        self._vm.close()
        self._host.close(self._kvm)
