"""Checks of exercises: they say what was got and what was expected, and leave everything as it was.

    with Check(vm, "`on_peek` computes a value, whoever looks.") as check:
        adder = check.plug(Adder())          # taken out again, whatever happens
        check.write(adder, "A", 30)          # as the guest does
        check("A + B", adder.peek("SUM"), 42)

In a notebook a wrong answer ends in these lines alone, without a traceback. A device that needs no guest is
checked in a `vmlab.testing.DeviceHarness`, which `read` and `write` take as well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

from vmlab.core.device import Device
from vmlab.core.memory import GuestMemory
from vmlab.core.safely import trace_of
from vmlab.errors import DeviceFault, VmlabError
from vmlab.testing.harness import DeviceHarness
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.window import MmioWindow
from vmlab.vm import VM
from vmlab.vm.checklist import Checklist, Step, place
from vmlab.vm.views import DeviceView, IrqRow

__all__ = ["Check", "Wrong"]

#: seconds that a check may take: a loop without an end shall not hold the notebook. A guest takes its time;
#: without one there is nothing but the answer to wait for, and no access of a device's takes so long
SECONDS, ALONE = 30.0, 5.0
#: seconds in which a guest looks at what was plugged in
TAKING = 10.0
#: seconds between two looks at a driver
LOOK = 0.05
#: where code is that no answer is in
_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_LIBRARY = os.path.join(os.path.dirname(contextlib.__file__), "")
#: characters of a value that are shown
WIDTH = 300


class Wrong(AssertionError):
    """An answer that is not right yet; a notebook shows its text and no traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython asks an exception for."""
        return str(self).splitlines()


class Check:
    """One exercise's check, of a running `vm` or of none. hint: what to say after a wrong answer.
    seconds: until a loop without an end counts as one; else 5, and 30 with a `vm`."""

    def __init__(self, vm: VM | None = None, hint: str = "", seconds: float = 0) -> None:
        self._vm, self._hint = vm, hint
        self._seconds = seconds or (SECONDS if vm is not None else ALONE)
        self._plugged: list[DeviceView] = []
        self._raised: dict[str, int] = {}

    # --- what is compared -------------------------------------------------------------------------

    def __call__(self, what: str, got: object, expected: object) -> None:
        """Wrong unless the two are equal."""
        if got != expected:
            raise self._differs(what, _shown(got), _shown(expected))

    def raises(self, what: str, kind: type[Exception], call: Callable[[], object]) -> None:
        """Wrong unless `call` raises a `kind`."""
        try:
            got = f"no error, but {_shown(call())}"
        except kind:
            return
        except (NotImplementedError, Wrong):
            raise
        except Exception as error:  # noqa: BLE001 - it is shown
            got = f"{type(error).__name__}: {error}"
        raise self._differs(what, got, kind.__name__)

    def table(self, device: type[Device], *rows: str) -> None:
        """Wrong unless the class declares these registers: "LIMIT 0x04 rw reset 30"."""
        found = {
            row.name: f"{row.name} {row.offset:#04x} {row.access}"
            + (f" reset {row.reset}" if row.reset else "")
            for row in device.regs.table
        }
        for row in rows:
            name = row.split()[0]
            if found.get(name) != row:
                there = found.get(name, f"no {name}, but {', '.join(found) or 'no registers'}")
                raise self._differs(f"the registers of {device.__name__}", there, row)

    def driver(
        self, device: DeviceView | DeviceHarness | str, until: str = "", timeout: float = TAKING
    ) -> None:
        """Wrong unless the driver of this virtio device has done every step of its checklist, those of a
        request included; the answer lists what is missing or wrong, with the clauses.

        Args:
            device: its id, its view, or a harness around its transport.
            until: the name of the last step that counts, such as "DRIVER_OK"; "" all of them.
            timeout: seconds that a running guest has for it.
        """
        if isinstance(device, DeviceHarness):
            transport = device.device
            if not isinstance(transport, MmioWindow):
                raise TypeError(f"{transport!r} is no transport of a virtio device")
            found = Checklist("device", transport.type, transport.checklist())
            open_ = _to_do(found, until)
        else:
            view = self._machine().devices[device if isinstance(device, str) else device.id]
            found, open_ = self._driven(view, until, timeout)
        if open_:
            lines = [
                f"  {step.step}: {step.state} ({step.clause})\n{_note(step)}" for step in open_
            ]
            raise self._wrong(f"not yet: {found.title}\n{''.join(lines).rstrip()}")

    def _driven(self, view: DeviceView, until: str, timeout: float) -> tuple[Checklist, list[Step]]:
        """Its checklist and what of it is to do, once there is nothing to do, or the time is over."""
        end = time.monotonic() + timeout
        while True:
            found = view.checklist()
            open_ = _to_do(found, until)
            left = end - time.monotonic()
            if not open_ or left <= 0 or self._machine().state != "running":
                return found, open_
            self._machine().wait(min(left, LOOK))

    def _differs(self, what: str, got: str, expected: str) -> Wrong:
        return self._wrong(f"not yet: {what}\n  got       {got}\n  expected  {expected}")

    def _wrong(self, text: str) -> Wrong:
        return Wrong(f"{text}\n\nA hint: {self._hint}" if self._hint else text)

    # --- a device, as the guest sees it -----------------------------------------------------------

    def plug(self, device: Device | VirtioDevice) -> DeviceView:
        """Into the running guest, until the check is over; wherever there is room."""
        vm = self._machine()
        view = vm.hot_add(device)
        self._plugged.append(view)
        settled = ("driver_ok", "failed") if isinstance(device, VirtioDevice) else ()
        vm.wait_until(
            lambda _: view.state in settled or not (settled or view.state == "added"), TAKING
        )
        self._raised[view.id] = self._row(view).raised
        return view

    def unplug(self, view: DeviceView) -> None:
        """Out with it: a guest that runs is asked, one that does not let go is not."""
        vm = self._machine()
        self._plugged = [one for one in self._plugged if one is not view]
        if vm.state == "running":
            with contextlib.suppress(VmlabError):
                vm.hot_remove(view.id)
        if view.state != "gone":
            vm.hot_remove(view.id, force=True)

    def read(self, where: DeviceView | DeviceHarness, register: str) -> int:
        """A guest's read of a register by its name."""
        offset, size = _place(where, register)
        if isinstance(where, DeviceHarness):
            with self._asking(where):
                return where.device.read(offset, size)
        answer = self._machine().console.run(f"peek {where.base + offset:#x} {size} 1")
        return int(answer.split()[-1], 16)

    def write(self, where: DeviceView | DeviceHarness, register: str, value: int) -> None:
        """A guest's write to a register by its name."""
        offset, size = _place(where, register)
        if isinstance(where, DeviceHarness):
            with self._asking(where):
                where.write(offset, size, value)
        else:
            self._machine().console.run(f"poke {where.base + offset:#x} {value:#x} {size}")

    @contextlib.contextmanager
    def _asking(self, where: DeviceHarness) -> Iterator[None]:
        """What the device raises is an answer that is not right yet, as it is in a guest."""
        try:
            with _limit(min(ALONE, self._seconds), self._endless):
                yield
        except (NotImplementedError, Wrong):
            raise
        except Exception as error:
            text = f"not yet: your {type(where.device).__name__} raised\n{trace_of(error)}"
            raise self._wrong(text.rstrip()) from error

    def level(self, view: DeviceView) -> str:
        """Its line: "high" or "low"."""
        return "high" if self._row(view).level else "low"

    def raised(self, view: DeviceView) -> int:
        """How often its line went up since it was plugged in."""
        return self._row(view).raised - self._raised[view.id]

    def _row(self, view: DeviceView) -> IrqRow:
        return next(
            (row for row in self._machine().irqs if row.line == view.irq),
            IrqRow(-1, view.id, 0, 0, False),
        )

    def _machine(self) -> VM:
        if self._vm is None:
            raise TypeError("this check has no machine: Check(vm)")
        return self._vm

    def patient(self, memory: GuestMemory, reads: int) -> _Patient:
        """`memory` that is read so often and no more: a walk that goes round shall end here."""
        return _Patient(
            memory, self._wrong(f"not yet: no end after {reads} reads of memory"), reads
        )

    # --- before and after -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        state = self._vm.state if self._vm is not None else "running"
        if state != "running":
            cure = "resume" if state == "paused" else "start"
            raise Wrong(f"The machine is {state}. Call its {cure}(), then check again.")
        self._limit = _limit(self._seconds, self._endless)
        self._limit.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limit.__exit__(None, None, None)
        self._clean()
        if error is None:
            print("right")
        elif (told := self._told(error, traceback)) is not None:
            raise told from None

    def _endless(self, seconds: float, frame: FrameType | None) -> Wrong:
        place = ""
        while frame is not None and frame.f_code.co_filename.startswith((_OURS, _LIBRARY)):
            frame = frame.f_back
        if frame is not None:
            place = f": it is in {frame.f_code.co_qualname}, line {frame.f_lineno}"
        return self._wrong(f"not yet: it has not come to an end within {seconds:g} s{place}")

    def _clean(self) -> None:
        """Nothing that a wrong answer left behind may meet the next one."""
        for view in reversed(self._plugged):
            with contextlib.suppress(VmlabError):
                self.unplug(view)
        if self._vm is not None and self._vm.state == "paused":
            with contextlib.suppress(VmlabError):
                self._vm.resume()

    def _told(self, error: BaseException, traceback: TracebackType | None) -> Wrong | None:
        """What to say instead; None where the error itself says it, with the line that raised it."""
        text = str(error)
        if isinstance(error, Wrong):
            return error
        if isinstance(error, NotImplementedError) or "NotImplementedError" in text:
            return self._wrong("Not written yet: your answer goes where it says YOUR CODE HERE.")
        here = traceback is not None and traceback.tb_next is None
        if isinstance(error, NameError) and here:
            return self._wrong(
                f"There is no {error.name} yet: run the cells above, your answer's too."
            )
        if isinstance(error, DeviceFault):
            # not how the guest goes on: it has already, without the device
            return self._wrong(f"not yet: your device raised\n{error.args[0]}\n{error.traceback}")
        if isinstance(error, VmlabError):
            return self._wrong(f"not yet: {text}")
        if self._hint and isinstance(error, Exception):
            error.add_note(f"A hint: {self._hint}")
        return None


