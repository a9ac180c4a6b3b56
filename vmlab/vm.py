"""`VM`: what people hold."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vmlab import kernels
from vmlab.console import Console
from vmlab.core.cmdline import Cmdline
from vmlab.core.counters import UNMAPPED_READS, UNMAPPED_WRITES, Block, DeviceCounts
from vmlab.core.device import Device
from vmlab.core.memory import GuestMemory
from vmlab.core.units import parse_size, show_size
from vmlab.errors import ConfigError, DeviceFault, EngineError, MonitorLost, StateError
from vmlab.machine.config import DeviceEntry, Exit, Fault, MachineConfig, Range
from vmlab.monitor import wire
from vmlab.monitor.session import COMMAND_TIMEOUT, LocalSession, MonitorSession, Session
from vmlab.shown import Shown
from vmlab.stats import stats
from vmlab.tracing import Trace
from vmlab.views import Cpu, DeviceView, IrqRow, State, Traps, address_map
from vmlab.virtio.device import VirtioDevice
from vmlab.waiting import Waiting

__all__ = ["VM", "Trace"]

#: seconds that a machine has for its end; a device's handler that does not return is left behind
STOP_TIMEOUT = 3.0
#: instructions in one request of `step`, so that each is answered in time
STEPS = 10_000
#: `exit.reason` of a machine whose monitor process is gone
LOST = "monitor-lost"
#: what can be plugged in
AnyDevice = Device | VirtioDevice


class VM(Shown, Waiting):
    """A virtual machine.

        vm = VM(kernel="monitor")
        with vm:
            vm.console.expect("vmlab> ")

    kernel: the name of a bundled kernel or the path of an image. engine: "auto" (KVM where it works,
    else software), "kvm", "soft". memory: bytes, or "64M". devices: what is plugged in from the
    start, in the order of their windows. isolate: run the machine in a process of its own (False is
    for debugging: a busy notebook then slows the guest). debug_exit: whether port 0xf4 ends the guest.
    """

    def __init__(
        self,
        kernel: str | os.PathLike[str] = "monitor",
        *,
        engine: str = "auto",
        memory: str | int = "64M",
        cpus: int = 1,
        devices: Sequence[AnyDevice] = (),
        cmdline: str = "",
        initrd: str | os.PathLike[str] | None = None,
        isolate: bool = True,
        debug_exit: bool = True,
    ) -> None:
        self.config = MachineConfig(
            kernel=str(kernels.find(kernel)),
            engine=engine,
            memory=parse_size(memory),
            cpus=cpus,
            cmdline=cmdline,
            initrd=str(Path(initrd).absolute()) if initrd is not None else None,
            debug_exit=debug_exit,
        )
        self.config.check()
        self._check_files()
        Cmdline(text=cmdline)
        for device in devices:
            _check_device(device)
        self.isolate = isolate
        self._wanted = list(devices)
        self._session: Session | None = None
        #: ends the session: called by `stop`, when nobody holds the VM any more, and at exit
        self._finalizer: Callable[[], object] | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self._state = State("created")
        self._directory: list[DeviceEntry] = []
        self._generation = -1
        self._last: dict[str, Any] = {}
        self._trace: Trace | None = None
        self._started: float | None = None
        self._fault_shown = False
        self.engine = engine
        self.engine_reason = ""
        self.console = Console(self._send)
        self.console._ended = self._why_silent
        #: (device, port) -> its console; ("", 0) is the serial port
        self._consoles = {("", 0): self.console}

    def _check_files(self) -> None:
        """Say now, not at `start`, that an image cannot be booted."""
        from vmlab.boot.load import check, read_image

        check(read_image(self.config.kernel), self.config.kernel)
        if self.config.initrd is not None:
            read_image(self.config.initrd, "initrd")

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Power on. A machine that was stopped starts afresh."""
        with self._lock:
            if self._state in ("stopped", "crashed"):
                self.stop()
                self._set_state(State("created"))
            session = self._up()
            session.call(wire.Start())
            self._started = time.monotonic()
        return self

    def pause(self) -> None:
        """No vCPU executes any more when this returns."""
        self._call(wire.Pause())

    def resume(self) -> None:
        """Go on. After a device's failure: try that access again."""
        self._fault_shown = False
        self._call(wire.Resume(), fault=False)

    def step(self, count: int = 1, cpu: int = 0) -> None:
        """Execute `count` instructions of a paused machine; fewer when it ends, or a device fails."""
        while True:
            part = min(count, STEPS)
            done = self._call(wire.Step(cpu, part)).count
            count -= part
            if done < part or count <= 0:
                return

    def reset(self) -> None:
        """The reset button: the kernel starts anew, devices stay plugged in."""
        self._call(wire.Reset(), fault=False)

    def stop(self) -> None:
        """Power off and free everything. What was counted can still be read. Idempotent."""
        with self._lock:
            session = self._session
            if session is None:
                if self._state == "created":
                    self._set_state(State("stopped", Exit("stopped", 0, "stopped by the host")))
                return
            with contextlib.suppress(MonitorLost):
                session.call(wire.Stop(), STOP_TIMEOUT)
                self._last["exits"] = self._exits(STOP_TIMEOUT)
                if self._trace is not None:
                    self._trace.stop()
            self._remember()
            self._session, self._trace = None, None
            if self._finalizer is not None:
                self._finalizer()
            if self._state not in ("stopped", "crashed"):
                self._set_state(State("stopped", Exit("stopped", 0, "stopped by the host")))

    def wait(
        self, timeout: float | None = None, until: Callable[[], bool] | None = None
    ) -> Exit | None:
        """Until the machine ends, or `until()` (asked after each change). Returns why it ended; None
        when it has not, because `timeout` seconds were over or `until()` was true. DeviceFault when
        the guest waits at a device's failure: it would wait for ever."""
        if self._state == "created":
            raise StateError("the machine is created, not started: start() it")

        def wanted() -> bool:
            return until is not None and until()

        with self._changed:
            self._changed.wait_for(
                lambda: (
                    wanted()
                    or self._state in ("stopped", "crashed")
                    or self._state.fault is not None
                ),
                timeout,
            )
        state = self._state
        if state.fault is not None and not wanted():
            raise self._fault_error(state.fault)
        return state.exit

    def stop_waiting(self) -> None:
        """Make `wait` ask its `until` again."""
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        if self._session is None or self._state == "created":
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def state(self) -> State:
        """ "created", "running", "paused", "stopped" or "crashed"; `.reason` says why."""
        return self._state

    @property
    def exit(self) -> Exit | None:
        """Why the machine ended; None while it has not."""
        return self._state.exit

    @property
    def pid(self) -> int | None:
        """The monitor process."""
        return self._session.pid if self._session is not None else None

    # --- the session ----------------------------------------------------------------------------

    def _up(self) -> Session:
        """The session, begun if need be."""
        with self._lock:
            if self._session is not None:
                return self._session
            if self._state != "created":
                raise StateError(
                    f"the machine is {self._state} ({self._state.reason}); start() it again"
                )
            session: Session
            if self.isolate:
                session = MonitorSession(
                    self.config.memory, _weakly(self._on_event), _weakly(self._on_lost)
                )
            else:
                session = LocalSession(self.config.memory, _weakly(self._on_event))
            try:
                parcels: list[tuple[bytes, str | None]] = [
                    (session.parcel(device), None) for device in self._wanted
                ]
                built = session.call(wire.Build(self.config, parcels))
            except MonitorLost as error:
                session.close()
                raise EngineError(f"the machine could not be built: {error}") from None
            except BaseException:
                session.close()
                raise
            self._session = session
            self._finalizer = weakref.finalize(self, session.close)
            self.engine, self.engine_reason = built.engine, built.reason
            self._directory = built.devices
            self._generation = session.page.generation
            return session

    def _call(self, command: wire.Command, fault: bool = True) -> Any:
        """`fault`: a device's failure that nobody has seen yet is shown first."""
        session = self._up()
        if fault:
            self._show_fault()
        return session.call(command)

    def _show_fault(self) -> None:
        broken = self._state.fault
        if broken is not None and not self._fault_shown:
            self._fault_shown = True
            print(f"vmlab: the guest is paused: {broken.text}\n{broken.traceback}", file=sys.stderr)

    def _on_event(self, event: wire.Event) -> None:
        if isinstance(event, wire.Output):
            self._console_of(event.device, event.port).feed(event.data)
        elif isinstance(event, wire.State):
            if event.fault is not None:
                self._fault_shown = False
            self._set_state(State(event.state, event.exit, event.fault))
        else:
            print(event.text, end="", flush=True)

    def _on_lost(self, reason: str) -> None:
        self._set_state(State("crashed", Exit(LOST, 3, reason)))

    def _set_state(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
        for console in list(self._consoles.values()):
            console.wake()

    def _why_silent(self) -> BaseException | None:
        """Why the console will not say anything more, if so."""
        state = self._state
        if state.fault is not None:
            return self._fault_error(state.fault)
        if state == "running":
            return None
        if state.exit is not None and state.exit.reason == LOST:
            return MonitorLost(state.reason)
        why = f" ({state.reason})" if state.reason else ""
        what = "start" if state == "created" else "resume" if state == "paused" else ""
        hint = f"; {what}() it" if what else ""
        return StateError(f"the machine is {state}{why}: its console says nothing more{hint}")

    def _fault_error(self, fault: Fault) -> DeviceFault:
        self._fault_shown = True
        return DeviceFault(fault.text, fault.device, fault.traceback)

    def _console_of(self, id: str, port: int) -> Console:
        # no lock: the reader's thread comes here while another holds the VM's and waits for it
        found = self._consoles.get((id, port))
        if found is None:
            fresh = Console(lambda data: int(self.tell(id, "send", data, port)))
            fresh._ended = self._why_silent
            found = self._consoles.setdefault((id, port), fresh)
        return found

    @property
    def consoles(self) -> dict[str, Console]:
        """id -> Console: "com1" is the serial port, `console`; of a device with several ports, those
        but the first are "console0/1", "console0/2"..."""
        found = {"com1": self.console}
        for entry in self._entries_or_build():
            for port in range(entry.consoles):
                name = f"{entry.id}/{port}" if port else entry.id
                found[name] = self._console_of(entry.id, port)
        return found

    def _send(self, data: bytes) -> int:
        count: int = self._call(wire.Send(data)).count
        return count

    # --- devices --------------------------------------------------------------------------------

    def hot_add(self, device: AnyDevice, id: str | None = None) -> DeviceView:
        """Plug a device into the machine, running or not. Its window is the first free one."""
        _check_device(device)
        session = self._up()
        added = self._call(wire.HotAdd(session.parcel(device), id)).id
        return self.devices[added]

    def hot_remove(self, id: str, force: bool = False) -> None:
        """Unplug the device; its window and line are free again."""
        self._call(wire.HotRemove(id, force))
        for known in [one for one in list(self._consoles) if one[0] == id]:
            del self._consoles[known]

    def replace(self, id: str, device: AnyDevice) -> DeviceView:
        """Put `device` in the place of the one called `id`: same window, same line."""
        _check_device(device)
        session = self._up()
        self._call(wire.Replace(id, session.parcel(device)), fault=False)
        return self.devices[id]

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a method of the device in the machine, one that its class marks with `command`;
        `vm.devices[id].method(...)` does the same."""
        command = wire.Tell(id, method, list(arguments), options)
        return self._call(command, fault=False).value

    def _entries(self) -> list[DeviceEntry]:
        """The directory, asked for anew only when a device came or went."""
        session = self._session
        if session is not None and session.page.generation != self._generation:
            with contextlib.suppress(MonitorLost):
                reply = session.call(wire.Look())
                self._generation, self._directory = reply.generation, reply.devices
        return self._directory

    @property
    def devices(self) -> Mapping[str, DeviceView]:
        """id -> DeviceView, by address."""
        if self._session is None and self._state == "created":
            self._up()
        return {entry.id: DeviceView(self, entry) for entry in self._entries()}

    def _counts(self, entry: DeviceEntry) -> DeviceCounts:
        session = self._session
        names = [row.name for row in entry.registers]
        if session is None:
            kept: DeviceCounts | None = self._last.get("devices", {}).get(entry.id)
            return kept or Block.private(names).counts()
        return session.page.attach(entry.block, names).counts()

    def _peek(self, id: str) -> dict[str, Any]:
        reply: wire.Peeked = self._call(wire.Peek(id))
        return {**reply.attributes, **reply.registers}

    # --- looking --------------------------------------------------------------------------------

    @property
    def traps(self) -> Traps:
        """A snapshot of every count; reading it costs the guest nothing."""
        entries = self._entries()
        words = self._session.page.words if self._session is not None else None
        unmapped = (
            (words[UNMAPPED_READS], words[UNMAPPED_WRITES])
            if words is not None
            else self._last.get("unmapped", (0, 0))
        )
        return Traps({entry.id: self._counts(entry) for entry in entries}, unmapped)

    @property
    def irqs(self) -> list[IrqRow]:
        """The interrupt lines that a device holds."""
        if self._session is None:
            kept: list[IrqRow] = self._last.get("irqs", [])
            return kept
        entries = self._entries()
        holders: dict[int, list[str]] = {}
        for entry in entries:
            if entry.irq is not None:
                holders.setdefault(entry.irq, []).append(entry.id)
        page = self._session.page
        return [
            IrqRow(line, ", ".join(ids), *page.line(line)) for line, ids in sorted(holders.items())
        ]

    @property
    def address_map(self) -> list[Range]:
        """Every range of the guest's physical space, RAM and holes included, by address."""
        from vmlab.core.memory import ram_layout

        return address_map(ram_layout(self.config.memory), list(self._entries_or_build()))

    def _entries_or_build(self) -> list[DeviceEntry]:
        if self._session is None and self._state == "created":
            self._up()
        return self._entries()

    @property
    def memory(self) -> GuestMemory:
        """The guest's RAM: shared, so `view` is no copy."""
        return self._up().memory

    @property
    def cpus(self) -> list[Cpu]:
        return [Cpu(self, index) for index in range(self.config.cpus)]

    def _get_regs(self, cpu: int) -> dict[str, int]:
        values: dict[str, int] = self._call(wire.GetRegs(cpu)).values
        return values

    def _set_regs(self, cpu: int, values: dict[str, int]) -> None:
        self._call(wire.SetRegs(cpu, values))

    @property
    def uptime(self) -> float:
        """Seconds since `start`."""
        return time.monotonic() - self._started if self._started is not None else 0.0

    @property
    def exits(self) -> dict[str, int]:
        """How often a vCPU left the guest, by kind."""
        return dict(self._exits().exits)

    @property
    def unmapped(self) -> dict[tuple[str, int | None], tuple[int, int]]:
        """(space, address) -> (reads, writes) of accesses that hit nothing; an address of None gathers
        those past the first 4,096."""
        return {(space, at): (reads, writes) for space, at, reads, writes in self._exits().unmapped}

    def _exits(self, timeout: float = COMMAND_TIMEOUT) -> wire.ExitCounts:
        if self._session is None:
            return self._last.get("exits") or wire.ExitCounts({}, [])
        counts: wire.ExitCounts = self._session.call(wire.Exits(), timeout)
        return counts

    def trace(self, last: int = 10_000, device: str | None = None) -> Trace:
        """Begin an access log; the last `last` accesses are kept, of one device or of all.

        with vm.trace() as log:
            vm.console.run("peek 0xd0000000")
        log.events
        """
        if self._trace is not None:
            self._trace.stop()
        self._call(wire.Trace(True, last, device))
        self._trace = Trace(self, last)
        return self._trace

    def stats(self) -> dict[str, Any]:
        """Everything that `--stats` writes."""
        return stats(self)

    def _remember(self) -> None:
        """Keep what was counted, past the end of the session."""
        self._last["irqs"] = self.irqs
        traps = self.traps
        self._last["devices"], self._last["unmapped"] = dict(traps), traps.unmapped

    def __repr__(self) -> str:
        name = Path(self.config.kernel).name.removesuffix(".elf")
        why = f", {self._state.reason}" if self._state.reason else ""
        return (
            f"<VM {name}: {self._state!s}{why}; {self.engine}, {show_size(self.config.memory)},"
            f" {self.config.cpus} cpu{'s' if self.config.cpus > 1 else ''}>"
        )


def _check_device(device: object) -> None:
    if not isinstance(device, (Device, VirtioDevice)):
        hint = " (an instance, not the class)" if isinstance(device, type) else ""
        raise ConfigError(f"{device!r} is not a vmlab Device{hint}")


def _weakly(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """`method`, as long as its object is held elsewhere: a session must not keep its VM alive."""
    found = weakref.WeakMethod(method)

    def call(argument: Any) -> None:
        alive = found()
        if alive is not None:
            alive(argument)

    return call
