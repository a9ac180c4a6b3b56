"""`VM`: what people hold.

What only a machine needs is loaded with the first one, not by who imports this."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

from vmlab.errors import ConfigError
from vmlab.vm import display, lifecycle, stopping, waiting
from vmlab.vm.waiting import TAKING

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from vmlab.core.memory import GuestMemory
    from vmlab.linux.kernel import LinuxKernel
    from vmlab.machine.config import Exit, MachineConfig
    from vmlab.vm.board import Board, Placed
    from vmlab.vm.breakpoints import Breakpoints
    from vmlab.vm.console import Console, Consoles
    from vmlab.vm.copies import AnyDevice
    from vmlab.vm.device_log import DeviceLog
    from vmlab.vm.screen import Screen
    from vmlab.vm.state import State
    from vmlab.vm.symbols import Symbols
    from vmlab.vm.trace import Trace
    from vmlab.vm.views import AddressMap, Cpu, Devices, DeviceView, IrqTable, Traps

__all__ = ["VM"]


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
        from vmlab.core.lean import load_msgspec

        load_msgspec()
        from vmlab.machine.config import MachineConfig
        from vmlab.vm import options
        from vmlab.vm.board import base, everything
        from vmlab.vm.connection import Connection
        from vmlab.vm.copies import check_devices
        from vmlab.vm.inspection import Inspection
        from vmlab.vm.plugging import Plugging
        from vmlab.vm.reruns import christen

        board, arch, machine = base(machine, arch)
        guest = options.complete(kernel, initrd, cmdline, arch, machine)
        if memory is None and board is not None:
            memory = board.memory
        config = MachineConfig(
            kernel=guest.kernel,
            engine=engine,
            memory=options.memory_of(guest.usual if memory is None else memory),
            cpus=cpus,
            cmdline=guest.cmdline,
            initrd=options.file_of("initrd", guest.initrd),
            debug_exit=debug_exit,
            slots=guest.slots,
            arch=guest.arch,
            machine=guest.machine,
            board=(board.name or type(board).__name__) if board is not None else "",
            gic=gic,
            dtb=options.file_of("dtb", dtb),
            screen=screen,
            firmware=options.firmware_of(firmware),
        )
        config.check()
        for what, value in (("isolate", isolate), ("debug_exit", debug_exit)):
            if not isinstance(value, int):
                raise ConfigError(f"{what}={value!r:.60}: it is True or False")
        wanted = everything(board, options.named(devices))
        check_devices([one[1] for one in wanted])
        #: the session with the machine, and what is known of it: for what shows a VM, not for its users
        self.connection = Connection(config, wanted, isolate)
        self.inspection = Inspection(self.connection)
        self._plugging = Plugging(self.inspection)
        #: which run of a notebook's cell has made it, and the cell's text
        self.cell: tuple[int, str] = (-1, "")
        options.check_files(config)
        self.connection.name = christen(self, name, config.name)

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

    start = lifecycle.start
    pause = lifecycle.pause
    resume = lifecycle.resume
    step = lifecycle.step
    reset = lifecycle.reset
    stop = lifecycle.stop
    shutdown = lifecycle.shutdown
    wait = lifecycle.wait
    stop_waiting = lifecycle.stop_waiting

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
        self._plugging.remove(id, force)

    def replace(self, id: str, device: AnyDevice | None = None, force: bool = False) -> DeviceView:
        """Put `device` in the place of the one called `id`: same window, same line.

        A device is copied into the machine with its class and with what that uses of your globals and
        functions; what you change here afterwards, the machine does not see until you replace the device.
        Without `device`: the object that was plugged in, with the values that it had then, as its newest
        class and today's globals make it. ConfigError when nothing of that is newer.
        force: also when the old one's code does not return (it is left in the middle), and when a guest has
        not let it go."""
        return self._plugging.replace(id, device, force)

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a method of the device in the machine, one that its class marks with `command`;
        `vm.devices[id].method(...)` does the same."""
        return self._plugging.tell(id, method, *arguments, **options)

    # --- stopping -------------------------------------------------------------------------------

    @property
    def breakpoints(self) -> Breakpoints:
        """All there are, gdb's included."""
        return stopping.breakpoints(self)

    break_at = stopping.break_at
    break_on = stopping.break_on
    break_on_memory = stopping.break_on_memory
    break_on_irq = stopping.break_on_irq
    step_over = stopping.step_over
    step_out = stopping.step_out
    run_to = stopping.run_to
    wait_for_break = stopping.wait_for_break
    gdb = stopping.gdb

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
        from vmlab.vm.screen import Screen

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
        return self.inspection.trace(last, device, kinds, register, cpu)

    def load_symbols(self, path: str | Path, at: int | None = None) -> Symbols:
        """Name the guest's code by another file than its image, in logs too that are there: an ELF file with
        symbols (lines too, from DWARF) or a System.map. at: where the file's lowest address lies in the
        guest, when that is not where it was linked. ConfigError when it has no symbols, or cannot be read."""
        return self.inspection.load_symbols(path, at)

    def stats(self) -> dict[str, Any]:
        """Everything that `--stats` writes."""
        from vmlab.vm.stats import stats

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
        from vmlab.core.units import show_size

        state = self.state
        why = f", {state.reason}" if state.reason else ""
        return (
            f"<VM {self.name}: {state!s}{why}; {self.config.arch} {self.machine}, {self.engine},"
            f" {show_size(self.config.memory)}, {self.config.cpus} cpu{'s' if self.config.cpus > 1 else ''}>"
        )
