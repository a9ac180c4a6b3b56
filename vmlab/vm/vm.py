"""`VM`: what people hold."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from vmlab import kernels
from vmlab.core.away import place_of
from vmlab.core.cmdline import Cmdline
from vmlab.core.log import Log
from vmlab.core.units import parse_size, show_size
from vmlab.errors import ConfigError, ExpectTimeout, MonitorLost, StateError, VmlabError
from vmlab.linux.kernel import LinuxKernel
from vmlab.machine.config import Exit, MachineConfig
from vmlab.monitor import wire
from vmlab.monitor.local import PAUSE_TIMEOUT
from vmlab.virtio.device import VirtioDevice
from vmlab.vm.connection import Wanted
from vmlab.vm.copies import AnyDevice, check_device, check_devices, id_of
from vmlab.vm.display import Shown
from vmlab.vm.inspection import Seen
from vmlab.vm.reruns import christen
from vmlab.vm.trace import Trace
from vmlab.vm.views import DeviceView, State, gone
from vmlab.vm.waiting import Waiting

log = Log(__name__)

__all__ = ["VM", "Trace"]

#: seconds that a machine has for its end; a device's handler that does not return is left behind
STOP_TIMEOUT = 1.3
#: seconds that a running Linux has by default to take a device that comes
TAKING = 1.0
#: instructions in one request of `step`, so that each is answered in time
STEPS = 10_000
#: seconds after which a wait wakes up for a look
WAIT = 0.5
#: the least memory that a machine may have
MEBIBYTE = 1 << 20


class VM(Seen, Shown, Waiting):
    """A virtual machine.

        vm = VM(kernel="monitor")
        with vm:
            vm.console.expect("vmlab> ")

    kernel: the name of a bundled kernel, the path of an image, or what `kernels.linux()` returns (as
    "linux" does): that brings its initrd, and a command line before `cmdline`. engine: "auto" (KVM where
    it works, else software), "kvm", "soft". memory: bytes, or "64M"; None: what the kernel is comfortable
    with. devices: what is plugged in from the start, in the order of their windows; a mapping gives them
    their ids. isolate: run the machine in a process of its own (False is for debugging: a busy notebook
    then slows the guest). debug_exit: whether port 0xf4 ends the guest. name: what views and messages call
    it; else the kernel's name, with a number where another VM has that.

    In a notebook, a VM that takes the only variable of an earlier one (the cell is run again) stops that
    one, and says so.
    """

    def __init__(
        self,
        kernel: str | os.PathLike[str] | LinuxKernel = "monitor",
        *,
        engine: str = "auto",
        memory: str | int | None = None,
        cpus: int = 1,
        devices: Sequence[AnyDevice] | Mapping[str, AnyDevice] = (),
        cmdline: str = "",
        initrd: str | os.PathLike[str] | None = None,
        isolate: bool = True,
        debug_exit: bool = True,
        name: str | None = None,
    ) -> None:
        kernel, initrd, cmdline, usual, slots = _complete(kernel, initrd, cmdline)
        config = MachineConfig(
            kernel=str(kernels.find(kernel)),
            engine=engine,
            memory=_memory(usual if memory is None else memory),
            cpus=cpus,
            cmdline=cmdline,
            initrd=str(Path(initrd).absolute()) if initrd is not None else None,
            debug_exit=debug_exit,
            slots=slots,
        )
        config.check()
        Cmdline(text=cmdline)
        for what, value in (("isolate", isolate), ("debug_exit", debug_exit)):
            if not isinstance(value, int):
                raise ConfigError(f"{what}={value!r:.60}: it is True or False")
        wanted = _named(devices)
        check_devices([device for _, device in wanted])
        super().__init__(config, wanted, isolate)
        self._check_files()
        self.name = christen(self, name, config.name)

    def _check_files(self) -> None:
        """Say now, not at `start`, that an image cannot be booted."""
        from vmlab.boot.x86_64.load import check_files

        warning = check_files(self.config.kernel, self.config.initrd, self.config.memory)
        if warning:
            log.warning("%s: %s", self.config.kernel, warning)

    # --- life -----------------------------------------------------------------------------------

    def start(self, paused: bool = False) -> Self:
        """Power on. A machine that was stopped starts afresh. paused: before its first instruction, for
        `step` and `resume`."""
        with self._lock:
            if self._state in ("stopped", "crashed"):
                self.stop()
                self._set_state(State("created"))
            session = self._up()
            session.call(wire.Start(paused))
            self._started = time.monotonic()
        return self

    def pause(self) -> None:
        """No vCPU executes any more when this returns. StateError within three seconds when code of a
        device does not return and keeps one: it says whose, and its notes have the stack."""
        try:
            self._call(wire.Pause(), timeout=PAUSE_TIMEOUT)
        except (StateError, MonitorLost) as error:
            if stack := self.stuck():
                error.add_note(stack)
            raise

    def resume(self) -> None:
        """Go on. After a device's failure: try that access again."""
        self._fault_shown = False
        self._call(wire.Resume(), fault=False)

    def step(self, count: int = 1, cpu: int = 0) -> int:
        """Execute `count` instructions of a paused machine. Returns how many were executed: fewer when it
        ends, when a device fails, and when the CPU is halted and no interrupt waits."""
        if not all(isinstance(one, int) for one in (count, cpu)):
            raise ConfigError(f"step({count!r:.40}, cpu={cpu!r:.40}): both are whole numbers")
        total = 0
        while True:
            part = min(count - total, STEPS)
            done: int = self._call(wire.Step(cpu, part)).count
            total += done
            if done < part or total >= count:
                return total

    def reset(self) -> None:
        """The reset button: the kernel starts anew, devices stay plugged in."""
        self._call(wire.Reset(), fault=False)

    def stop(self) -> None:
        """Power off and free everything. What was counted can still be read. Idempotent."""
        with self._at_last():
            session = self._session
            if session is None:
                if self._state == "created":
                    self._set_state(State("stopped", Exit("stopped", 0, "stopped by the host")))
                return
            stuck = True
            with contextlib.suppress(VmlabError):
                stuck = bool(session.call(wire.Stop(), STOP_TIMEOUT).count)
                self._last["exits"] = self._exits(STOP_TIMEOUT)
                self._remember_values()
                if self._trace is not None:
                    self._trace.stop()
            with contextlib.suppress(VmlabError):  # views keep what was known; the machine ends
                self._remember()
            self._session, self._trace = None, None
            self._all_back()
            if self._finalizer is not None:
                session.close(stuck)
                self._finalizer()
            if self._state not in ("stopped", "crashed"):
                self._set_state(State("stopped", Exit("stopped", 0, "stopped by the host")))

    @contextlib.contextmanager
    def _at_last(self) -> Iterator[None]:
        """`_lock`, also when another thread is in a `start` that code of a device keeps."""
        while not self._lock.acquire(timeout=WAIT):
            if (arriving := self._arriving) is not None:
                arriving.close(stuck=True)
        try:
            yield
        finally:
            self._lock.release()

    def shutdown(self, timeout: float = 30) -> Exit:
        """Press the power button of a guest with ACPI, which Linux has, and wait until it has switched
        itself off. StateError when it does not within `timeout` seconds, or has no such button."""
        if "power" not in self.devices:
            raise StateError("this guest has no power button; stop() switches it off")
        self.tell("power", "press")
        ended = self.wait(timeout)
        if ended is None:
            raise StateError(
                f"the guest still runs {timeout:g} s after its power button was pressed; stop() ends it"
            )
        return ended

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

        def over() -> bool:
            ended = self._state in ("stopped", "crashed")
            return wanted() or ended or self._state.fault is not None

        end = time.monotonic() + timeout if timeout is not None else float("inf")
        with self._changed:
            # in parts: Python handles a signal that came just before it began to wait when it wakes up
            while not self._changed.wait_for(over, min(end - time.monotonic(), WAIT)):
                if time.monotonic() >= end:
                    break
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

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- devices --------------------------------------------------------------------------------

    def hot_add(
        self,
        device: AnyDevice,
        id: str | None = None,
        at: int | None = None,
        irq: int | None = None,
        *,
        wait: float = TAKING,
    ) -> DeviceView:
        """Plug a device into the machine, running or not; after a stop, `start` plugs it in again. at: the
        address of its window, else the first free one. irq: its line, else a free one of 5 to 15 (edges, one
        device each), and then one of 17 to 23 (levels, shared); a device that uses none gets none.
        The device travels there, with its class and what that uses: `device` is a copy from then on. A Linux
        that runs is given up to `wait` seconds to bind its driver: a command that follows finds the device.
        """
        check_device(device)
        _check_place(at, irq)
        session = self._up()
        linux = isinstance(device, VirtioDevice) and self._linux
        answers = self._answers() if linux else 0
        parcel = session.parcel(device)
        added = self._call(wire.HotAdd(parcel, id, at, irq)).id
        self._wanted.append(self._placed(Wanted(added, device, parcel=parcel)))
        self._sent(added, device, parcel)
        if linux:
            with contextlib.suppress(ExpectTimeout):
                self.wait_until(lambda _: self._taken(added, answers), wait)
        return self._view(added, device)

    def _view(self, id: str, device: AnyDevice) -> DeviceView:
        """Of the device that has just come; by now another thread may have taken it out again."""
        view = self.devices.get(id)
        if view is None:
            if self._session is not None and self._state not in ("stopped", "crashed"):
                self._wanted = [one for one in self._wanted if one.device is not device]
                self._back(id)
            view = gone(self._vm, id, device.type)
        return view

    def _answers(self) -> int:
        """How often Linux has said, by ACPI, that it has done with an event."""
        return self.traps["hotplug"].registers["OST"].writes

    def _taken(self, id: str, answers: int) -> bool:
        """Whether a driver has the device, and the guest is done with what that brings, such as nodes."""
        view = self.devices.get(id)
        if view is None or self._state != "running":
            return True
        done = bool(self.config.slots) or self._answers() > answers
        return done and view.state in ("driver_ok", "failed")

    def hot_remove(self, id: str, force: bool = False) -> None:
        """Unplug the device; its window and line are free again. force: under the guest, and out of code
        of the device that does not return."""
        id = id_of(id, "hot_remove")
        self._call(wire.HotRemove(id, force))
        self._cured(id, "removed")
        self._wanted = [one for one in self._wanted if one.id != id]
        self._back(id)
        for known in [one for one in list(self._consoles) if one[0] == id]:
            del self._consoles[known]

    def replace(self, id: str, device: AnyDevice | None = None, force: bool = False) -> DeviceView:
        """Put `device` in the place of the one called `id`: same window, same line.

        A device is copied into the machine with its class and with what that uses of your globals and
        functions; what you change here afterwards, the machine does not see until you replace the device.
        Without `device`: the object that was plugged in, with the values that it had then, as its newest
        class and today's globals make it. ConfigError when nothing of that is newer.
        force: also when the old one's code does not return (it is left in the middle), and when a guest has
        not let it go."""
        id = id_of(id, "replace")
        session = self._up()
        if device is None:
            device = self._newest(id)
        else:
            check_device(device)
        # one that is in the machine already goes as what it was before: two parcels of it are alike
        parcel = session.parcel(device if place_of(device) is None else copy.copy(device))
        self._call(wire.Replace(id, parcel, force), fault=False)
        self._cured(id, "replaced")
        kept = [one for one in self._wanted if one.id != id]
        self._wanted = [*kept, self._placed(Wanted(id, device, parcel=parcel))]
        self._sent(id, device, parcel)
        return self._view(id, device)

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a method of the device in the machine, one that its class marks with `command`;
        `vm.devices[id].method(...)` does the same."""
        command = wire.Tell(id_of(id, "tell"), method, list(arguments), options)
        return self._call(command, fault=False).value

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a VM stays in its process; of its machine a device has self.clock, self.memory and self.irq"
        )

    def __repr__(self) -> str:
        state = self.state
        why = f", {state.reason}" if state.reason else ""
        return (
            f"<VM {self.name}: {state!s}{why}; {self.engine}, {show_size(self.config.memory)},"
            f" {self.config.cpus} cpu{'s' if self.config.cpus > 1 else ''}>"
        )


def _memory(asked: str | int) -> int:
    """Bytes; a number that lacks its unit is asked for it."""
    size = parse_size(asked)
    if 0 < size < MEBIBYTE:
        number = size if isinstance(asked, int) else str(asked).strip()
        hint = f'; did you mean "{number}M"?' if str(number).isdigit() else ""
        raise ConfigError(f"memory={asked!r} is {size} bytes, too small: a PC needs 1 MiB{hint}")
    return size


def _named(
    devices: Sequence[AnyDevice] | Mapping[str, AnyDevice],
) -> list[tuple[str | None, AnyDevice]]:
    """(id or None, device) of each that is wanted."""
    if isinstance(devices, Mapping):
        return list(devices.items())
    asked: Any = devices
    if isinstance(asked, (str, bytes)) or not isinstance(asked, Iterable):
        raise ConfigError(f"devices={asked!r:.60}: give a list of them, devices=[...]")
    return [(None, device) for device in asked]


def _complete(
    kernel: str | os.PathLike[str] | LinuxKernel,
    initrd: str | os.PathLike[str] | None,
    cmdline: str,
) -> tuple[str | os.PathLike[str], str | os.PathLike[str] | None, str, str, int]:
    """Kernel, initrd, command line, usual memory and slots; a Linux brings its own."""
    if kernel == kernels.LINUX:
        kernel = kernels.linux()
    if not isinstance(kernel, LinuxKernel):
        return kernel, initrd, cmdline, "64M", 0
    line = f"{kernel.cmdline} {cmdline}".strip()
    return kernel.kernel, initrd or kernel.initrd, line, kernel.memory, kernel.slots


def _check_place(at: object, irq: object) -> None:
    for name, value, most in (("at", at, 1 << 64), ("irq", irq, 1 << 16)):
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < most:
            raise ConfigError(f"{name}={value!r}: it must be a whole number, 0 or more")
