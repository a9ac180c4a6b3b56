"""The machine put together: memory, buses, a board, the device manager, an engine, and its states."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from vmlab.core.bus import Bus
from vmlab.core.bus import Fault as BusFault
from vmlab.core.clock import Clock
from vmlab.core.counters import STATE, CounterPage
from vmlab.core.device import Device
from vmlab.core.memory import GuestMemory
from vmlab.core.patience import Patient, Taken, taken, waited
from vmlab.core.trace import TraceFilter, TraceLog, TraceRecord
from vmlab.engine import choose, create
from vmlab.engine.api import EngineConfig, Hit, Stop
from vmlab.errors import StateError
from vmlab.machine.board import Serial
from vmlab.machine.config import (
    ENDED,
    STATES,
    Exit,
    Fault,
    MachineConfig,
    StateName,
)
from vmlab.machine.device_manager import DeviceManager
from vmlab.machine.endings import Endings
from vmlab.machine.failure import RESET_FAILED, failure, reset_failed
from vmlab.machine.requests import GuestRequests
from vmlab.machine.software import Software
from vmlab.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from vmlab.machine.debug.breakpoints import Breakpoints
    from vmlab.machine.debug.records import BreakEvent
    from vmlab.machine.tracing import Tracing

__all__ = ["Machine"]

#: seconds that a machine which is stopped waits for a device's code
STOPPING = 1.0


def _nothing(*_: object) -> None:
    """For hooks that nobody wants."""


class Machine:
    """One virtual machine.

    on_console: bytes that the guest sent to its serial port. on_state (an attribute, set when wanted): called
    after each change of state. Both are called on the thread where it happened, vCPU threads included, and
    must be short.
    """

    def __init__(
        self,
        config: MachineConfig,
        memory: GuestMemory,
        page: CounterPage,
        on_console: Callable[[bytes], None] = _nothing,
    ) -> None:
        config.check()
        self.config = config
        self.memory = memory
        self.page = page
        page.format()
        self.state: StateName = "created"
        self.exit: Exit | None = None
        self.fault: Fault | None = None
        #: where it was stopped, while it is paused for that
        self.met: BreakEvent | None = None
        self._breakpoints: Breakpoints | None = None
        self.on_state: Callable[[], None] = _nothing
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._engine_started = False
        self._tracing: Tracing | None = None
        self.clock = Clock()
        self.mmio = Bus("mmio", page=page)
        self.arch = config.platform
        self.ports = Bus("port", self.arch.port_bits or 0, page=page)
        #: kernel, initrd, command line, and what they are told of the machine
        self.software = Software(config)
        self.engine_name, self.engine_reason = choose(config.engine, self.linux, self.arch.name)
        self.engine = create(
            self.engine_name,
            EngineConfig(
                memory,
                self.mmio,
                self.ports,
                config.cpus,
                on_stop=self._on_stop,
                on_break=self._on_break,
                exits=page.exits_of,
                exact=not self.linux,
                arch=self.arch.name,
                gic=config.gic,
            ),
        )
        self.device_manager = DeviceManager(
            self.arch, self.engine, memory, page, self.clock, self.mmio
        )
        self.watch = self.device_manager.watch
        self.watch.owners.append(self.ports)
        self.watch.running = lambda: self.state == "running"
        #: held by whoever takes the machine from one state to another, its waiting for vCPUs included;
        #: never taken on a vCPU's thread. `_lock` guards the fields, for a moment.
        self._control = Patient(self.watch.words, "the machine cannot take this now")
        self.requests = GuestRequests(
            *(self._control, self._lock, self.engine, (self.mmio, self.ports), self.watch.words)
        )
        self.endings = Endings(self.requests, self._end, self._reset, self.device_manager.quiet)
        try:
            self.software.write_cmdline(self.engine_name)
            self._plug_fixed(on_console)
            self.software.prepare_slots(self.device_manager)
        except BaseException:
            self.engine.close()
            raise
        for bus in (self.mmio, self.ports):
            bus.on_fault = self._on_fault

    @property
    def linux(self) -> bool:
        return self.software.linux

    # --- states ---------------------------------------------------------------------------------

    def _enter(self, state: StateName, exit: Exit | None = None) -> None:
        with self._changed:
            self.state = state
            self.page.words[STATE] = STATES.index(state)
            if exit is not None:
                self.exit = exit
            self._changed.notify_all()
        self.on_state()

    def _require(self, *states: str) -> None:
        if self.state not in states:
            raise StateError(f"the machine is {self.state}; this needs it {' or '.join(states)}")

    @contextlib.contextmanager
    def _command(self) -> Iterator[None]:
        """One command at a time, and after what the guest has asked for."""
        with self._control:
            self.requests.carry_out()
            yield

    def start(self, paused: bool = False) -> None:
        """created -> running; `paused`: -> paused, before the first instruction."""
        with self._command():
            self._require("created")
            self.software.load(self.memory, self.engine, self.device_manager)
            if paused:
                self._enter("paused")
            else:
                self._run()

    def _run(self) -> None:
        self.clock.resume()
        with self._lock:
            self._enter("running")
            self.watch.stir()
            if self._engine_started:
                self.engine.resume()
            else:
                self._engine_started = True
                self.engine.start()

    def pause(self) -> None:
        """running -> paused. When it returns, no vCPU executes."""
        with self._command():
            if self.state == "paused":
                self._halt("paused")  # a vCPU may be on its way into a device's failure
                return
            self._require("running")
            self._halt("paused")
            self.requests.carry_out()
            with self._lock:
                # the guest may have ended, or a device failed, before it could be paused
                if self.state == "running":
                    self.clock.pause()
                    self._enter("paused")

    def resume(self) -> None:
        """paused -> running. A guest that waits at a device's failure tries that access again."""
        with self._command():
            if self.state == "running":
                return
            self._require("paused")
            self._halt("resumed")  # as in `pause`
            self._leave_point()
            self.fault = None
            self._run()

    def step(self, cpu: int = 0) -> bool:
        """One instruction of a paused machine; False as `Engine.step`."""
        with self._command():
            self._require("paused")
            if self.fault is not None:
                raise StateError(
                    f"the guest waits at a failure of {self.fault.device!r}; resume or replace it"
                )
            if self.met is not None:
                self._halt("stepped")  # the vCPU may be on its way to where it stops
            self._leave_point()
            stepped = self.engine.step(cpu)
            self.requests.carry_out()
            return stepped

    def reset(self) -> None:
        """As the reset button: memory cleared, devices and CPUs at power-on, the kernel loaded anew.
        It runs on if it ran; a machine that had ended stays paused."""
        with self._command():
            self._require("running", "paused", "stopped", "crashed")
            with self.device_manager.quiet:
                self._halt("reset")
                self._reset()

    def _reset(self) -> None:
        was_running = self.state == "running"
        try:
            self._power_on()
        except BaseException as error:
            self.requests.mute()
            self._end("crashed", reset_failed(error, self.device_manager.refused))
            raise
        if was_running:
            self._run()
        else:
            self._enter("paused")

    def _power_on(self) -> None:
        # an access that waited at a device's failure is given up by `load`: it must not be seen
        self.requests.mute()
        self.clock.reset()
        self.device_manager.reset()
        self.memory.clear()
        self.fault, self.exit, self.met = None, None, None
        self.software.load(self.memory, self.engine, self.device_manager)
        self.requests.unmute()
        if self._breakpoints is not None:
            self._breakpoints.rearm()
        if self._tracing is not None:
            self._tracing.watch_buses()

    def stop(self) -> bool:
        """Power off; the machine's memory and registers can still be looked at until `close`. False when a
        device's code keeps a vCPU: that one is left there, `close` sees to it."""
        with self._command():
            if self.state in ENDED:
                return True
            self.requests.mute()
            quiet = not self._engine_started or self.engine.pause(STOPPING)
            self._end("stopped", Exit("stopped", 0, "stopped by the host"))
            return quiet

    def close(self) -> None:
        """Free everything but memory and counters, which belong to the caller. EngineError when code of
        a device does not let a vCPU go."""
        self.requests.close()
        with contextlib.suppress(TimeoutError):  # the engine says what that means
            self.watch.expel_users(Taken)
        try:
            with self._control, self.watch.ending(Taken):
                try:
                    self.engine.close()
                finally:
                    self.device_manager.close()
                    self.clock.close()
        finally:
            self.watch.close()

    def _halt(self, verb: str) -> None:
        """When this returns, no vCPU executes and no device's code keeps one. StateError when one does:
        then the guest goes on."""
        words = waited(self.engine.pause, self.watch.words)
        if not words:
            return
        if self.state == "running":
            self.engine.resume()
        raise StateError(
            f"the machine cannot be {verb}: {words}; replace(id, device, force=True) or"
            " hot_remove(id, force=True) takes the device out of that, stop() ends the machine"
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Until the machine ends; False when `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state in ENDED, timeout)

    def _end(self, state: StateName, exit: Exit) -> None:
        self.clock.pause()
        self.fault = self.met = None
        self._enter(state, exit)

    # --- what the guest does to the machine -----------------------------------------------------

    def _on_stop(self, cpu: int, stop: Stop) -> None:
        self.endings.stop(cpu, stop)

    def _on_fault(self, fault: BusFault) -> bool:
        """A device raised. The guest waits here, at the access, until someone resumes it."""
        if taken(fault.error):
            self.device_manager.force.await_successor()
            return not self.requests.muted
        failed = failure(fault)
        self.engine.request_pause()
        with self._lock:
            if self.requests.muted:
                return False
            self.fault = failed
            if self._tracing is not None:
                self._tracing.failed(failed)
            self.clock.pause()
            self._enter("paused")
        return self.engine.park()

    # --- breakpoints ----------------------------------------------------------------------------

    @property
    def breakpoints(self) -> Breakpoints:
        """Made when first wanted: most machines have none."""
        with self._lock:
            if self._breakpoints is None:
                from vmlab.machine.debug.breakpoints import Breakpoints

                self._breakpoints = Breakpoints(self)
            return self._breakpoints

    @property
    def muted(self) -> bool:
        return self.requests.muted

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """No vCPU executes in the block; afterwards the machine goes on if it ran. Its state is the same."""
        with self._command():
            self._require("created", "running", "paused")
            if self._engine_started:
                self._halt("changed")
            try:
                yield
            finally:
                if self.state == "running":
                    self.engine.resume()

    def stop_at(self, event: BreakEvent) -> None:
        """A breakpoint was met, on any thread: the machine becomes paused."""
        self.engine.request_pause()
        with self._lock:
            if self.requests.muted or self.state != "running":
                if self.state == "paused" and self.met is None:
                    self.met = event  # in a step
                return
            self.met = event
            self.clock.pause()
            self._enter("paused")

    def _on_break(self, cpu: int, hit: Hit) -> None:
        if self._breakpoints is not None:
            self._breakpoints.met(cpu, hit)

    def _leave_point(self) -> None:
        """The machine is to go on from where it was stopped (no vCPU executes)."""
        self.met = None
        if self._breakpoints is not None:
            self._breakpoints.drop_spent()
            self.engine.pass_points()

    # --- devices --------------------------------------------------------------------------------

    def _plug_fixed(self, on_console: Callable[[bytes], None]) -> None:
        screen = self.page.screen if self.software.screen else None
        hooks = self.endings.hooks(on_console, bool(self.config.debug_exit), screen)
        fixed = self.software.board.fixed_devices(hooks, self.device_manager.hotplug)
        self.device_manager.fix_all(
            fixed, self.ports, self.software.cmdline if self.linux else None
        )
        self._serial = cast(
            "Serial", next(one.device for one in fixed if one.id == self.arch.serial)
        )

    def hot_add(
        self,
        device: Device | VirtioDevice,
        id: str | None = None,
        at: int | None = None,
        irq: int | None = None,
    ) -> str:
        """Plug `device` into the machine, running or not; returns its id. at, irq: the address and the line
        that it is to have."""
        with self._control:
            self._require("created", "running", "paused")
            added = self.device_manager.add(device, id, self.state != "created", at, irq)
        self._rearm()
        return added

    def _rearm(self) -> None:
        """A breakpoint may name a device that has come, or left."""
        if self._breakpoints is not None and self.state not in ENDED:
            with self.at_rest():
                self._breakpoints.rearm()

    def _require_exchange(self, force: bool) -> None:
        """A device that has kept the machine from a reset can be taken out, for the next one."""
        if not (force and self.exit is not None and self.exit.reason == RESET_FAILED):
            self._require("created", "running", "paused")

    def hot_remove(self, id: str, force: bool = False) -> None:
        """Unplug a device; its window and line are free again. StateError when the guest does not let
        it go; `force` takes it out under the guest."""
        self._require_exchange(force)
        self.device_manager.remove(id, force, running=self.state == "running")
        self._rearm()

    def replace(self, id: str, device: Device | VirtioDevice, force: bool = False) -> None:
        """`device` takes the place of the one called `id`: same window, same line. `force`: whatever the
        guest and the old device's code are about."""
        self._require_exchange(force)
        running = self.state == "running"
        self.device_manager.replace(
            id, device, announce=self.state != "created", running=running, force=force
        )
        self._rearm()

    # --- looking --------------------------------------------------------------------------------

    def unmapped(self) -> list[tuple[str, int | None, int, int]]:
        """(space, address or None for the rest, reads, writes) of accesses that hit nothing."""
        return [
            (bus.name, address, reads, writes)
            for bus in (self.ports, self.mmio)
            for address, (reads, writes) in list(bus.unmapped.items())
        ]

    def receive(self, data: bytes) -> int:
        """Bytes for the serial port; how many it took: as many as it has room for."""
        data = data[: self._serial.room]
        if self._tracing is not None:
            self._tracing.received("", 0, data)
        return self._serial.receive(data)

    # --- the event log --------------------------------------------------------------------------

    def trace(self, on: bool, last: int = 10_000, wanted: TraceFilter = TraceFilter()) -> None:  # noqa: B008  frozen
        """Begin a log of `wanted`, of the newest `last` entries; or end the one that there is. As
        `tracing.checked` for what there is not."""
        from vmlab.machine.tracing import Tracing, checked

        wanted = checked(wanted, self.device_manager, self.config.cpus)
        with self._lock:
            if self._tracing is not None:
                self._tracing.end()
            self._tracing = None
            if on:
                self._tracing = Tracing(self, self._serial, TraceLog(last, wanted))
                if self.state not in ENDED:
                    self._tracing.begin()

    def take_trace(self, limit: int | None = None) -> tuple[list[TraceRecord], int]:
        return self._tracing.log.take(limit) if self._tracing is not None else ([], 0)
