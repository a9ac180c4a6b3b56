"""What a VM remembers of the objects that were plugged into it: devices travel, and these are the copies."""

from __future__ import annotations

import contextlib
import copy
import sys
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, cast

from vmlab.core.away import FarRegisters, place_of, recall, send
from vmlab.core.device import Device
from vmlab.errors import ConfigError, DeviceNotFound, VmlabError
from vmlab.hints import unknown
from vmlab.monitor import wire
from vmlab.monitor.observation import Observation, Values
from vmlab.monitor.parcel import pickled
from vmlab.virtio.device import VirtioDevice

__all__ = ["AnyDevice", "Copies", "check_device", "check_devices"]

#: what can be plugged in
AnyDevice = Device | VirtioDevice


def check_device(device: object) -> None:
    """ConfigError for what cannot be plugged in."""
    if not isinstance(device, (Device, VirtioDevice)):
        hint = " (an instance, not the class)" if isinstance(device, type) else ""
        raise ConfigError(f"{device!r} is not a vmlab Device{hint}")
    place = place_of(device)
    if place is not None:
        name = type(device).__name__
        raise ConfigError(
            f"this {name} is plugged in already, as {place.id!r} of {place.machine!r}: an object is one"
            f" device. Make another, {name}(...), or take it out first: hot_remove({place.id!r})"
        )


def check_devices(devices: Sequence[object]) -> None:
    for index, device in enumerate(devices):
        check_device(device)
        if any(device is one for one in devices[:index]):
            name = type(device).__name__
            raise ConfigError(
                f"this {name} is in `devices` twice: an object is one device; make another, {name}(...)"
            )


class _Place:
    """A device of a machine, whose life does not hang on it (`core.away.Place`)."""

    def __init__(self, connection: Connection, id: str) -> None:
        self._connection = weakref.ref(connection)
        self.id, self.machine = id, connection.name

    @property
    def there(self) -> bool:
        return self._connection() is not None

    def _held(self) -> Connection:
        return cast("Connection", self._connection())

    def peek(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._held().peek(self.id)

    def poke(self, register: str, value: Any) -> None:
        self._held().call(wire.Poke(self.id, register, value), fault=False)

    def tell(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._held().tell(self.id, method, *arguments, **options)


class Connection(Protocol):
    """What of a VM's connection this needs: `vmlab.vm.connection`."""

    name: str
    isolate: bool

    @property
    def observation(self) -> Observation: ...

    def call(self, command: wire.Command, fault: bool = True) -> Any: ...

    def peek(self, id: str) -> Values: ...

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any: ...


class Copies:
    """The objects that were plugged in, by the id of what they have become there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: id -> (the object that was plugged in, what of it was sent)
        self._objects: dict[str, tuple[AnyDevice, int]] = {}

    def sent(self, id: str, device: AnyDevice, parcel: bytes) -> None:
        """The device is in the machine as `id`, instead of what was there."""
        self.back(id)
        self._objects[id] = device, hash(parcel)
        send(device, _Place(self._connection, id), copied=self._connection.isolate)

    def back(self, id: str) -> None:
        """The device is in the machine no more."""
        device, _ = self._objects.pop(id, (None, 0))
        if device is not None:
            recall(device)

    def all_back(self) -> None:
        for id in list(self._objects):
            self.back(id)

    def registers(self, id: str) -> FarRegisters:
        return FarRegisters(_Place(self._connection, id))

    def maker(self, id: str) -> type:
        """The class of the object that was plugged in as `id`; of one that nobody here has, none."""
        device, _ = self._objects.get(id, (None, 0))
        return type(device)

    def has_changed(self, id: str) -> bool:
        """Whether the device would be another one if it were plugged in today: its class was written
        anew, or something that it uses."""
        device, mark = self._objects.get(id, (None, 0))
        if device is None or not self._connection.isolate:
            return False
        here = copy.copy(device)
        with contextlib.suppress(VmlabError):
            return _latest(type(here), id) is not type(here) or hash(pickled(here)) != mark
        return False

    def newest(self, id: str) -> AnyDevice:
        """The device that was plugged in as `id`, as its newest class, and the newest globals, make it."""
        if id not in self._objects:
            there = [entry.id for entry in self._connection.observation.directory()]
            if id in there:
                raise ConfigError(
                    f"{id!r} was not plugged in by this VM object; give the new device"
                )
            raise DeviceNotFound(unknown("device", id, there))
        device, _ = self._objects[id]
        old = type(copy.copy(device))
        new = _latest(old, id)
        if new is not old:
            return _reborn(device, new)
        if self.has_changed(id):
            return device
        raise ConfigError(
            f"there is no newer {old.__name__} than that of {id!r}: {_where(old)} and replace again, or give"
            f" the device: replace({id!r}, {old.__name__}(...))"
        )


def _where(cls: type) -> str:
    if cls.__module__ == "__main__":
        return "run the cell that defines it"
    return f"import it anew (importlib.reload({cls.__module__}))"


def _latest(cls: type, id: str) -> type:
    """The class that has the name of `cls` by now."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, type) or not issubclass(found, (Device, VirtioDevice)):
        raise ConfigError(
            f"no class {cls.__qualname__} is to be found in {cls.__module__}; give the new device:"
            f" replace({id!r}, ...)"
        )
    return found


def _reborn(device: AnyDevice, cls: type) -> AnyDevice:
    """A `cls` made as `device` was, with the attributes and register values that it had when it was plugged
    in. What the new class makes beside them stays; a register at its reset value gets the new one's."""
    old = copy.copy(device)
    arguments, options = getattr(device, "_made", ((), {}))
    maker: Any = cls
    try:
        made = maker(*arguments, **options)
    except Exception:  # noqa: BLE001  # its constructor wants something else now
        made = maker.__new__(maker)
    state: dict[str, Any] = dict(old.__getstate__())
    values, table = (state.pop("r"), old.regs.by_name) if isinstance(old, Device) else ({}, {})
    vars(made).update(state)
    for name, value in values.items():
        row, before = made.regs.by_name.get(name), table[name]
        if (
            row is not None
            and value != before.reset
            and bool(row.banked_by) == bool(before.banked_by)
        ):
            setattr(made.r, name, value & row.mask if isinstance(value, int) else value)
    return cast("AnyDevice", made)
