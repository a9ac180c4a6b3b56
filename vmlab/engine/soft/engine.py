"""The software engine: all vCPUs by turns on one thread, interrupts and timers of its own.

Threads: the engine's (runs guests and calls the buses), the timer's and the doorbells' (each started
when first needed). One lock guards the chipset and the engine's state; it is never held while guest
code runs or a bus is called.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from vmlab.core.safely import text_of
from vmlab.engine.api import Doorbell, EngineConfig, IrqSink, Point, Stop
from vmlab.engine.soft import exits, uclib
from vmlab.engine.soft.access import Access
from vmlab.engine.soft.doorbells import Doorbells
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.points import Points, check
from vmlab.engine.soft.timers import Timers
from vmlab.engine.soft.undo import Undo
from vmlab.errors import ConfigError, EngineError, StateError

__all__ = ["Line", "SoftEngine"]

MAX_CPUS = 8
#: how long one of several runnable vCPUs runs before the next has its turn
SLICE_NS = 1_000_000
#: how long `close` waits for a device access or a doorbell that does not end, in seconds
JOIN = 2.0


class _Wiring(Protocol):
    """Interrupt controllers and timers."""

    @property
    def timers(self) -> Timers: ...
    def watch(self, seen: Callable[[str, int, int | None], None] | None) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


class Cpu(Protocol):
    """A vCPU of any architecture."""

    number: int
    mode: Mode
    stop_wanted: bool
    inside: bool

    @property
    def access(self) -> Access: ...
    @property
    def pc(self) -> int: ...
    @property
    def runnable(self) -> bool: ...
    @property
    def points(self) -> Points | None: ...
    def make_points(self) -> Points: ...
    def translate(self, address: int) -> int | None: ...
    def kick(self) -> None: ...
    def interrupt(self) -> None: ...
    def load(self, state: Any) -> None: ...
    def registers(self) -> dict[str, int]: ...
    def set_registers(self, values: dict[str, int]) -> None: ...
    def run(self, single: bool = False) -> Stop | None: ...
    def abandon(self, undo: Undo) -> int: ...
    def abandoned(self, handle: int) -> None: ...
    def close(self) -> None: ...


class _Caches(Protocol):
    """Who throws translated code away."""

    def wrote(self, address: int, size: int) -> bool: ...
    def forget(self) -> None: ...


class Line:
    """An interrupt line, by the chipset's functions for the line of a number. again: see
    `core.irq.IrqLine`."""

    def __init__(
        self,
        number: int,
        drive: Callable[[int, bool], bool | None],
        pulse: Callable[[int], bool | None],
        again: bool = False,
    ) -> None:
        self._number, self._drive, self._pulse = number, drive, pulse
        self.again = functools.partial(drive, number, True) if again else None

    def set(self, level: bool) -> bool | None:
        return self._drive(self._number, level)

    def pulse(self) -> bool | None:
        return self._pulse(self._number)

    def close(self) -> None:
        self.set(False)


class SoftEngine:
    """Implements `vmlab.engine.api.Engine` on Unicorn, but for what differs between processors.

    `deterministic=True` looks at interrupt lines only every so many blocks instead of at once, and
    leaves the library as it is (see `kick`). Raises EngineUnavailable, ConfigError.
    """

    name = "soft"
    #: registers that `set_regs` takes
    _settable: frozenset[str]
    #: what the architecture calls its program counter
    _counter: str
    #: the version of an arm64 machine's interrupt controller
    gic = 0
    _chipset: _Wiring
    _caches: _Caches
    _vcpus: Sequence[Cpu]

    def __init__(self, config: EngineConfig, deterministic: bool = False) -> None:
        uclib.library()
        if not 1 <= config.cpus <= MAX_CPUS:
            raise ConfigError(f"the soft engine has 1 to {MAX_CPUS} vCPUs, not {config.cpus}")
        self.cpus = config.cpus
        self._config = config
        # all CPUs run on one thread
        self._exits = config.exits(0)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._doorbells = Doorbells()
        #: the engine's thread
        self._thread: threading.Thread | None = None
        self._assemble(config, deterministic)
        config.memory.on_write = self._written
        #: the vCPU that has the engine's thread, if any
        self._running: Cpu | None = None
        self._last = 0
        self._loaded = self._started = self._closing = False
        self._paused = True
        #: the engine's thread executes no guest code and waits to be told
        self._idle = True
        self._parked = False
        self._resumes = 0
        self._step: int | None = None

    def _assemble(self, config: EngineConfig, deterministic: bool) -> None:
        """Make what differs between processors: `_chipset`, `_caches` and `_vcpus`."""
        raise NotImplementedError

    def _first_state(self, cpu: int, state: Any) -> Any:
        """How a CPU begins where the first one does in `state`; None: it waits to be started."""
        return None if cpu else state

    def _time_stops(self) -> None:
        """No guest code runs from now on (the lock is held)."""

    def _time_goes_on(self) -> None:
        """Guest code may run from now on (the lock is held)."""

    @property
    def exits(self) -> dict[str, int]:
        return {name: self._exits[kind] for kind, name in exits.NAMES.items()}

    # -- wiring ------------------------------------------------------------------------------------

    def irq_sink(self, gsi: int) -> IrqSink:
        """The line of that number; ConfigError where there is none."""
        raise NotImplementedError

    def doorbell(
        self, address: int, size: int, match: int | None, ring: Callable[[int], None]
    ) -> Doorbell:
        try:
            return self._doorbells.add(address, size, match, ring)
        except ValueError as error:
            raise EngineError(str(error)) from error

    def _wake(self, cpu: int, new: bool) -> None:
        """An interrupt waits for `cpu` (the lock is held)."""
        vcpu = self._vcpus[cpu]
        vcpu.kick()
        self._give_turn(vcpu, new)

    def _give_turn(self, vcpu: Cpu, new: bool) -> None:
        running = self._running
        if running is None:
            if not self._paused:
                self._changed.notify_all()
        elif new and running is not vcpu:
            # what it is to handle is probably waited for by the one that runs
            running.interrupt()

    def _written(self, address: int, size: int) -> None:
        """The host or a device has written to guest memory; any thread."""
        if self._caches.wrote(address, size):
            self._leave_guest()

    def _leave_guest(self) -> None:
        running = self._running
        if running is not None:
            running.interrupt()

    # -- control -----------------------------------------------------------------------------------

    def load(self, state: Any) -> None:
        with self._lock:
            self._must_be_paused("load")
            if self._parked:
                self._abandon_access()
            self._chipset.reset()
            for vcpu in self._vcpus:
                vcpu.load(self._first_state(vcpu.number, state))
            self._loaded = True

    def start(self) -> None:
        with self._lock:
            if self._closing or not self._loaded or self._started:
                raise StateError("the engine starts once, after load")
            self._started = True
            self._resume()

    def request_pause(self) -> None:
        with self._lock:
            self._paused = True
            if self._idle:
                # resumed just now, and its thread has not seen it yet
                self._time_stops()
            for vcpu in self._vcpus:
                vcpu.interrupt()
            self._changed.notify_all()

    def pause(self, timeout: float | None = None) -> bool:
        self.request_pause()
        if threading.current_thread() is self._thread:
            raise StateError(
                "pause() on a vCPU's thread would wait for itself: use request_pause()"
            )
        with self._changed:
            return self._changed.wait_for(lambda: self._quiet, timeout)

    def resume(self) -> None:
        with self._lock:
            if self._closing or not self._loaded:
                raise StateError("there is nothing to resume")
            self._started = True
            if self._paused:
                self._resume()

    def _resume(self) -> None:
        for vcpu in self._vcpus:
            vcpu.stop_wanted = False
        self._paused = self._parked = False
        self._resumes += 1
        self._time_goes_on()
        # the host may have written anything meanwhile
        self._caches.forget()
        if self._running is not None:
            self._running.interrupt()
        self._ensure_thread()
        self._changed.notify_all()

    def park(self) -> bool:
        with self._changed:
            if threading.current_thread() is not self._thread or self._running is None:
                raise StateError("park() is for bus accesses on a vCPU's thread")
            self.request_pause()
            self._parked = True
            self._time_stops()
            resumes = self._resumes
            self._changed.notify_all()
            while self._resumes == resumes and not self._closing:
                self._changed.wait()
            return not self._closing

    def step(self, cpu: int = 0) -> bool:
        vcpu = self._vcpus[cpu]
        with self._changed:
            before = vcpu.mode, vcpu.pc
            self._must_be_paused("step")
            if not self._loaded:
                raise StateError("there is nothing to step")
            if self._parked:
                # the access it waits in is completed, and what follows it in its block
                self._resume()
                self.request_pause()
            else:
                vcpu.stop_wanted = False
                self._step = cpu
                self._idle = False
                self._ensure_thread()
            self._changed.notify_all()
            # a step that met a device's failure waits inside it: that is all for now
            while not self._parked and (not self._quiet or self._step is not None):
                self._changed.wait()
        return before[0] is Mode.RUNNING or (vcpu.mode, vcpu.pc) != before

    @property
    def _quiet(self) -> bool:
        return self._idle or self._parked or self._closing

    def _must_be_paused(self, what: str) -> None:
        if self._closing:
            raise StateError(f"{what}: the engine is closed")
        if not (self._paused and self._quiet):
            raise StateError(f"{what}: the engine is running; pause it first")

    def _abandon_access(self) -> None:
        """Load while an access is parked: that instruction never ends.

        Unicorn can be left only at the end of the block. What it does until then is muted on the
        buses and undone in memory, which may hold a freshly loaded kernel already.
        """
        vcpu = self._running
        assert vcpu is not None
        undo = Undo(self._config.memory.regions)
        handle = vcpu.abandon(undo)
        self._resume()
        self.request_pause()
        while not self._idle:
            self._changed.wait()
        vcpu.abandoned(handle)
        undo.apply()

    def current_cpu(self) -> int:
        return self.cpu_here() or 0

    def cpu_here(self) -> int | None:
        running = self._running
        if running is None or threading.current_thread() is not self._thread:
            return None
        return running.number

    def access_here(self, port: bool = False) -> tuple[int, int | None]:
        running = self._running
        if running is None or threading.current_thread() is not self._thread:
            return 0, None
        return running.number, running.access.program_counter(port)

    def watch_interrupts(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        with self._lock:
            self._chipset.watch(seen)

    def program_counter(self, port: bool = False) -> int | None:
        running = self._running
        if running is None or threading.current_thread() is not self._thread:
            return None
        return running.access.program_counter(port)

    def get_regs(self, cpu: int = 0) -> dict[str, int]:
        with self._lock:
            self._must_be_paused("get_regs")
            return self._vcpus[cpu].registers()

    def set_regs(self, cpu: int, values: Mapping[str, int]) -> None:
        unknown = set(values) - self._settable
        if unknown:
            raise EngineError(f"cannot set {', '.join(sorted(unknown))}")
        with self._lock:
            self._must_be_paused("set_regs")
            if self._vcpus[cpu].inside:
                raise StateError("set_regs: the vCPU waits inside a device access")
            self._vcpus[cpu].set_registers(dict(values))

    # -- points ------------------------------------------------------------------------------------

    def set_points(self, points: Sequence[Point]) -> list[str]:
        with self._lock:
            self._must_be_paused("set_points")
            check(points, self._vcpus[0].translate)
            if points or any(vcpu.points is not None for vcpu in self._vcpus):
                for vcpu in self._vcpus:
                    vcpu.make_points().want(points)
        return ["software"] * len(points)

    def pass_points(self) -> None:
        with self._lock:
            self._must_be_paused("pass_points")
            for vcpu in self._vcpus:
                if vcpu.points is not None and not vcpu.inside:
                    vcpu.points.pass_at(vcpu.number, vcpu.pc)

    def unpatched(self, address: int, data: bytes) -> bytes:
        return data

    def translate(self, address: int, cpu: int = 0) -> int | None:
        with self._lock:
            self._must_be_paused("translate")
            return self._vcpus[cpu].translate(address)

    def close(self) -> None:
        """EngineError when code of a device has not ended after 2 s; a later call tries again."""
        if self._thread is threading.current_thread():
            raise StateError("close() on a vCPU's thread would wait for itself")
        with self._changed:
            self._closing = True
            for vcpu in self._vcpus:
                vcpu.interrupt()
            self._changed.notify_all()
        deadline = time.monotonic() + JOIN
        if self._thread is not None:
            self._thread.join(JOIN)
            if self._thread.is_alive():
                running = self._running
                number = running.number if running is not None else self._last
                raise EngineError(f"vCPU {number} is stuck inside a device access")
            self._thread = None
        if not self._doorbells.close(max(0.0, deadline - time.monotonic())):
            raise EngineError("a doorbell's handler does not return")
        self._config.memory.on_write = None
        self._chipset.close()
        with self._lock:
            for vcpu in self._vcpus:
                vcpu.close()

    # -- the engine's thread -----------------------------------------------------------------------

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="vmlab-soft-cpu", daemon=True)
            self._idle = False
            self._thread.start()

    def _main(self) -> None:
        while True:
            with self._changed:
                turn = self._next_turn()
            if turn is None:
                return
            vcpu, single = turn
            stop = self._turn(vcpu, single)
            with self._changed:
                self._running = None
                if single:
                    self._step = None
            if stop is not None:
                self._config.on_stop(vcpu.number, stop)

    def _next_turn(self) -> tuple[Cpu, bool] | None:
        """Wait for something to do (the lock is held); None: the engine is closed."""
        while not self._closing:
            if self._step is not None:
                vcpu = self._vcpus[self._step]
                self._running = vcpu
                self._time_goes_on()
                return vcpu, True
            if not self._paused:
                self._idle = False
                found = self._pick()
                if found is not None:
                    self._running = found
                    return found, False
            elif not self._idle:
                self._idle = True
                self._time_stops()
                self._changed.notify_all()
            self._changed.wait()
        self._idle = True
        return None

    def _pick(self) -> Cpu | None:
        """The next runnable vCPU in turn."""
        count = len(self._vcpus)
        order = [self._vcpus[(self._last + 1 + n) % count] for n in range(count)]
        runnable = [vcpu for vcpu in order if vcpu.runnable]
        if not runnable:
            return None
        vcpu = runnable[0]
        self._last = vcpu.number
        vcpu.stop_wanted = False
        deadline = time.monotonic_ns() + SLICE_NS if len(runnable) > 1 else None
        self._chipset.timers.set("slice", deadline, vcpu.interrupt)
        return vcpu

    def _turn(self, vcpu: Cpu, single: bool) -> Stop | None:
        """Let a vCPU run until it halts, stops or is wanted elsewhere."""
        try:
            while True:
                stop = vcpu.run(single)
                if stop is not None:
                    return stop
                if vcpu.points is not None and (hit := vcpu.points.take(vcpu.pc)) is not None:
                    self._config.on_break(vcpu.number, hit)
                if single or vcpu.stop_wanted:
                    if self._paused and not single:
                        self._exits[exits.INTR] += 1
                    return None
                if not vcpu.runnable:
                    return None
        except BaseException as error:  # noqa: BLE001 - nothing the guest does may end this thread
            vcpu.mode = Mode.STOPPED
            return Stop("engine-error", f"{text_of(error)} at {self._counter}={vcpu.pc:#x}")
