"""Where a VM's guest stops: functions that `VM` has as methods; what they need is loaded when first asked
for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmlab.vm.breakpoints import Breakpoint, Breakpoints, Stopped
    from vmlab.vm.conditions import Condition
    from vmlab.vm.gdb import Gdb
    from vmlab.vm.vm import VM

__all__ = [
    "break_at",
    "break_on",
    "break_on_irq",
    "break_on_memory",
    "breakpoints",
    "gdb",
    "run_to",
    "step_out",
    "step_over",
    "wait_for_break",
]


def breakpoints(vm: VM) -> Breakpoints:
    from vmlab.vm.breakpoints import Breakpoints

    return Breakpoints(vm.connection)


def break_at(
    vm: VM,
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
    from vmlab.vm import breakpoints as points

    spec = points.code_spec(address, vm.inspection.address_of, count, once)
    return vm.breakpoints.add(spec, when)


def break_on(
    vm: VM,
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
    return vm.breakpoints.access(place, size, read, write, value, when, count, once)


def break_on_memory(
    vm: VM,
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
    from vmlab.vm import breakpoints as points

    spec = points.memory_spec(
        address, size, vm.inspection.address_of, read, write, value, count, once
    )
    return vm.breakpoints.add(spec, when)


def break_on_irq(
    vm: VM, line: int, *, when: Condition | None = None, count: int = 1, once: bool = False
) -> Breakpoint:
    """Stop when an interrupt line rises: as soon as the CPUs can be stopped after that."""
    from vmlab.vm import breakpoints as points

    return vm.breakpoints.add(points.irq_spec(line, count, once), when)


def step_over(vm: VM, cpu: int = 0, timeout: float = 5) -> None:
    """One instruction of a paused machine; of a call, all that is called. ExpectTimeout, and the machine
    is paused where it is, when that does not return within `timeout` seconds."""
    from vmlab.vm import stepping

    stepping.over(vm, cpu, timeout)


def step_out(vm: VM, cpu: int = 0, timeout: float = 5) -> None:
    """Go on until the present function has returned to its caller; as `backtrace` finds that one."""
    from vmlab.vm import stepping

    stepping.out(vm, cpu, timeout)


def run_to(vm: VM, address: int | str, timeout: float = 5) -> Stopped:
    """Go on to the instruction at `address`, or at a symbol, or to a breakpoint before it."""
    from vmlab.vm import stepping

    at = vm.inspection.address_of(address) if isinstance(address, str) else address
    return stepping.to(vm, at, timeout)


def wait_for_break(vm: VM, timeout: float | None = 5) -> Stopped:
    """Until the guest stands at a breakpoint -> .breakpoint, .event, .cpu, .function. ExpectTimeout when it
    does not within `timeout` seconds; StateError when the machine ends, or is paused for another reason."""
    from vmlab.vm import breakpoints as points

    return points.wait_for_break(vm.connection, vm.inspection.names, timeout)


def gdb(vm: VM, port: int = 0) -> Gdb:
    """Serve gdb, or an editor that speaks its protocol, on the loopback interface: `target remote
    ADDRESS`. port 0: any that is free. The guest stands still while gdb looks; when gdb is gone its
    breakpoints are, and the guest goes on. ConfigError when the port is taken."""
    from vmlab.vm.gdb import serve

    return serve(vm.connection, port)
