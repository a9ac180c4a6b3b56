"""How a device travels to the monitor process: itself, its class, and the lines of their code."""

from __future__ import annotations

import io
import marshal
import sys
from collections import deque
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from vmlab.core.sources import Sources, gather, keep
from vmlab.core.values import Values, values_class
from vmlab.errors import ConfigError

if TYPE_CHECKING:
    from vmlab.core.device import Device
    from vmlab.virtio.device import VirtioDevice

__all__ = ["pickled"]

#: packages whose classes every monitor process has
_BY_NAME = ("builtins", "vmlab.core", "vmlab.devices", "vmlab.net", "vmlab.regs", "vmlab.virtio")
#: objects looked at for the one that cannot be pickled
LOOKS = 20_000


def pickled(device: Device | VirtioDevice) -> bytes:
    """The device with its class, by value: the other process can import what this one cannot, and
    a class that was edited and run again is the new one. vmlab's own classes travel by name."""
    import cloudpickle

    modules = [
        sys.modules[name]
        for name in {cls.__module__ for cls in type(device).__mro__}
        if name in sys.modules and not name.startswith(_BY_NAME)
    ]
    registered = cloudpickle.list_registry_pickle_by_value()
    fresh = [one for one in modules if one.__name__ not in registered]
    for module in fresh:
        cloudpickle.register_pickle_by_value(module)
    try:
        return _pack(device)
    finally:
        for module in fresh:
            cloudpickle.unregister_pickle_by_value(module)


def _pack(device: Device | VirtioDevice) -> bytes:
    file = io.BytesIO()
    pickler = _pickler()(file)
    try:
        pickler.dump(device)
    except Exception as error:
        where = _path(device, pickler.last) or repr(device)
        raise ConfigError(
            f"{where} cannot go to the monitor process: {error}. Make it in `attached`, which runs there,"
            " or use VM(isolate=False)"
        ) from error
    sources = gather(pickler.codes)
    if not sources:
        return file.getvalue()
    import pickle  # here and below: few machines are given a device of their notebook's

    return pickle.dumps(_Parcel(file.getvalue(), sources), pickle.HIGHEST_PROTOCOL)


class _Parcel:
    """A pickled device with the sources of its code."""

    def __init__(self, device: bytes, sources: Sources) -> None:
        self._content = device, sources

    def __reduce__(self) -> Any:
        return _unpacked, self._content


def _unpacked(device: bytes, sources: Sources) -> Any:
    keep(sources)
    import pickle

    return pickle.loads(device)


def _pickler() -> Any:
    """The class, made when first needed: cloudpickle takes a fifth of a machine's start-up to load."""
    found = _made.get("pickler")
    if found is not None:
        return found
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        """codes: the functions that travel by value. last: what was begun last; where pickling
        failed, what is to blame."""

        def __init__(self, file: Any) -> None:
            super().__init__(file)
            self.codes: list[CodeType] = []
            self.last: Any = None

        def reducer_override(self, obj: Any) -> Any:
            self.last = obj
            if isinstance(obj, CodeType):
                # not cloudpickle's way, which from 3.1.3 on drops the file's name; the monitor process
                # runs the same Python
                self.codes.append(obj)
                return marshal.loads, (marshal.dumps(obj),)
            if isinstance(obj, type) and issubclass(obj, Values) and obj is not Values:
                # cloudpickle's own way loses its slots
                return values_class, (obj.__regs__, obj.__name__)
            return super().reducer_override(obj)

    _made["pickler"] = Pickler
    return Pickler


_made: dict[str, Any] = {}


# --- which part it is -------------------------------------------------------------------------------


def _path(device: object, culprit: object) -> str:
    """How one comes from the device to `culprit`, as Python would write it; "" when that is not found.
    The shortest way is the one that is named, up to the first global, which is what the author knows."""
    seen, waiting = {id(device)}, deque([(type(device).__name__, False, device)])
    while waiting and len(seen) < LOOKS:
        path, known, one = waiting.popleft()
        if one is culprit:
            return path if one is not device else ""
        parts = _function_parts(one) if isinstance(one, FunctionType) else _parts(path, one)
        for step, part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                step = path if known else step
                waiting.append((step, known or isinstance(one, FunctionType), part))
    return ""


def _parts(path: str, one: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(one, dict):
        yield from ((f"{path}[{key!r:.40}]", value) for key, value in list(one.items()))
    elif isinstance(one, (list, tuple, set, frozenset, deque)):
        yield from ((f"{path}[{index}]", value) for index, value in enumerate(list(one)))
    elif not isinstance(one, ModuleType):
        yield from ((f"{path}.{name}", value) for name, value in _state(one).items())
        for name in getattr(type(one), "__slots__", ()):
            if isinstance(name, str) and hasattr(one, name):
                yield f"{path}.{name}", getattr(one, name)
        if not isinstance(one, type):
            for cls in type(one).__mro__:
                if not cls.__module__.startswith(_BY_NAME):
                    yield cls.__name__, cls


def _state(one: Any) -> dict[str, Any]:
    """What is pickled of an object: of a device, not what it is given when it is plugged in."""
    if isinstance(one, type) or not type(one).__module__:
        return dict(getattr(one, "__dict__", {}))
    own = getattr(one, "__getstate__", dict)
    state: Any
    try:
        state = own()
    except Exception:  # noqa: BLE001  # it is somebody's
        state = None
    return state if isinstance(state, dict) else dict(getattr(one, "__dict__", {}))


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Globals by the names that the function uses, and what it has closed over."""
    used: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        used.update(code.co_names)
        codes += [one for one in code.co_consts if isinstance(one, CodeType)]
    for name in sorted(used & function.__globals__.keys()):
        yield f"the global {name!r} that {function.__qualname__} uses", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"{name!r} that {function.__qualname__} uses", cell.cell_contents
        except ValueError:  # not bound yet
            continue
    yield from (
        (f"a default of {function.__qualname__}", one) for one in function.__defaults__ or ()
    )
