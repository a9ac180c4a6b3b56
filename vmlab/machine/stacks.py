"""What the stack of a thread says: whose code it is in, called by which of our functions, and why."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

from vmlab.core.safely import TRACE, short

__all__ = [
    "Place", "device_of", "doing", "handles", "interrupt", "ours", "place", "raise_in", "text",
]  # fmt: skip

_ROOT = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
#: ours that stand between a call and a device's code; other files of ours are devices
_BETWEEN = (
    "core", "engine", "machine", "monitor", "regs", "testing",
    "virtio/checklist.py", "virtio/device.py", "virtio/gone.py", "virtio/journal.py", "virtio/legacy.py",
    "virtio/mmio.py", "virtio/queue.py", "virtio/queue_state.py", "virtio/request_steps.py",
    "virtio/transport.py", "virtio/window.py", "virtio/worker.py",
)  # fmt: skip
#: of the standard library, what ours calls
_LIBRARY = (threading.__file__, contextlib.__file__)


def _access(frame: FrameType, verb: str) -> str:
    values = frame.f_locals
    one, address, size = values["one"], values["address"], values["size"]
    register = one.register_at(address, size, verb == "writing")
    return f"{verb} {register or hex(address)}"


def _again(frame: FrameType) -> str:
    fault = frame.f_locals["fault"]
    write = fault.value is not None
    register = fault.range.register_at(fault.address, fault.size, write)
    return f"{'writing' if write else 'reading'} {register or hex(fault.address)}"


#: our functions that call a device's code, and what that is for
CALLERS: dict[str, str | Callable[[FrameType], str]] = {
    "core/bus.py:Bus._read": lambda frame: _access(frame, "reading"),
    "core/bus.py:Bus._write": lambda frame: _access(frame, "writing"),
    "core/bus.py:Bus._failed": _again,
    "core/clock.py:Clock._fire": "in a timed call",
    "engine/kvm/doorbell.py:DoorbellPump._ring": "hearing a notification",
    "engine/soft/doorbells.py:Doorbells._ring": "hearing a notification",
    "machine/hotplug/stale.py:retired": "being retired",
    "machine/device_manager.py:DeviceManager._close": "being closed",
    "machine/device_manager.py:DeviceManager.attach": "being plugged in",
    "machine/device_manager.py:DeviceManager.detach": "being unplugged",
    "machine/introspection.py:Introspection.directory": "being listed",
    "machine/introspection.py:Introspection.peek": "being looked at",
    "machine/introspection.py:Introspection.poke": lambda frame: (
        f"being given {frame.f_locals['register']}"
    ),
    "machine/device_manager.py:DeviceManager.reset": "being reset",
    "machine/introspection.py:Introspection.tell": lambda frame: (
        f"in its command {frame.f_locals['method']}"
    ),
    "monitor/controller.py:Controller._open": "arriving in the machine",
    "monitor/controller.py:Controller._peek": "being looked at",
    "monitor/controller.py:Controller._tell_device": "answering",
    "virtio/window.py:MmioWindow.mark_removed": "being unplugged",
    "virtio/transport.py:VirtioTransport._serve_some": lambda frame: (
        f"serving queue {frame.f_locals['index']}"
    ),
}
#: those that act for the guest
_GUESTS = ("core/", "engine/", "virtio/transport.py")
#: ours that know under which name a device comes or goes, and as what they know it
_NAMING = {
    "machine/device_manager.py:DeviceManager.add": "name",
    "machine/introspection.py:Introspection.peek": "id",
    "machine/introspection.py:Introspection.poke": "id",
    "machine/device_manager.py:DeviceManager.remove": "id",
    "machine/device_manager.py:DeviceManager.replace": "id",
    "machine/introspection.py:Introspection.tell": "id",
    "monitor/controller.py:Controller._peek": "command",
    "monitor/controller.py:Controller._tell_device": "command",
}
#: code -> its file and name, "" for what is not between
_known: dict[CodeType, tuple[str, bool]] = {}


class Place(NamedTuple):
    """caller: the frame of ours that called; call: the frame that it called, the same one as long as the
    call lasts; inside: the first of the device's own, None when there is none; top: where the thread is."""

    caller: FrameType
    call: FrameType
    inside: FrameType | None
    top: FrameType


def _key(code: CodeType) -> tuple[str, bool]:
    """(name of ours, or "", whether it stands between a call and a device's code)."""
    found = _known.get(code)
    if found is None:
        file = code.co_filename
        ours = file.startswith(_ROOT)
        path = file[len(_ROOT) :].replace(os.sep, "/") if ours else ""
        between = path.startswith(_BETWEEN) if ours else file in _LIBRARY
        found = (f"{path}:{code.co_qualname}" if ours else "", between)
        if len(_known) > 4096:
            _known.clear()
        _known[code] = found
    return found


