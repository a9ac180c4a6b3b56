"""A device object whose device is in a machine, in another process: what its maker still holds is a copy.

Nothing about that is silent. Registers, public attributes and commands of the object are the machine's; to
assign an attribute or to call another method raises, and says what to do. The object's class is exchanged
while it is away, so that a device in its machine pays nothing for this.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from functools import wraps
from types import FunctionType
from typing import Any, Protocol

from vmlab.errors import StateError, UnknownAttribute
from vmlab.hints import unknown

__all__ = ["FarRegisters", "Place", "place_of", "recall", "send"]


class Place(Protocol):
    """Where a device is."""

    #: of the device, of the machine
    id: str
    machine: str

    @property
    def there(self) -> bool:
        """Whether the machine is still held by somebody."""
        ...

    def peek(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(registers, public attributes)."""
        ...

    def poke(self, register: str, value: Any) -> None: ...

    def tell(self, method: str, *arguments: Any, **options: Any) -> Any: ...


#: id of an object -> (it, where its device is). Not kept in the object: it is somebody's
_places: dict[int, tuple[weakref.ref[Any], Place]] = {}
_classes: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()
#: what a device is given when it is plugged in: of the copy, it says nothing about the machine
_GIVEN = {
    "irq": "vm.irqs[{id!r}]",
    "counters": "vm.traps[{id!r}]",
    "memory": "vm.memory",
    "clock": "vm.uptime",
    "config": "vm.devices[{id!r}].peek()",
}


def place_of(device: object) -> Place | None:
    """Where the device is; None while it is nowhere but here."""
    found = _places.get(id(device))
    if found is None or found[0]() is not device:
        return None
    if not found[1].there:
        recall(device)
        return None
    return found[1]


def send(device: Any, place: Place, copied: bool) -> None:
    """The device is in its place now. copied: what is here is a copy of it."""
    key = id(device)
    with contextlib.suppress(TypeError):  # a class with slots cannot be marked
        _places[key] = weakref.ref(device, lambda _: _places.pop(key, None)), place
        if copied:
            device.__class__ = _away(type(device))


def recall(device: Any) -> None:
    """The device is here again, and nowhere else. What it was in the machine is not brought back."""
    _places.pop(id(device), None)
    if isinstance(device, _Away):
        object.__setattr__(device, "__class__", type(device).__mro__[2])


def _away(cls: Any) -> type:
    made = _classes.get(cls)
    if made is None:
        about = ("__module__", "__qualname__", "__doc__", "type")
        space = {name: getattr(cls, name) for name in about if hasattr(cls, name)}
        made = _classes[cls] = type(cls)(cls.__name__, (_Away, cls), space)
    return made


class _Away:
    """The first base of a device's class while the device is away."""

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__
        place = None if name.startswith("_") else place_of(self)
        if place is None:
            return found(self, name)
        if name == "r":
            return FarRegisters(place)
        if name in _GIVEN and name in vars(self):
            instead = _GIVEN[name].format(id=place.id)
            raise StateError(f"{_gone(self, place)}: {name} is the machine's; {instead} shows it")
        if name in vars(self) and name not in ("read", "write"):
            return _live(place, name, found(self, name))
        function = next((vars(one)[name] for one in type(self).__mro__ if name in vars(one)), None)
        if isinstance(function, FunctionType) or name in ("read", "write"):
            return _method(self, place, name, found(self, name))
        return found(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        place = place_of(self)
        if place is None:
            object.__setattr__(self, name, value)
            return
        raise StateError(
            f"{_gone(self, place)}: {name} = {value!r:.60} would not reach it. Registers do"
            f" (vm.devices[{place.id!r}].r.NAME = ...), and so do methods marked with @command;"
            f" vm.replace({place.id!r}, device) puts a corrected one in its place"
        )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy is one of the device as it was when it was plugged in, and is here."""
        with _at_home(self) as device:
            maker, arguments, *rest = device.__reduce_ex__(protocol)
        # not `__newobj__` itself: pickle compares its argument with the class of this object
        return (_made, (maker, arguments), *rest)

    def __repr__(self) -> str:
        place = place_of(self)
        name = type(self).__name__
        return (
            f"<{name}, plugged in as {place.id!r} of {place.machine!r}>" if place else f"<{name}>"
        )


def _gone(device: object, place: Place) -> str:
    return (
        f"this {type(device).__name__} is a copy: the device went into the machine {place.machine!r}, as"
        f" {place.id!r}"
    )


def _made(maker: Any, arguments: Any) -> Any:
    return maker(*arguments)


@contextlib.contextmanager
def _at_home(device: Any) -> Iterator[Any]:
    away = type(device)
    object.__setattr__(device, "__class__", away.__mro__[2])
    try:
        yield device
    finally:
        object.__setattr__(device, "__class__", away)


def _live(place: Place, name: str, here: Any) -> Any:
    """The attribute as it is in the machine, where it is of a kind that can be told."""
    if not _plain(here):
        return here
    return place.peek()[1].get(name, here)


def _plain(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return all(_plain(one) for one in (value.values() if isinstance(value, dict) else value))
    return value is None or type(value) in (bool, int, float, str, bytes)


def _method(device: Any, place: Place, name: str, here: Any) -> Any:
    if name == "peek":
        return lambda register=None: _peek(place, register)
    if getattr(here, "_vmlab_command", False):
        return wraps(here)(lambda *given, **options: place.tell(name, *given, **options))

    def elsewhere(*_: Any, **__: Any) -> Any:
        raise StateError(
            f"{_gone(device, place)}: {name}() would only ask the copy. Mark the method with @command"
            f" to call it in the machine; vm.devices[{place.id!r}] shows the device"
        )

    try:
        return wraps(here)(elsewhere)
    except AttributeError:
        return elsewhere


def _peek(place: Place, register: str | None) -> Any:
    registers, _ = place.peek()
    return registers if register is None else registers[register]


class FarRegisters:
    """The registers of a device in its machine, as `r` is inside it. To assign one reaches it: the
    interrupt line follows, no handler is called, nothing is counted."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        object.__setattr__(self, "_place", place)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        registers, _ = self._place.peek()
        if name not in registers:
            known = unknown("register", name, registers)
            raise UnknownAttribute(f"{self._place.id!r} has {known}")
        return registers[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._place.poke(name, value)

    def __dir__(self) -> list[str]:
        return list(self._place.peek()[0])

    def __repr__(self) -> str:
        registers, _ = self._place.peek()
        return "\n".join(f"{name:<16} {value:#x}" for name, value in registers.items())
