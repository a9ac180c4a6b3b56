"""`VM`: what people hold."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from vmlab.core.cmdline import Cmdline
from vmlab.core.log import Log
from vmlab.core.memory import GuestMemory
from vmlab.core.units import show_size
from vmlab.errors import ConfigError, MonitorLost, StateError
from vmlab.linux.kernel import LinuxKernel
from vmlab.machine.config import ENDED, Exit, MachineConfig
from vmlab.monitor import wire
from vmlab.monitor.local import PAUSE_TIMEOUT
from vmlab.vm import breakpoints, display, stepping, waiting
from vmlab.vm.board import Board, Placed, base, everything
from vmlab.vm.breakpoints import Breakpoint, Breakpoints, Stopped
from vmlab.vm.conditions import Condition
from vmlab.vm.connection import Connection
from vmlab.vm.console import Console, Consoles
from vmlab.vm.copies import AnyDevice, check_devices
from vmlab.vm.device_log import DeviceLog
from vmlab.vm.gdb import Gdb
from vmlab.vm.gdb import serve as serve_gdb
from vmlab.vm.inspection import Inspection
from vmlab.vm.options import complete, file_of, firmware_of, memory_of, named
from vmlab.vm.plugging import TAKING, Plugging
from vmlab.vm.reruns import christen
from vmlab.vm.screen import Screen
from vmlab.vm.state import State
from vmlab.vm.stats import stats
from vmlab.vm.symbols import Symbols
from vmlab.vm.trace import Trace
from vmlab.vm.trace_event import filter_of
from vmlab.vm.views import AddressMap, Cpu, Devices, DeviceView, IrqTable, Traps, id_of

log = Log(__name__)

__all__ = ["VM", "Trace"]

#: instructions in one request of `step`, so that each is answered in time
STEPS = 10_000
#: seconds after which a wait wakes up for a look
WAIT = 0.5


class VM:
    """A virtual machine.

        vm = VM(kernel="monitor")
        with vm:
            vm.console.expect("vmlab> ")

    kernel: the name of a bundled kernel, the path of an image, or what `kernels.linux()` returns (as "linux"
    does): that brings its initrd, and a command line before `cmdline`. engine: "auto" (KVM where it works,
    else software), "kvm", "soft". memory: bytes, or "64M"; None: what the kernel is comfortable with.
    devices: what is plugged in from the start, in the order of their windows; a mapping gives them their ids,
    and `Placed(device, at=, irq=)` an address and a line.
    isolate: run the machine in a process of its own (False is for debugging: a busy notebook then slows the
    guest). debug_exit: whether the guest can end the machine, with a status (on a PC by port 0xf4). arch: the
    guest's architecture, "x86_64", "arm64", "riscv64" or "riscv32"; None: the one that the kernel is for.
    machine: the name of its board, one of that architecture's: "pc" of x86_64, "krun" (libkrun's numbers) of
    arm64, "virt" (QEMU's) or "krun" of riscv64; None: the first of them; or a `Board` of one's own.
    gic: the version of an arm64 machine's interrupt controller, 2 or 3; dtb: the file of a device tree in
    place of its own, to which memory, command line and initrd are added. screen: whether a PC has a text
    screen and a keyboard; None: if the kernel is multiboot or a plain ELF file. firmware: of
    a RISC-V machine, the file of one that runs below the kernel, such as OpenSBI's fw_dynamic or fw_jump;
    "none": the kernel is entered in M mode; "sbi": in S mode, and the machine answers its SBI calls; None: as
    the kernel's addresses say. name: what views and messages call
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
        devices: Sequence[AnyDevice | Placed] | Mapping[str, AnyDevice | Placed] = (),
        cmdline: str = "",
        initrd: str | os.PathLike[str] | None = None,
        isolate: bool = True,
        debug_exit: bool = True,
        arch: str | None = None,
        machine: str | Board | None = None,
        gic: int | None = None,
        dtb: str | os.PathLike[str] | None = None,
        screen: bool | None = None,
        firmware: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> None:
        board, arch, machine = base(machine, arch)
        guest = complete(kernel, initrd, cmdline, arch, machine)
        if memory is None and board is not None:
            memory = board.memory
        config = MachineConfig(
            kernel=guest.kernel,
            engine=engine,
            memory=memory_of(guest.usual if memory is None else memory),
            cpus=cpus,
            cmdline=guest.cmdline,
            initrd=file_of("initrd", guest.initrd),
            debug_exit=debug_exit,
            slots=guest.slots,
            arch=guest.arch,
            machine=guest.machine,
            board=(board.name or type(board).__name__) if board is not None else "",
            gic=gic,
            dtb=file_of("dtb", dtb),
            screen=screen,
            firmware=firmware_of(firmware),
        )
        config.check()
        Cmdline(text=guest.cmdline)
        for what, value in (("isolate", isolate), ("debug_exit", debug_exit)):
            if not isinstance(value, int):
                raise ConfigError(f"{what}={value!r:.60}: it is True or False")
        wanted = everything(board, named(devices))
        check_devices([one[1] for one in wanted])
        #: the session with the machine, and what is known of it: for what shows a VM, not for its users
        self.connection = Connection(config, wanted, isolate)
        self.inspection = Inspection(self.connection)
        self._plugging = Plugging(self.inspection)
        #: which run of a notebook's cell has made it, and the cell's text
        self.cell: tuple[int, str] = (-1, "")
        self._check_files()
        self.connection.name = christen(self, name, config.name)

    def _check_files(self) -> None:
        """Say now, not at `start`, that an image cannot be booted."""
        config = self.config
        warning = config.platform.check_files(config.kernel, config.initrd, config.memory)
        config.read_firmware()
        if config.dtb is not None:
            from vmlab.boot.image import read_tree  # only here: few machines have one

            read_tree(config.dtb)
        if warning:
            log.warning("%s: %s", config.kernel, warning)

    # --- what it is -----------------------------------------------------------------------------

    @property
    def config(self) -> MachineConfig:
        return self.connection.config

    @property
    def isolate(self) -> bool:
        """Whether the machine is in a process of its own."""
        return self.connection.isolate

    @property
    def name(self) -> str:
        """What it is called in views and messages."""
        return self.connection.name

    @property
    def engine(self) -> str:
        """What runs its CPUs: "kvm" or "soft"; what was asked for, before the machine is built."""
        return self.connection.engine

    @property
    def engine_reason(self) -> str:
        """Why that engine."""
        return self.connection.engine_reason

    @property
    def state(self) -> State:
        """ "created", "running", "paused", "stopped" or "crashed"; `.reason` says why, `.busy` which
        device keeps it."""
        return self.connection.state

    def stuck(self) -> str:
        """What does not return of the devices' code, with the stack of each; "" when all of it does.

        busy in looper0.spin_here, reading A, for 3 s
        Stack (most recent call last):
          File ..."""
        return self.connection.stuck()

    @property
    def exit(self) -> Exit | None:
        """Why the machine ended; None while it has not."""
        return self.connection.state.exit

    @property
    def pid(self) -> int | None:
        """The monitor process."""
        return self.connection.pid

    @property
    def uptime(self) -> float:
        """Seconds since `start`, up to the machine's end."""
        return self.connection.uptime

    @property
    def machine(self) -> str:
        """The name of its board: "pc", "krun", "virt", or that of a `Board` of one's own."""
        return self.config.board_name

    # --- life -----------------------------------------------------------------------------------

    def start(self, paused: bool = False) -> Self:
        """Power on. A machine that was stopped starts afresh. paused: before its first instruction, for
        `step` and `resume`."""
        connection = self.connection
        with connection.lock:
            if connection.state in ENDED:
                self.stop()
                connection.set_state(State("created"))
            session = connection.up()
            session.call(wire.Start(paused))
            connection.started = time.monotonic()
        return self

    def pause(self) -> None:
        """No vCPU executes any more when this returns. StateError within three seconds when code of a
        device does not return and keeps one: it says whose, and its notes have the stack."""
        try:
            self.connection.call(wire.Pause(), timeout=PAUSE_TIMEOUT)
        except (StateError, MonitorLost) as error:
            if stack := self.stuck():
                error.add_note(stack)
            raise

    def resume(self) -> None:
        """Go on. After a device's failure: try that access again."""
        self.connection.fault_shown = False
        self.connection.call(wire.Resume(), fault=False)

    def step(self, count: int = 1, cpu: int = 0) -> int:
        """Execute `count` instructions of a paused machine. Returns how many were executed: fewer when it
        ends, when a device fails, and when the CPU is halted and no interrupt waits."""
        if not all(isinstance(number, int) for number in (count, cpu)):
            raise ConfigError(f"step({count!r:.40}, cpu={cpu!r:.40}): both are whole numbers")
        total = 0
        while True:
            part = min(count - total, STEPS)
            done: int = self.connection.call(wire.Step(cpu, part)).count
            total += done
            if done < part or total >= count:
                return total

    def reset(self) -> None:
        """The reset button: the kernel starts anew, devices stay plugged in."""
        self.connection.call(wire.Reset(), fault=False)

    def stop(self) -> None:
        """Power off and free everything. What was counted can still be read. Idempotent."""
        self.connection.end(at_last=self.inspection.stop_trace)

    def shutdown(self, timeout: float = 30) -> Exit:
        """Press the power button, to which a Linux listens, and wait until the guest has switched itself off.
        StateError when it does not within `timeout` seconds, or its machine has no button."""
        buttons = self.config.platform.buttons
        if not buttons:
            raise StateError("this machine has no power button; stop() switches it off")
        for button in buttons:
            self.tell(button, "press")
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
        connection = self.connection
        if connection.state == "created":
            raise StateError("the machine is created, not started: start() it")

        def wanted() -> bool:
            return until is not None and until()

        def over() -> bool:
            state = connection.state
            return wanted() or state in ENDED or state.fault is not None

        end = time.monotonic() + timeout if timeout is not None else float("inf")
        with connection.changed:
            # in parts: Python handles a signal that came just before it began to wait when it wakes up
            while not connection.changed.wait_for(over, min(end - time.monotonic(), WAIT)):
                if time.monotonic() >= end:
                    break
        state = connection.state
        if state.fault is not None and not wanted():
            raise connection.fault_error(state.fault)
        return state.exit

    def stop_waiting(self) -> None:
        """Make `wait` ask its `until` again."""
        with self.connection.changed:
            self.connection.changed.notify_all()

    def __enter__(self) -> Self:
        if self.pid is None or self.state == "created":
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
        device each), and then one of 17 to 23 (levels, shared); a device that uses none gets none. On
        RISC-V at and irq may be any that are free.
        The device travels there, with its class and what that uses: `device` is a copy from then on. A Linux
        that runs is given up to `wait` seconds to bind its driver: a command that follows finds the device.
        """
        return self._plugging.add(device, id, at, irq, wait)

    def hot_remove(self, id: str, force: bool = False) -> None:
        """Unplug the device; its window and line are free again. force: under the guest, and out of code
        of the device that does not return."""
        self._plugging.remove(id_of(id, "hot_remove"), force)

    def replace(self, id: str, device: AnyDevice | None = None, force: bool = False) -> DeviceView:
        """Put `device` in the place of the one called `id`: same window, same line.

        A device is copied into the machine with its class and with what that uses of your globals and
        functions; what you change here afterwards, the machine does not see until you replace the device.
        Without `device`: the object that was plugged in, with the values that it had then, as its newest
        class and today's globals make it. ConfigError when nothing of that is newer.
        force: also when the old one's code does not return (it is left in the middle), and when a guest has
        not let it go."""
        return self._plugging.replace(id_of(id, "replace"), device, force)

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a method of the device in the machine, one that its class marks with `command`;
        `vm.devices[id].method(...)` does the same."""
        return self.connection.tell(id_of(id, "tell"), method, *arguments, **options)

    # --- stopping -------------------------------------------------------------------------------

    @property
    def breakpoints(self) -> Breakpoints:
        """All there are, gdb's included."""
        return Breakpoints(self.connection)

    def break_at(
        self,
        address: int | str,
        *,
        when: Condition | None = None,
        count: int = 1,
        once: bool = False,
    ) -> Breakpoint:
        """Stop before the instruction at `address`, as the program counter has it, or at a symbol.

        when: a function of the event, in this process; the guest waits for it. It has a second: one that
        raises, or does not return, is taken off, `vm.log` says so, and the guest is paused. count: stop from
        the count-th hit on. once: delete it after it has stopped the guest. Any number in software. KVM has
        four in hardware, then INT3 where that works, then single-stepping, which is slow: `.how` says which.
        """
        spec = breakpoints.code_spec(address, self._symbol, count, once)
        return self.breakpoints.add(spec, when)

    def break_on(
        self,
        place: str | int | range,
        *,
        size: int = 1,
        read: bool = False,
        write: bool = True,
        value: int | None = None,
        when: Condition | None = None,
        count: int = 1,
        once: bool = False,
    ) -> Breakpoint:
        """Stop at an access to a device's register ("disk0.QueueNotify"), to any of its registers ("disk0"),
        to a port (0x3f8) or to I/O space (an address, with `size`, or a range), where nothing is as well.

        The guest stops inside the access, before the device sees it; resuming performs it, once, and it is
        counted once. value: only writes of that value. when, count, once: as `break_at`'s. While a breakpoint
        is on a device, its notifications trap instead of ringing a doorbell."""
        return self.breakpoints.access(place, size, read, write, value, when, count, once)

    def break_on_memory(
        self,
        address: int | str,
        size: int = 1,
        *,
        read: bool = False,
        write: bool = True,
        value: int | None = None,
        when: Condition | None = None,
        count: int = 1,
        once: bool = False,
    ) -> Breakpoint:
        """Stop after an instruction that touches guest memory: `size` bytes at a virtual address, by the page
        tables of the first CPU as they are now, or at a symbol. In software every load and store of the guest
        is slower while there is one; KVM has four, of 1, 2, 4 or 8 aligned bytes, shared with `break_at`."""
        spec = breakpoints.memory_spec(address, size, self._symbol, read, write, value, count, once)
        return self.breakpoints.add(spec, when)

    def break_on_irq(
        self, line: int, *, when: Condition | None = None, count: int = 1, once: bool = False
    ) -> Breakpoint:
        """Stop when an interrupt line rises: as soon as the CPUs can be stopped after that."""
        return self.breakpoints.add(breakpoints.irq_spec(line, count, once), when)

    def step_over(self, cpu: int = 0, timeout: float = 5) -> None:
        """One instruction of a paused machine; of a call, all that is called. ExpectTimeout, and the machine
        is paused where it is, when that does not return within `timeout` seconds."""
        stepping.over(self, cpu, timeout)

    def step_out(self, cpu: int = 0, timeout: float = 5) -> None:
        """Go on until the present function has returned to its caller; as `backtrace` finds that one."""
        stepping.out(self, cpu, timeout)

    def run_to(self, address: int | str, timeout: float = 5) -> Stopped:
        """Go on to the instruction at `address`, or at a symbol, or to a breakpoint before it."""
        at = self._symbol(address) if isinstance(address, str) else address
        return stepping.to(self, at, timeout)

    def wait_for_break(self, timeout: float | None = 5) -> Stopped:
        """Until the guest stands at a breakpoint -> .breakpoint, .event, .cpu. ExpectTimeout when it does not
        within `timeout` seconds; StateError when the machine ends, or is paused for another reason."""
        return breakpoints.wait_for_break(self.connection, timeout)

    def gdb(self, port: int = 0) -> Gdb:
        """Serve gdb, or an editor that speaks its protocol, on the loopback interface: `target remote
        ADDRESS`. port 0: any that is free. The guest stands still while gdb looks; when gdb is gone its
        breakpoints are, and the guest goes on. ConfigError when the port is taken."""
        return serve_gdb(self.connection, port)

    def _symbol(self, name: str) -> int:
        """A symbol's address, from the symbols that are loaded."""
        symbols = self.inspection.symbols
        if symbols is None:
            raise ConfigError(
                f"{name!r}: the image has no symbols; vm.load_symbols(path) gives some, or give an address"
            )
        return symbols.address_of(name)

    # --- what is to be seen ---------------------------------------------------------------------

    @property
    def console(self) -> Console:
        """The serial port."""
        return self.connection.console

    @property
    def consoles(self) -> Consoles:
        """id -> Console: "com1" (on arm64 "serial") is the serial port, `console`; of a device with several
        ports, those but the first are "console0/1", "console0/2"..."""
        return self.connection.consoles

    @property
    def screen(self) -> Screen:
        """The text screen of a PC, and the keyboard before it: `.text`, `.expect`, `.type`, `.press`."""
        return Screen(self.connection)

    @property
    def log(self) -> DeviceLog:
        """What devices printed, what guests did wrong and what failed: the last 2,000 entries."""
        return self.connection.log

    @property
    def devices(self) -> Devices:
        """id -> DeviceView, by address."""
        return self.inspection.devices

    @property
    def traps(self) -> Traps:
        """A snapshot of every count; reading it costs the guest nothing."""
        return self.inspection.traps

    @property
    def irqs(self) -> IrqTable:
        """The interrupt lines that a device holds."""
        return self.inspection.irqs

    @property
    def address_map(self) -> AddressMap:
        """Every range of the guest's physical space, RAM and holes included, by address."""
        return self.inspection.address_map

    @property
    def memory(self) -> GuestMemory:
        """The guest's RAM: shared, so `view` is no copy."""
        return self.inspection.memory

    @property
    def cpus(self) -> list[Cpu]:
        return self.inspection.cpus

    @property
    def exits(self) -> dict[str, int]:
        """How often a vCPU left the guest, by kind."""
        return self.inspection.exits

    @property
    def unmapped(self) -> dict[tuple[str, int | None], tuple[int, int]]:
        """(space, address) -> (reads, writes) of accesses that hit nothing; an address of None gathers
        those past the first 4,096."""
        return self.inspection.unmapped

    def trace(
        self,
        last: int = 10_000,
        device: str | Iterable[str] | None = None,
        kinds: str | Iterable[str] | None = None,
        register: str | Iterable[str] | None = None,
        cpu: int | Iterable[int] | None = None,
    ) -> Trace:
        """Begin an event log; the newest `last` events are kept, of all devices, kinds, registers and CPUs or
        of those that are named. Kinds are in `vmlab.core.trace.KINDS`; "access", "irq", "console" and
        "hotplug" stand for several. DeviceNotFound, UnknownName or ConfigError for one that there is not.

        with vm.trace(device="disk0", kinds=("access", "irq")) as log:
            vm.console.run("blk read 0")
        print(log)
        """
        return self.inspection.trace(last, filter_of(device, kinds, register, cpu))

    def load_symbols(self, path: str | Path, at: int | None = None) -> Symbols:
        """Name the guest's code by another file than its image, in logs too that are there: an ELF file with
        symbols (lines too,
        from DWARF) or a System.map. at: where the file's lowest address lies in the guest, when that is not
        where it was linked. ConfigError when it has no symbols, or cannot be read."""
        return self.inspection.load_symbols(path, at)

    def stats(self) -> dict[str, Any]:
        """Everything that `--stats` writes."""
        return stats(self.inspection)

    lab = display.lab
    controls_view = display.controls_view
    map_view = display.map_view
    irq_view = display.irq_view
    trap_view = display.trap_view
    regs_view = display.regs_view
    console_view = display.console_view
    screen_view = display.screen_view
    log_view = display.log_view
    hotplug_view = display.hotplug_view
    plot_map = display.plot_map
    plot_traps = display.plot_traps
    plot_irqs = display.plot_irqs
    plot_timeline = display.plot_timeline
    _repr_mimebundle_ = display.mimebundle

    # --- waiting; while one of the first two is awaited, the notebook's other tasks go on ----------

    async def wait_for(self, pattern: str | re.Pattern[str], timeout: float = 5) -> re.Match[str]:
        """`await vm.wait_for("text")`: as `vm.console.expect`, errors included."""
        return await waiting.wait_for(self.console, pattern, timeout)

    async def until(self, condition: Callable[[Self], Any], timeout: float = 5) -> Any:
        """`await vm.until(lambda v: v.traps["rng0"].reads > 10)`: the first true value of
        `condition(vm)`. ExpectTimeout, with the last value, after `timeout` seconds."""
        return await waiting.until(self._looks(condition, timeout))

    def wait_until(self, condition: Callable[[Self], Any], timeout: float = 5) -> Any:
        """The blocking form of `until`."""
        return waiting.wait_until(self._looks(condition, timeout))

    def _looks(self, condition: Callable[[Self], Any], timeout: float) -> waiting.Looks:
        return waiting.looks_of(condition, self, timeout, lambda: self.state.busy)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a VM stays in its process; of its machine a device has self.clock, self.memory and self.irq"
        )

    def __repr__(self) -> str:
        state = self.state
        why = f", {state.reason}" if state.reason else ""
        return (
            f"<VM {self.name}: {state!s}{why}; {self.config.arch} {self.machine}, {self.engine},"
            f" {show_size(self.config.memory)}, {self.config.cpus} cpu{'s' if self.config.cpus > 1 else ''}>"
        )