def place(top: FrameType) -> Place | None:
    """Where in a device's code the thread with this stack is; None when it is in none."""
    frames = []
    frame: FrameType | None = top
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    caller = inside = None
    call = top
    for at in range(len(frames) - 1, -1, -1):
        name, between = _key(frames[at].f_code)
        if name in CALLERS and inside is None:
            caller, call = frames[at], frames[max(at - 1, 0)]
        elif caller is None:
            continue
        elif name.endswith(".park"):
            return None  # the guest waits at a device's failure
        elif inside is None and not between:
            inside = frames[at]
    return Place(caller, call, inside, top) if caller is not None else None


def ours(found: Place) -> bool:
    """Whether the device is one of vmlab's own."""
    return found.inside is not None and found.inside.f_code.co_filename.startswith(_ROOT)


def arrives(found: Place) -> bool:
    """Whether the device's class is being made, with the modules that it imports."""
    return _key(found.caller.f_code)[0].endswith("._open")


def handles(found: Place) -> bool:
    """Whether it is on behalf of the guest, an access, a request or a timer."""
    return _key(found.caller.f_code)[0].startswith(_GUESTS)


def doing(found: Place) -> str:
    """What the call is for, in words; "" when that cannot be told any more."""
    words = CALLERS[_key(found.caller.f_code)[0]]
    try:
        return words if isinstance(words, str) else words(found.caller)
    except (KeyError, AttributeError):
        return ""


def device_of(found: Place, name_of: Callable[[Any], str]) -> str:
    """The name of the device that is called; its type where it has none. `name_of(device)` is "" for
    what is no device of the machine."""
    caller = found.caller.f_locals
    ranged = caller.get("one") or getattr(caller.get("fault"), "range", None)
    if ranged is not None and (name := getattr(ranged, "name", "")):
        return str(name)
    frame: FrameType | None = found.caller
    while frame is not None:
        local = _NAMING.get(_key(frame.f_code)[0])
        name = frame.f_locals.get(local) if local is not None else None
        if name := getattr(name, "id", name):
            return str(name)
        frame = frame.f_back
    return _by_object(found, name_of)


def _by_object(found: Place, name_of: Callable[[Any], str]) -> str:
    frame: FrameType | None = found.inside or found.top
    kind = ""
    while frame is not None:
        values = frame.f_locals
        plugged = getattr(values.get("plugged"), "device", None)
        for one in (values.get("device"), plugged, values.get("self")):
            if one is None:
                continue
            if name := name_of(one):
                return name
            kind = kind or (type(one).__name__ if frame is found.inside else "")
        if frame is found.caller:
            break
        frame = frame.f_back
    return kind or "a device"


def text(found: Place) -> str:
    """The stack from the device's own code on, as a traceback shows it."""
    # only here: what starts a machine does not need it
    import traceback

    frames = []
    frame: FrameType | None = found.top
    while frame is not None and frame is not found.caller:
        if frame.f_code.co_name != "_sleep_in_parts":
            frames.append((frame, frame.f_lineno))
        if frame is found.inside:
            break
        frame = frame.f_back
    lines = traceback.StackSummary.extract(iter(frames[::-1])).format()
    return short("Stack (most recent call last):\n" + "".join(lines), TRACE)


def interrupt(thread: int, found: Place, exception: type[BaseException]) -> None:
    """Raise `exception` in the thread, at its next line; what it waits for, where that can be seen, is
    over."""
    raise_in(thread, exception)
    for lock in _awaited(found):
        # it may have been let go meanwhile
        with contextlib.suppress(RuntimeError):
            lock.release()


def raise_in(thread: int, exception: type[BaseException]) -> None:
    """Raise `exception` in the thread when it next goes from one step of Python to another."""
    import ctypes

    call = ctypes.pythonapi.PyThreadState_SetAsyncExc
    call(ctypes.c_ulong(thread), ctypes.py_object(exception))


def _awaited(found: Place) -> list[Any]:
    """Locks that the thread may be waiting for: a condition's (events, queues, futures), or the device's
    own, which goes."""
    if found.top.f_code is threading.Condition.wait.__code__:
        waiter = found.top.f_locals.get("waiter")
        return [waiter] if waiter is not None else []
    locks: list[Any] = []
    frame: FrameType | None = found.top
    while frame is not None and frame is not found.caller:
        values = frame.f_locals
        held = [*values.values(), *_attributes(values.get("self"))]
        locks += [one for one in held if isinstance(one, _LOCK) and one.locked()]
        frame = frame.f_back
    return locks


def _attributes(value: Any) -> list[Any]:
    try:
        return list(vars(value).values())
    except (TypeError, RuntimeError):
        return []


_LOCK = type(threading.Lock())