class _Patient:
    """Guest memory for a while."""

    def __init__(self, memory: GuestMemory, over: Wrong, reads: int) -> None:
        self._memory, self._over, self._left = memory, over, reads

    def read(self, address: int, length: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise self._over
        return self._memory.read(address, length)


def _to_do(found: Checklist, until: str) -> list[Step]:
    """The steps up to `until` that are not done; UnknownName for a step that there is not."""
    last = found.index(found[until]) if until else len(found)
    return [step for step in found[: last + 1] if not step.done]


def _note(step: Step) -> str:
    where = "; ".join(text for text in (step.note, place(step)) if text)
    return f"    {where}\n" if where else ""


def _shown(value: object) -> str:
    """As Python writes it, but addresses in hex."""
    if type(value) in (list, tuple):
        parts = ", ".join(map(_shown, value))  # type: ignore[call-overload]
        text = f"[{parts}]" if type(value) is list else f"({parts})"
    else:
        text = hex(value) if type(value) is int and value >= 0x1000 else repr(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def _place(where: DeviceView | DeviceHarness, name: str) -> tuple[int, int]:
    """Offset and size of a register."""
    if isinstance(where, DeviceHarness):
        row = where.device.regs.by_name.get(name)
        if row is not None:
            return row.offset, row.size
    else:
        for entry in where.registers:
            if entry.name == name:
                return entry.offset, entry.width // 8
    raise Wrong(f"not yet: the device has no register {name}")


@contextlib.contextmanager
def _limit(seconds: float, error: Callable[[float, FrameType | None], Exception]) -> Any:
    """Raise `error(seconds, where it is)` after that time, and each second until it is heard; in the main
    thread of systems that can."""
    able = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not able:
        yield
        return

    def over(_: int, frame: FrameType | None) -> None:
        raise error(seconds, frame)

    handler = signal.signal(signal.SIGALRM, over)
    before, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, before, interval)
        signal.signal(signal.SIGALRM, handler)
