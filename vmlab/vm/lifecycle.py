"""A VM's life: functions that `VM` has as methods; what they need is loaded when first asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from vmlab.errors import ConfigError, MonitorLost, StateError

if TYPE_CHECKING:
    from vmlab.machine.config import Exit
    from vmlab.vm.vm import VM

    Held = TypeVar("Held", bound=VM)

__all__ = [
    "pause",
    "reset",
    "resume",
    "shutdown",
    "start",
    "step",
    "stop",
    "stop_waiting",
    "wait",
]

#: instructions in one request of `step`, so that each is answered in time
STEPS = 10_000
#: seconds after which a wait wakes up for a look
WAIT = 0.5


def start(vm: Held, paused: bool = False) -> Held:
    """Power on. A machine that was stopped starts afresh. paused: before its first instruction, for
    `step` and `resume`."""
    from vmlab.machine.config import ENDED
    from vmlab.monitor import wire
    from vmlab.vm.state import State

    connection = vm.connection
    with connection.lock:
        if connection.state in ENDED:
            vm.stop()
            connection.set_state(State("created"))
        session = connection.up()
        session.call(wire.Start(paused))
        connection.started = time.monotonic()
    return vm


def pause(vm: VM) -> None:
    """No vCPU executes any more when this returns. StateError within three seconds when code of a
    device does not return and keeps one: it says whose, and its notes have the stack."""
    from vmlab.monitor import wire
    from vmlab.monitor.local import PAUSE_TIMEOUT

    try:
        vm.connection.call(wire.Pause(), timeout=PAUSE_TIMEOUT)
    except (StateError, MonitorLost) as error:
        if stack := vm.stuck():
            error.add_note(stack)
        raise


def resume(vm: VM) -> None:
    """Go on. After a device's failure: try that access again."""
    from vmlab.monitor import wire

    vm.connection.fault_shown = False
    vm.connection.call(wire.Resume(), fault=False)


def step(vm: VM, count: int = 1, cpu: int = 0) -> int:
    """Execute `count` instructions of a paused machine. Returns how many were executed: fewer when it
    ends, when a device fails, and when the CPU is halted and no interrupt waits."""
    from vmlab.monitor import wire

    if not all(isinstance(number, int) for number in (count, cpu)):
        raise ConfigError(f"step({count!r:.40}, cpu={cpu!r:.40}): both are whole numbers")
    total = 0
    while True:
        part = min(count - total, STEPS)
        done: int = vm.connection.call(wire.Step(cpu, part)).count
        total += done
        if done < part or total >= count:
            return total


def reset(vm: VM) -> None:
    """The reset button: the kernel starts anew, devices stay plugged in."""
    from vmlab.monitor import wire

    vm.connection.call(wire.Reset(), fault=False)


def stop(vm: VM) -> None:
    """Power off and free everything. What was counted can still be read. Idempotent."""
    vm.connection.end(at_last=vm.inspection.stop_trace)


def shutdown(vm: VM, timeout: float = 30) -> Exit:
    """Press the power button, to which a Linux listens, and wait until the guest has switched itself off.
    StateError when it does not within `timeout` seconds, or its machine has no button."""
    buttons = vm.config.platform.buttons
    if not buttons:
        raise StateError("this machine has no power button; stop() switches it off")
    for button in buttons:
        vm.tell(button, "press")
    ended = vm.wait(timeout)
    if ended is None:
        raise StateError(
            f"the guest still runs {timeout:g} s after its power button was pressed; stop() ends it"
        )
    return ended


def wait(
    vm: VM, timeout: float | None = None, until: Callable[[], bool] | None = None
) -> Exit | None:
    """Until the machine ends, or `until()` (asked after each change). Returns why it ended; None
    when it has not, because `timeout` seconds were over or `until()` was true. DeviceFault when
    the guest waits at a device's failure: it would wait for ever."""
    from vmlab.machine.config import ENDED

    connection = vm.connection
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


def stop_waiting(vm: VM) -> None:
    """Make `wait` ask its `until` again."""
    with vm.connection.changed:
        vm.connection.changed.notify_all()
