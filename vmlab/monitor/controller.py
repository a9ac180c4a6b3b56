"""Does what commands say, to one machine. The same in a monitor process and in-process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmlab import errors
from vmlab.core.counters import CounterPage
from vmlab.core.device import Device
from vmlab.core.memory import GuestMemory
from vmlab.core.patience import Taken, taken
from vmlab.core.safely import short, shown, text_of, trace_of
from vmlab.core.trace import TraceFilter
from vmlab.errors import ConfigError, StateError
from vmlab.machine.debug import virtual
from vmlab.machine.machine import Machine
from vmlab.monitor import wire
from vmlab.monitor.plain import Plain
from vmlab.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from vmlab.gdb.server import GdbServer

__all__ = ["Controller"]

#: instructions of one Step command; a longer run is a `resume`
MAX_STEPS = 1_000_000
#: events that a log keeps; each is about 250 bytes in the monitor's memory
MAX_TRACE = 1_000_000
#: bytes of one ReadVirtual
MAX_READ = 1 << 20
#: whose words are ours; a subclass may be a device's
_OURS = frozenset(getattr(errors, name) for name in errors.__all__)


class Controller:
    """`handle(command)` gives the reply; it never raises. `tell(event)` is called with events."""

    def __init__(
        self, memory: GuestMemory, page: CounterPage, tell: Callable[[wire.Event], None]
    ) -> None:
        self._memory = memory
        self._page = page
        self._tell = tell
        #: told after each look at where the machine's threads are
        self.on_look: Callable[[], None] = lambda: None
        self.machine: Machine | None = None
        self._gdb: GdbServer | None = None
        #: devices that are handed over as objects, when no process boundary lies between
        self.parcels: dict[bytes, Device | VirtioDevice] = {}
        self._actions: dict[type, Callable[[Any], wire.Reply]] = {
            wire.Build: self._build,
            wire.Look: self._look,
            wire.Start: lambda c: self._do(lambda: self._up.start(c.paused)),
            wire.Pause: lambda c: self._do(self._up.pause),
            wire.Resume: lambda c: self._do(self._up.resume),
            wire.Reset: lambda c: self._do(self._up.reset),
            wire.Stop: self._stop,
            wire.Step: self._step,
            wire.Peek: self._peek,
            wire.Checklist: lambda c: wire.Checked(
                self._up.device_manager.introspection.checklist(c.id, c.queue)
            ),
            wire.Queue: lambda c: wire.Looked(
                self._up.device_manager.introspection.queue(c.id, c.index)
            ),
            wire.GetRegs: self._get_regs,
            wire.SetRegs: self._set_regs,
            wire.HotAdd: lambda c: wire.Added(self._add(self._up, c)),
            wire.HotRemove: lambda c: self._do(lambda: self._up.hot_remove(c.id, c.force)),
            wire.Replace: lambda c: self._do(
                lambda: self._up.replace(c.id, self._open(c.device), c.force)
            ),
            wire.Poke: lambda c: self._do(
                lambda: self._up.device_manager.introspection.poke(c.id, c.register, c.value)
            ),
            wire.Tell: self._tell_device,
            wire.Send: lambda c: wire.Done(self._up.receive(c.data)),
            wire.Wrote: self._wrote,
            wire.Trace: self._trace,
            wire.TakeTrace: self._take_trace,
            wire.AddBreak: self._add_break,
            wire.ChangeBreak: self._change_break,
            wire.ListBreaks: lambda c: wire.Breaks(self._up.breakpoints.entries),
            wire.Decided: lambda c: self._do(
                lambda: self._up.breakpoints.answer(c.serial, c.stop, c.trouble)
            ),
            wire.ReadVirtual: self._read_virtual,
            wire.Gdb: self._serve_gdb,
            wire.Exits: lambda c: wire.ExitCounts(self._up.engine.exits, self._up.unmapped()),
        }

    def handle(self, command: wire.Command) -> wire.Reply:
        try:
            with self.machine.watch if self.machine is not None else contextlib.nullcontext():
                return self._actions[type(command)](command)
        except BaseException as error:  # noqa: BLE001 - a user's device: it may raise anything
            if taken(error):
                return wire.Failed("StateError", f"{type(command).__name__.lower()}: {Taken()}", "")
            if type(error) in _OURS:
                return wire.Failed(type(error).__name__, short(str(error)), "")
            return wire.Failed("DeviceFault", text_of(error), trace_of(error))

    @property
    def _up(self) -> Machine:
        if self.machine is None:
            raise StateError("there is no machine yet")
        return self.machine

    def _do(self, action: Callable[[], Any]) -> wire.Reply:
        action()
        return wire.Done()

    def _build(self, command: wire.Build) -> wire.Reply:
        machine = Machine(
            command.config, self._memory, self._page, lambda data: self._tell(wire.Output(data))
        )
        machine.watch.owners.append(self)
        machine.watch.on_look = self.on_look
        machine.watch.on_change = lambda calls: self._tell(wire.Busy(calls))
        machine.device_manager.on_output = lambda id, port, data: self._tell(
            wire.Output(data, id, port)
        )
        machine.device_manager.on_mistake = self._on_mistake
        try:
            with machine.watch:
                ids = [self._add(machine, one) for one in command.devices]
        except BaseException:
            machine.close()
            raise
        machine.on_state = self._on_state
        self.machine = machine
        return wire.Built(
            machine.engine_name,
            machine.engine_reason,
            machine.device_manager.introspection.directory(),
            ids,
            machine.linux,
        )

    def _add(self, machine: Machine, one: wire.HotAdd) -> str:
        return machine.hot_add(self._open(one.device), one.id, one.at, one.irq)

    def _on_state(self) -> None:
        machine = self.machine
        if machine is not None:
            self._tell(wire.State(machine.state, machine.exit, machine.fault, machine.met))
        if self._gdb is not None:
            self._gdb.on_state()

    def _serve_gdb(self, command: wire.Gdb) -> wire.Reply:
        if command.port is None:
            gdb, self._gdb = self._gdb, None
            if gdb is not None:
                gdb.close()
            return wire.Done()
        if self._gdb is not None:
            raise StateError(f"gdb is served already, at port {self._gdb.port}; close() that first")
        from vmlab.gdb.server import GdbServer  # only here: few machines are debugged

        self._gdb = GdbServer(self._up, command.port)
        return wire.Done(self._gdb.port)

    def _on_mistake(self, id: str, text: str) -> None:
        self._tell(wire.Said([wire.Saying(time.monotonic(), id, "mistake", text)]))

    def _open(self, parcel: bytes) -> Device | VirtioDevice:
        device = self.parcels.pop(parcel, None)
        if device is None:
            import pickle  # only here: few machines are given such a device

            device = pickle.loads(parcel)
        if not isinstance(device, (Device, VirtioDevice)):
            raise ConfigError(f"{shown(device)} is not a vmlab Device")
        return device

    def _peek(self, command: wire.Peek) -> wire.Reply:
        registers, attributes = self._up.device_manager.introspection.peek(command.id)
        plain = Plain(summed=True)
        return wire.Peeked(registers, {name: plain.of(value) for name, value in attributes.items()})

    def _tell_device(self, command: wire.Tell) -> wire.Reply:
        board = self._up.device_manager
        told = board.introspection.tell(
            command.id, command.method, command.arguments, command.options
        )
        return wire.Told(Plain(summed=False).of(told))

    def _stop(self, command: wire.Stop) -> wire.Reply:
        stuck = not self._up.stop() or bool(self._up.watch.words())
        return wire.Done(int(stuck))

    def _look(self, command: wire.Look) -> wire.Reply:
        return wire.Devices(
            self._page.generation, self._up.device_manager.introspection.directory()
        )

    def _step(self, command: wire.Step) -> wire.Reply:
        if not 1 <= command.count <= MAX_STEPS:
            raise ConfigError(f"{command.count} steps; one call takes 1 to {MAX_STEPS}")
        done = int(self._up.step(self._cpu(command.cpu)))
        while 0 < done < command.count:
            if self._up.state != "paused" or self._up.fault is not None:
                break
            if not self._up.step(command.cpu):
                break
            done += 1
        return wire.Done(done)

    def _cpu(self, cpu: int) -> int:
        if not 0 <= cpu < self._up.config.cpus:
            raise ConfigError(f"no CPU {cpu}; the machine has {self._up.config.cpus}")
        return cpu

    def _stopped_cpu(self, cpu: int) -> int:
        if self._up.state == "running":
            raise StateError("the machine is running; pause it to see its registers")
        if self._up.state == "paused":
            self._up.pause()  # a vCPU may be on its way into a device's failure
        return self._cpu(cpu)

    def _get_regs(self, command: wire.GetRegs) -> wire.Reply:
        return wire.Registers(self._up.engine.get_regs(self._stopped_cpu(command.cpu)))

    def _set_regs(self, command: wire.SetRegs) -> wire.Reply:
        self._up.engine.set_regs(self._stopped_cpu(command.cpu), command.values)
        return wire.Done()

    def _add_break(self, command: wire.AddBreak) -> wire.Reply:
        breakpoints = self._up.breakpoints
        breakpoints.ask = lambda serial, event: self._tell(wire.Asked(serial, event))
        breakpoints.say = lambda text: self._tell(
            wire.Said([wire.Saying(time.monotonic(), "", "fault", text + "\n")])
        )
        return wire.Breaks([breakpoints.add(command.spec)])

    def _change_break(self, command: wire.ChangeBreak) -> wire.Reply:
        breakpoints = self._up.breakpoints
        if command.enabled is None:
            breakpoints.remove(command.number)
        else:
            breakpoints.change(command.number, command.enabled)
        return wire.Done()

    def _read_virtual(self, command: wire.ReadVirtual) -> wire.Reply:
        if not 0 <= command.size <= MAX_READ:
            raise ConfigError(f"{command.size} bytes; one call reads 0 to {MAX_READ}")

        cpu = self._stopped_cpu(command.cpu)
        return wire.Bytes(virtual.read(self._up, command.address, command.size, cpu))

    def _wrote(self, command: wire.Wrote) -> wire.Reply:
        if self._memory.on_write is not None:
            self._memory.on_write(command.address, command.size)
        return wire.Done()

    def _trace(self, command: wire.Trace) -> wire.Reply:
        if not 1 <= command.last <= MAX_TRACE:
            raise ConfigError(f"a log of {command.last} events; it keeps 1 to {MAX_TRACE:,}")
        wanted = TraceFilter.of(command.devices, command.kinds, command.registers, command.cpus)
        self._up.trace(command.on, command.last, wanted)
        return wire.Done()

    def _take_trace(self, command: wire.TakeTrace) -> wire.Reply:
        events, dropped = self._up.take_trace(wire.TRACE_PART)
        return wire.TraceRecords([*events], dropped)

    def close(self) -> None:
        gdb, self._gdb = self._gdb, None
        if gdb is not None:
            gdb.close()
        machine, self.machine = self.machine, None
        if machine is not None:
            machine.close()
