"""The `vmlab` command."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vmlab import __version__, kernels
from vmlab.arch import DEFAULT
from vmlab.cli import trace
from vmlab.core.safely import named
from vmlab.errors import ConfigError, VmlabError

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["main", "parsers"]

#: architectures that there are machines of
ARCHES = ("x86_64", "arm64", "riscv64", "riscv32")
#: those with a Linux to fetch
LINUX_ARCHES = ARCHES[:3]
# exit statuses beside the guest's own
USAGE, CRASHED, TIMEOUT, INTERRUPTED = 2, 3, 124, 130
#: seconds after which a guest that says nothing is looked at
QUIET = 1.0
#: seconds that a machine has to stop, whatever its guest and its devices do
END = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Never a traceback for a mistake of the user's."""
    try:
        options = _parser().parse_args(arguments)
        status: int = options.action(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except VmlabError as error:
        return _say(str(error), USAGE)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # whoever read our output has gone; nothing is left to be said to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CRASHED
    except OSError as error:
        return _say(str(error), CRASHED)
    return status


def _say(text: str, status: int) -> int:
    """One line on stderr. A traceback that follows the first line is for those who debug in Python."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"vmlab: {text.splitlines()[0] if text else ''}", file=sys.stderr, flush=True)
    return status


class _Parser(argparse.ArgumentParser):
    """One line for a usage error, with where to read more."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"vmlab: {' '.join(message.splitlines())} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vmlab", description="A virtual machine that you can see through.")
    parser.add_argument("--version", action="version", version=f"vmlab {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="run a guest; its console is this terminal (Ctrl-A x leaves)",
        description="Run a guest. Its console is this terminal; Ctrl-A x leaves. Exit status: the guest's;"
        " 2 usage, 3 the guest crashed, 124 timeout.",
    )
    run.add_argument(
        "kernel", metavar="KERNEL", help="a bundled kernel's name, linux, or an image's path"
    )
    run.add_argument("--engine", choices=("auto", "kvm", "soft"), default="auto")
    run.add_argument(
        "--arch",
        choices=ARCHES,
        help="the guest's; unless said, what the kernel is for, and x86_64 for a bundled one",
    )
    run.add_argument(
        "--machine",
        metavar="NAME",
        help="its board: pc (x86_64), krun (arm64, riscv64), virt (RISC-V); unless said, the usual one",
    )
    run.add_argument(
        "--memory",
        metavar="SIZE",
        help="guest memory, such as 64M or 1G; unless said, 64M (RISC-V: 128M), or 256M for linux",
    )
    run.add_argument("--cpus", metavar="N", type=int, default=1)
    run.add_argument(
        "--gic",
        choices=(2, 3),
        type=int,
        help="arm64: version of the interrupt controller",
    )
    run.add_argument("--dtb", metavar="FILE", help="arm64: a device tree in place of its own")
    run.add_argument(
        "--firmware",
        metavar="FILE",
        help="RISC-V: what runs below the kernel in M mode, such as OpenSBI's fw_dynamic.bin; none: the"
        " kernel itself; sbi: vmlab's own; unless said, as the kernel's addresses say",
    )
    run.add_argument(
        "--device",
        metavar="SPEC",
        action="append",
        default=[],
        help="plug in a device: NAME[,option=value...]; repeatable",
    )
    run.add_argument("--initrd", metavar="FILE")
    run.add_argument("--cmdline", metavar="TEXT", default="", help="the kernel's command line")
    run.add_argument(
        "--debug-exit",
        action="store_true",
        help="a port at 0xf4 where a write of v ends the run with status (v << 1) | 1; bundled kernels"
        " have it without being asked",
    )
    run.add_argument("--timeout", metavar="SECONDS", type=_seconds)
    run.add_argument("--stats", metavar="FILE", help="write counts as JSON; - is standard output")
    run.add_argument(
        "--trace",
        metavar="FILE",
        help="write an event log: accesses, interrupts, console, devices; vmlab trace shows it",
    )
    run.add_argument(
        "--checklist",
        action="store_true",
        help="at the end, say on standard error how far the guest's drivers of virtio devices came",
    )
    run.add_argument(
        "--gdb",
        metavar="[:]PORT",
        type=_port,
        help="serve gdb at that port of this host, 0 for any, and wait at the first instruction until gdb"
        " lets the guest go on (target remote :PORT, continue)",
    )
    shown = run.add_mutually_exclusive_group()
    shown.add_argument("--live", action="store_true", help="show the machine while it runs")
    shown.add_argument(
        "--screen",
        action="store_true",
        help="a PC's text screen, and its keyboard, in place of the serial console",
    )
    run.add_argument(
        "--isolate",
        action="store_true",
        help="the machine in a process of its own, as in a notebook (--live does so)",
    )
    run.set_defaults(action=_run)
    demo = commands.add_parser("demo", help="watch a guest for some seconds")
    demo.add_argument("--engine", choices=("auto", "kvm", "soft"), default="auto")
    demo.add_argument("--seconds", metavar="N", type=_seconds, default=12.0)
    demo.set_defaults(action=_demo)
    commands.add_parser("doctor", help="what this host can do, and how to change it").set_defaults(
        action=_doctor
    )
    fetch = commands.add_parser(
        "fetch",
        help="get a Linux kernel and a small system for it, without root",
        description="Get a Linux kernel and busybox into the cache, check them and say where they came from.",
    )
    fetch.add_argument("what", choices=("linux",))
    fetch.add_argument(
        "--source",
        default="debian",
        metavar="SOURCE",
        help="debian (debian-trixie: that release), krun; default: %(default)s",
    )
    fetch.add_argument(
        "--arch",
        choices=LINUX_ARCHES,
        default=DEFAULT,
        help="the guest's; default: %(default)s",
    )
    fetch.set_defaults(action=_fetch)
    trace.add_parser(commands)
    listing = commands.add_parser("kernels", help="the bundled guest kernels")
    listing.add_argument(
        "--arch",
        choices=kernels.arches(),
        default=DEFAULT,
        help="the guest's; default: %(default)s",
    )
    listing.set_defaults(action=_kernels)
    return parser


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's, by what is typed: what the documentation prints."""
    return _with_parts("vmlab", _parser())


def _with_parts(name: str, parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for word, each in action.choices.items():
                found |= _with_parts(f"{name} {word}", each)
    return found


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


_seconds.__name__ = "number of seconds"


def _port(text: str) -> int:
    value = int(text.removeprefix("localhost").removeprefix(":"))
    if not 0 <= value <= 0xFFFF:
        raise ValueError(text)
    return value


_port.__name__ = "port"


# --- run ------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    vm = _machine(options)
    try:
        if options.stats is not None:
            _check_stats(options.stats)
        if options.screen and options.gdb is not None:
            raise ConfigError("--gdb and --screen: gdb's words need the terminal; choose one")
        log = trace.begin(vm, options.trace) if options.trace is not None else None
        began = time.monotonic()
        if options.screen:
            finished = _attach_screen(vm, options.timeout)
        else:
            finished = _attach(vm, options.timeout, options.live, options.gdb)
        status = _verdict(vm, finished, options.timeout, time.monotonic() - began)
        if log is not None:
            log.fetch()  # while the machine is there
    finally:
        ended = _end(vm)
    if log is not None:
        _tell(trace.finish(log, options.trace))
    if options.checklist:
        _write_checklists(vm)
    if options.stats is not None:
        if not ended:
            return _say("the machine does not answer: there are no counts to write", CRASHED)
        _write_stats(vm, options.stats)
    return status


def _end(vm: VM) -> bool:
    """Stop the machine, or leave it behind: `entry` ends what is left of it with this process."""
    ending = threading.Thread(target=vm.stop, name="vmlab-end", daemon=True)
    ending.start()
    ending.join(END)
    if ending.is_alive() and vm.pid not in (None, os.getpid()):
        os.kill(vm.pid, signal.SIGKILL)  # it is ours, and has not been waited for
        ending.join(END)
    return not ending.is_alive()


def _machine(options: argparse.Namespace) -> VM:
    from vmlab.vm import VM

    vm = VM(
        options.kernel,
        engine=options.engine,
        arch=options.arch,
        machine=options.machine,
        gic=options.gic,
        dtb=options.dtb,
        firmware=options.firmware,
        memory=options.memory,
        cpus=options.cpus,
        cmdline=options.cmdline,
        initrd=options.initrd,
        debug_exit=options.debug_exit or kernels.is_bundled(options.kernel),
        screen=True if options.screen else None,
        # the terminal needs little of this interpreter; drawing the live view needs much
        isolate=options.isolate or options.live or options.screen,
    )
    try:
        _plug(vm, options.device)
    except BaseException:
        vm.stop()
        raise
    return vm


def _plug(vm: VM, specs: list[str]) -> None:
    if specs:
        from vmlab.catalogue import make

        for spec in specs:
            vm.hot_add(*make(spec))


def _attach(vm: VM, timeout: float | None, live: bool, gdb: int | None) -> bool | None:
    """The terminal is the console. True: the guest ended; False: time is up; None: the user left."""
    from vmlab.vm.terminal import attached

    with attached(vm.console, vm.stop_waiting, show=not live) as (keyboard, printer):

        def over() -> bool:
            return keyboard.left or printer.error is not None

        vm.start(paused=gdb is not None)
        if gdb is not None:
            port = vm.gdb(gdb).port
            _tell(f"the guest waits for gdb: target remote :{port}")
        keyboard.begin()
        if live:
            from vmlab.cli.live import watch

            finished = watch(vm, timeout, over, keys=" · Ctrl-A x leaves")
        else:
            finished = _wait(vm, timeout, over)
    if printer.error is not None:
        raise printer.error
    return None if keyboard.left else finished


def _wait(vm: VM, timeout: float | None, over: Callable[[], bool]) -> bool:
    """Until the guest ends, or `over()`; True when it has ended. What nobody sees of it is told."""
    from vmlab.cli.unseen import Unseen

    unseen = Unseen(vm, lambda words: _say(words, 0))
    first = QUIET if timeout is None else min(QUIET, timeout)
    finished = False
    for seconds in (first, None if timeout is None else timeout - first):
        ended = vm.wait(seconds, until=lambda: over() or vm.state.fault is not None)
        finished = ended is not None or vm.state.fault is not None
        unseen.look()
        if finished or over():
            break
    return finished


def _attach_screen(vm: VM, timeout: float | None) -> bool | None:
    """The same with the text screen. What it showed last stays in the terminal."""
    from vmlab.cli import screen
    from vmlab.vm.terminal import attached

    with attached(screen.Keys(vm), vm.stop_waiting, show=False) as (keyboard, printer):
        vm.start()
        keyboard.begin()
        printer.drew = screen.can_draw(printer.out)
        finished = screen.watch(vm, printer.out, timeout, lambda: keyboard.left)
    last = vm.screen.text.rstrip()
    if last and sys.stdout is not None:
        print(last, flush=True)
    return None if keyboard.left else finished


def _verdict(vm: VM, finished: bool | None, timeout: float | None, seconds: float) -> int:
    """The one line on stderr, and the status."""
    where = f"({vm.engine}, {seconds:.2f} s)"
    if vm.state.fault is not None:
        return _say(f"{vm.state.fault.text} {where}", CRASHED)
    if finished is None:
        return _say(f"left the guest running; it was stopped {where}", 0)
    if not finished:
        return _say(f"timeout: the guest still ran after {timeout:g} s {where}", TIMEOUT)
    assert vm.exit is not None
    return _say(
        f"{vm.exit.text} {where}", CRASHED if vm.state == "crashed" else vm.exit.code & 0xFF
    )


def _write_checklists(vm: VM) -> None:
    """Of every virtio device, by address."""
    seen = vm.connection.observation
    lists = [vm.devices[id].checklist() for id in vm.devices if id in seen.last_checklists]
    text = "\n".join(map(repr, lists)) or "vmlab: no virtio device has a checklist to show"
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def _check_stats(target: str) -> None:
    """Say before the run, not after it, that the file cannot be written."""
    if target != "-":
        try:
            with Path(target).open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise ConfigError(f"--stats {named(target)}: {error.strerror}") from error


def _write_stats(vm: VM, target: str) -> None:
    import json

    text = json.dumps(vm.stats(), indent=2) + "\n"
    if target == "-":
        if sys.stdout is not None:
            sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--stats {named(target)}: {error.strerror}") from error


# --- the other commands -----------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    from vmlab.cli.demo import demo

    return demo(options.engine, options.seconds)


def _doctor(options: argparse.Namespace) -> int:
    from vmlab.cli.doctor import examine

    return examine()


def _kernels(options: argparse.Namespace) -> int:
    for name in kernels.names(options.arch):
        print(f"{name:<10} {kernels.about(name)}\n{'':<10} {kernels.path(name, options.arch)}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    linux = kernels.linux(options.source, options.arch, say=_tell)
    print(f"kernel  {linux.kernel}\ninitrd  {linux.initrd}\ncmdline {linux.cmdline}")
    print(f"from    {linux.origin}")
    return 0


def _tell(text: str) -> None:
    """Progress, where results are not mixed with it."""
    _say(text, 0)


def entry() -> NoReturn:
    """The installed command: a signal ends the machine too, and puts the terminal back."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        status = main()
    except SystemExit as error:  # a signal, or what argparse has said
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    # no interpreter shutdown: it would wait for a thread that a guest or a device holds
    os._exit(status)


if __name__ == "__main__":
    entry()
