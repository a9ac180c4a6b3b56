"""The connection of a VM with its machine: the session, what the machine tells, its state, its consoles."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from vmlab.errors import DeviceFault, EngineError, MonitorLost, StateError, VmlabError
from vmlab.machine.config import ENDED, BusyCall, DeviceEntry, Exit, Fault, MachineConfig
from vmlab.monitor import wire
from vmlab.monitor.local import COMMAND_TIMEOUT, LocalSession, Session
from vmlab.monitor.observation import Observation, Values
from vmlab.virtio.steps import DriverSteps
from vmlab.vm.conditions import Conditions
from vmlab.vm.console import Console, Consoles
from vmlab.vm.copies import AnyDevice, Copies
from vmlab.vm.device_log import DeviceLog, Spout, entry_of
from vmlab.vm.state import State

__all__ = ["Connection", "Wanted", "in_notebook"]

#: `exit.reason` of a machine whose monitor process is gone
LOST = "monitor-lost"


STOPPED = State("stopped", Exit("stopped", 0, "stopped by the host"))
#: seconds that a machine has for its end; a device's handler that does not return is left behind
STOP_TIMEOUT = 1.3
#: seconds between two looks at whether the session can be ended
LOOK = 0.5


class Wanted(NamedTuple):
    """A device that a machine is built with. at, irq: its place, once it has had one. parcel: the device as
    it was when it was plugged into a machine that was there already; None: it was there from the start."""

    id: str | None
    device: AnyDevice
    at: int | None = None
    irq: int | None = None
    parcel: bytes | None = None


class Connection:
    """What must be there before anything can be asked. Views hold it, and so keep the machine."""

    def __init__(
        self,
        config: MachineConfig,
        devices: Sequence[tuple[str | None, AnyDevice, int | None, int | None]],
        isolate: bool,
    ) -> None:
        self.config = config
        self.isolate = isolate
        #: what a start plugs in
        self.wanted = [Wanted(*one) for one in devices]
        #: what the machine is called in views and messages
        self.name = config.name
        self.session: Session | None = None
        #: the session that is being begun: code of a device may keep it
        self.arriving: Session | None = None
        #: ends the session: called by `close`, when nobody holds this any more, and at exit
        self.finalizer: Callable[[], object] | None = None
        #: held by who begins or ends the session
        self.lock = threading.RLock()
        #: notified when the state is another one
        self.changed = threading.Condition()
        self._state = State("created")
        self.observation = Observation(config.cpus)
        self.copies = Copies(self)
        #: by the monotonic clock
        self.started: float | None = None
        self._ended: float | None = None
        self.fault_shown = False
        #: what has been done since about the device that failed: "replaced", "removed"
        self._fault_cured = ""
        #: calls of devices' code that do not return, and when that was told
        self._busy: list[tuple[BusyCall, float]] = []
        self.log = DeviceLog()
        #: of breakpoints, in Python
        self.conditions = Conditions(_weakly(self._on_decided))
        self._spout = Spout()
        #: when the machine was first built, by the monotonic clock
        self._built: float | None = None
        self.engine = config.engine
        self.engine_reason = ""
        self.linux = False
        self.console = self._new_console(self._send)
        #: (device, port) -> its console; ("", 0) is the serial port
        self.consoles_by_place = {("", 0): self.console}

    @property
    def state(self) -> State:
        """ "created", "running", "paused", "stopped" or "crashed"; `.reason` says why, `.busy` which
        device keeps it."""
        busy = self._busy_words()
        return self._state.with_busy(busy) if busy else self._state

    def stuck(self) -> str:
        """What does not return of the devices' code, with the stack of each; "" when all of it does.

        busy in looper0.spin_here, reading A, for 3 s
        Stack (most recent call last):
          File ..."""
        now = time.monotonic()
        return "\n".join(f"{_aged(call, now - at)}\n{call.stack}" for call, at in self._busy)

    def _busy_words(self) -> str:
        for call, at in self._busy[:1]:
            return str(_aged(call, time.monotonic() - at))
        return ""

    @property
    def exit(self) -> Exit | None:
        """Why the machine ended; None while it has not."""
        return self._state.exit

    @property
    def pid(self) -> int | None:
        """The monitor process."""
        return self.session.pid if self.session is not None else None

    @property
    def uptime(self) -> float:
        """Seconds since `start`, up to the machine's end."""
        end = self._ended or time.monotonic()
        return max(end - self.started, 0.0) if self.started is not None else 0.0

    # --- the session ----------------------------------------------------------------------------

    def up(self) -> Session:
        """The session, begun if need be."""
        with self.lock:
            if self.session is not None:
                return self.session
            if self._state != "created":
                raise StateError(
                    f"the machine is {self._state} ({self._state.reason}); start() it again"
                )
            self._built = self._built or time.monotonic()
            session: Session
            if self.isolate:
                # here: it needs much of the standard library that a machine in-process does not
                from vmlab.monitor.session import MonitorSession

                session = MonitorSession(
                    *(self.config.memory, _weakly(self._on_event), _weakly(self._on_lost)),
                    self.config.arch,
                )
            else:
                session = LocalSession(
                    self.config.memory, _weakly(self._on_event), self.config.arch
                )
            self.arriving = session
            try:
                first = [one for one in self.wanted if one.parcel is None]
                sent = [self._as_sent(session, one) for one in first]
                built = session.call(wire.Build(self.config, sent))
            except MonitorLost as error:
                session.close(stuck=True)
                raise EngineError(f"the machine could not be built: {error}") from None
            except BaseException:
                session.close()
                raise
            finally:
                self.arriving = None
            self.session = session
            for id, one, command in zip(built.ids, first, sent, strict=True):
                self.copies.sent(id, one.device, command.device)
            self.finalizer = weakref.finalize(self, session.close)
            self.engine, self.engine_reason = built.engine, built.reason
            self.linux = built.linux
            self.observation.begin(session, built.devices)
            again = [one for one in self.wanted if one.parcel is not None]
            self.wanted = [
                self.placed(one._replace(id=id)) for one, id in zip(first, built.ids, strict=True)
            ]
            if self.isolate and self.engine == "soft":
                tell = _weakly(self._on_write)
                session.memory.on_write = lambda address, size: tell((address, size))
            for one in again:
                self._plug_again(session, one)
            return session

    def _on_write(self, what: tuple[int, int]) -> None:
        """It may be code, which the software engine has translated in its own process."""
        session = self.session
        if session is None or self._state != "running":
            return
        # from a listener on the session's own thread it cannot be told; nor is it needed by what has ended
        with contextlib.suppress(VmlabError):
            session.call(wire.Wrote(*what))

    def _as_sent(self, session: Session, one: Wanted) -> wire.HotAdd:
        # a machine in this process is given the object itself
        parcel = one.parcel if self.isolate else None
        return wire.HotAdd(parcel or session.parcel(one.device), one.id, one.at, one.irq)

    def placed(self, one: Wanted) -> Wanted:
        """With the place that it has got, for the next start."""
        for entry in self.observation.directory():
            if entry.id == one.id:
                return one._replace(at=entry.base, irq=entry.irq)
        return one

    def _plug_again(self, session: Session, one: Wanted) -> None:
        """A device that came to the machine before this one: it is kept, or named."""
        command = self._as_sent(session, one)
        try:
            added = session.call(command).id
        except VmlabError as error:
            text = f"{one.id!r} was plugged into the machine before and is not in this one: {error}"
            warnings.warn(text, stacklevel=5)
        else:
            self.wanted.append(one)
            self.copies.sent(added, one.device, command.device)

    def call(
        self, command: wire.Command, fault: bool = True, timeout: float = COMMAND_TIMEOUT
    ) -> Any:
        """`fault`: a device's failure that nobody has seen yet is shown first."""
        session = self.up()
        if fault:
            self._show_fault()
        return session.call(command, timeout)

    def _show_fault(self) -> None:
        broken = self._state.fault
        if broken is not None and not self.fault_shown:
            self.fault_shown = True
            print(f"vmlab: the guest is paused: {broken.text}\n{broken.traceback}", file=sys.stderr)

    def _on_event(self, event: wire.Event) -> None:
        if isinstance(event, wire.Output):
            self.console_of(event.device, event.port).feed(event.data)
        elif isinstance(event, wire.Busy):
            self._set_busy(event.calls)
        elif isinstance(event, wire.State):
            if event.fault is not None:
                self.fault_shown, self._fault_cured = False, ""
                self._note(time.monotonic(), event.fault.device, "fault", _whole(event.fault))
            self.set_state(State(event.state, event.exit, event.fault, met=event.met))
        elif isinstance(event, wire.Asked):
            self.conditions.decide(event)
        else:
            for one in event.sayings:
                self._note(one.time, one.device, one.kind, one.text, event.lost)
                event.lost = 0
                if one.kind != "mistake":
                    self._spout.say(one.text, in_notebook())

    def _on_decided(self, decided: wire.Decided) -> None:
        session = self.session
        if session is not None:
            with contextlib.suppress(VmlabError):  # the machine may have ended meanwhile
                session.call(decided)

    def _note(self, stamp: float, device: str, kind: str, text: str, lost: int = 0) -> None:
        """Keep it in `log`; a blank line is none of an entry."""
        if text.strip("\n"):
            self.log.add(entry_of(self._built or stamp, stamp, device, kind, text), lost)

    def _on_lost(self, reason: str) -> None:
        self.set_state(State("crashed", Exit(LOST, 3, reason)))

    def _set_busy(self, calls: list[BusyCall]) -> None:
        now = time.monotonic()
        with self.changed:
            if self._state not in ENDED:
                self._busy = [(call, now) for call in calls]
            self.changed.notify_all()

    def set_state(self, state: State) -> None:
        with self.changed:
            self._state = state
            if state in ENDED:
                self._busy = []
                self._ended = self._ended or time.monotonic()
            else:
                self._ended = None
            self.changed.notify_all()
        for console in list(self.consoles_by_place.values()):
            console.wake()

    def why_silent(self, what_speaks: str = "console") -> BaseException | None:
        """Why the console, or what it is, will not say anything more, if so."""
        state = self._state
        if state.fault is not None:
            return self.fault_error(state.fault)
        if state == "running":
            return None
        if state.exit is not None and state.exit.reason == LOST:
            return MonitorLost(state.reason)
        why = f" ({state.reason})" if state.reason else ""
        what = "start" if state == "created" else "resume" if state == "paused" else ""
        hint = f"; {what}() it" if what else ""
        return StateError(f"the machine is {state}{why}: its {what_speaks} says nothing more{hint}")

    def _busy_told(self) -> tuple[str, str]:
        """(in words what keeps the machine, where that is)."""
        return self._busy_words(), self.stuck()

    def fault_error(self, fault: Fault) -> VmlabError:
        self.fault_shown = True
        if self._fault_cured:
            return StateError(
                f"the machine is paused since {fault.device!r} failed; {fault.device!r} has been"
                f" {self._fault_cured}; resume() it"
            )
        hint = ""
        if self.copies.has_changed(fault.device):
            hint = (
                f" (the machine has this device as it was when it was plugged in; what has changed here"
                f" since then, vm.replace({fault.device!r}) brings in)"
            )
        cure = (
            f"; the guest is paused at this access: replace({fault.device!r}, a corrected device), then"
            " resume() tries it again"
        )
        return DeviceFault(f"{fault.text}{hint}", fault.device, fault.traceback, cure)

    def cured(self, id: str, how: str) -> None:
        """The device is another one, or none."""
        fault = self._state.fault
        if fault is not None and fault.device == id:
            self._fault_cured = how

    def console_of(self, id: str, port: int) -> Console:
        # no lock: the reader's thread comes here while another holds the VM's and waits for it
        found = self.consoles_by_place.get((id, port))
        if found is None:
            fresh = self._new_console(lambda data: self._send_to(id, port, data))
            found = self.consoles_by_place.setdefault((id, port), fresh)
        return found

    def _new_console(self, send: Callable[[bytes], int]) -> Console:
        return Console(send, self.why_silent, self._busy_told)

    @property
    def consoles(self) -> Consoles:
        """id -> Console."""
        found = Consoles({self.config.platform.serial: self.console})
        for entry in self.entries_or_build():
            for port in range(entry.consoles):
                name = f"{entry.id}/{port}" if port else entry.id
                found[name] = self.console_of(entry.id, port)
        return found

    def _send(self, data: bytes) -> int:
        count: int = self.call(wire.Send(data)).count
        return count

    def _send_to(self, id: str, port: int, data: bytes) -> int:
        count: int = self.tell(id, "send", data, port)
        return count

    # --- what is plugged in ---------------------------------------------------------------------

    def entries_or_build(self) -> list[DeviceEntry]:
        """The directory; of a machine that was never started, too."""
        if self.session is None and self._state == "created":
            self.up()
        return self.observation.directory()

    def peek(self, id: str) -> Values:
        reply: wire.Peeked = self.call(wire.Peek(id))
        return Values(reply.registers, reply.attributes)

    def checklist(self, entry: DeviceEntry, queue: int | None) -> DriverSteps:
        if self.session is not None:
            self._show_fault()
        return self.observation.checklist(entry, queue)

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a command of the device in the machine."""
        command = wire.Tell(id, method, list(arguments), options)
        return self.call(command, fault=False).value

    def has_come(self, id: str, device: AnyDevice, parcel: bytes) -> None:
        """The device is in the machine as `id`, instead of what was there."""
        kept = [one for one in self.wanted if one.id != id]
        self.wanted = [*kept, self.placed(Wanted(id, device, parcel=parcel))]
        self.copies.sent(id, device, parcel)

    def has_left(self, id: str) -> None:
        self.wanted = [one for one in self.wanted if one.id != id]
        self.copies.back(id)

    # --- the end --------------------------------------------------------------------------------

    def end(self, at_last: Callable[[], None]) -> None:
        """Power off and free everything; what was counted stays in `observation`. at_last: called while the
        machine can still be asked. Idempotent."""
        with self._at_last():
            session = self.session
            if session is None:
                if self._state == "created":
                    self.set_state(STOPPED)
                return
            stuck = True
            with contextlib.suppress(VmlabError):
                stuck = bool(session.call(wire.Stop(), STOP_TIMEOUT).count)
                # in this process nothing would end the wait for a device that does not answer
                self.observation.remember_answers(
                    STOP_TIMEOUT, values=self.isolate, steps=self.isolate or not stuck
                )
                at_last()
            self.observation.end()
            self.session = None
            self.copies.all_back()
            if self.finalizer is not None:
                session.close(stuck)
                self.finalizer()
            if self._state not in ENDED:
                self.set_state(STOPPED)

    @contextlib.contextmanager
    def _at_last(self) -> Iterator[None]:
        """`lock`, also when another thread is in an `up` that code of a device keeps."""
        while not self.lock.acquire(timeout=LOOK):
            if (arriving := self.arriving) is not None:
                arriving.close(stuck=True)
        try:
            yield
        finally:
            self.lock.release()


def _aged(call: BusyCall, seconds: float) -> BusyCall:
    return structs.replace(call, seconds=call.seconds + seconds)


def _whole(fault: Fault) -> str:
    return f"{fault.text}\n{fault.traceback}" if fault.traceback else fault.text


def in_notebook() -> bool:
    """Whether a kernel runs us: what shows widgets talks to one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _weakly(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """`method`, as long as its object is held elsewhere: a session must not keep its VM alive."""
    found = weakref.WeakMethod(method)

    def call(argument: Any) -> None:
        alive = found()
        if alive is not None:
            alive(argument)

    return call
