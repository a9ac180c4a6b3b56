"""What is asked of devices and told to them from outside: lists, values, commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmlab.core.device import Device, commands
from vmlab.core.patience import holding
from vmlab.core.safely import report, short, text_of
from vmlab.errors import ConfigError
from vmlab.hints import meant, unknown
from vmlab.machine.busy import Watch
from vmlab.machine.config import CommandEntry, DeviceEntry, FieldEntry, RegisterEntry
from vmlab.machine.plugged import Plugged, find
from vmlab.regs.table import Register
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue_state import QueueState
from vmlab.virtio.steps import DriverSteps, no_checklist
from vmlab.virtio.window import MmioWindow

__all__ = ["Introspection"]


class Introspection:
    """Of the devices in `devices`. Nobody waits long for code of theirs: `watch` names it."""

    def __init__(self, devices: Mapping[str, Plugged], watch: Watch) -> None:
        self._devices = devices
        self._watch = watch
        #: told of (id, port, bytes) that a console is sent
        self.on_input: Callable[[str, int, bytes], None] = lambda *_: None

    def directory(self) -> list[DeviceEntry]:
        """Every device, by address, ports first."""
        entries = [
            DeviceEntry(
                id=id,
                type=short(one.device.type, 200),
                space=one.space,
                base=one.base,
                size=one.size,
                irq=one.irq,
                fixed=one.fixed,
                block=one.device.counters.start,
                registers=[_described(row) for row in one.device.regs.table],
                commands=_commands(one.made),
                consoles=one.device.consoles,
                virtio=isinstance(one.device, MmioWindow),
                shows=one.shows,
            )
            for id, one in list(self._devices.items())
        ]
        return sorted(entries, key=lambda entry: (entry.space != "port", entry.base))

    def peek(self, id: str) -> tuple[dict[str, int], dict[str, Any]]:
        """(register values, what else the device shows), without any side effect."""
        device = find(self._devices, id).device
        with holding(device.lock, self._watch.words, f"{id!r} cannot be looked at now"):
            return device.peek(), device.inspect()

    def checklist(self, id: str, queue: int | None) -> DriverSteps:
        """How far the driver of a virtio device is."""
        device = self._window(id, "driver's checklist")
        with holding(device.lock, self._watch.words, f"{id!r} cannot be looked at now"):
            return device.checklist(queue)

    def queue(self, id: str, index: int) -> QueueState:
        """What lies in the memory of a virtio device's queue."""
        device = self._window(id, "virtqueue")
        with holding(device.lock, self._watch.words, f"{id!r} cannot be looked at now"):
            return device.queue_state(index)

    def _window(self, id: str, what: str) -> MmioWindow:
        device = find(self._devices, id).device
        if isinstance(device, MmioWindow):
            return device
        others = [key for key, one in self._devices.items() if isinstance(one.device, MmioWindow)]
        raise ConfigError(no_checklist(id, device.type, others, what))

    def poke(self, id: str, register: str, value: Any) -> None:
        """Give a register a value, as the device's own code does; the line follows."""
        device = find(self._devices, id).device
        if register not in device.regs.by_name and register not in device.regs.pairs:
            raise ConfigError(f"{id!r} has {unknown('register', register, device.regs.by_name)}")
        row = device.regs.by_name.get(register)
        _check_value(f"{id}.r.{register}", value, row)
        with holding(device.lock, self._watch.words, f"{id!r} cannot be changed now"):
            setattr(device.r, register, value)
            device.update()

    def tell(self, id: str, method: str, arguments: list[Any], options: dict[str, Any]) -> Any:
        """Call a `command` of the device; returns what it returns."""
        import inspect

        plugged = find(self._devices, id)
        device, target = plugged.device, plugged.made
        known = commands(target)
        if method not in known:
            what = f"it has {', '.join(known)}" if known else "it has none"
            near = meant(method, known)
            what = f"did you mean {near!r}? {what}" if near else what
            raise ConfigError(f"{id!r} ({device.type}) has no command {method!r}; {what}")
        call = getattr(target, method)
        try:
            bound = inspect.signature(call).bind(*arguments, **options)
        except TypeError as error:
            raise ConfigError(f"{id}.{method}{known[method][0]}: {text_of(error)}") from error
        if method == "send" and device.consoles:
            self._note_input(id, bound.arguments)
        if target is not device:
            # a virtio device's own thread may be in a request of any length: it guards itself
            return call(*arguments, **options)
        with holding(device.lock, self._watch.words, f"{id!r} takes no command now"):
            result = call(*arguments, **options)
            device.update()
            return result

    def _note_input(self, id: str, arguments: Mapping[str, Any]) -> None:
        data, port = arguments.get("data", b""), arguments.get("port", 0)
        data = data.encode("utf-8", "replace") if isinstance(data, str) else data
        if isinstance(data, bytes) and isinstance(port, int):
            self.on_input(id, port, data)


def _described(row: Register) -> RegisterEntry:
    fields = [
        FieldEntry(
            *(bits.name, bits.low, bits.width, short(bits.doc)),
            {value: short(word) for value, word in bits.values.items()},
            bits.is_reserved,
        )
        for bits in row.fields.values()
    ]
    return RegisterEntry(
        *(row.name, row.offset, row.width, row.access, short(row.doc), fields, short(row.spec))
    )


def _commands(device: Device | VirtioDevice) -> list[CommandEntry]:
    try:
        return [
            CommandEntry(name, short(signature), short(doc))
            for name, (signature, doc) in commands(device).items()
        ]
    except BaseException as error:  # noqa: BLE001 - looking runs its properties and decorators
        report(error)
        return []


def _check_value(name: str, value: Any, row: Register | None) -> None:
    """ConfigError for what the register cannot hold. row: None for a pair of two."""
    count = row.banked_by[1] if row is not None and row.banked_by else 0
    mask = row.mask if row is not None else (1 << 64) - 1
    values = value if count and isinstance(value, list) and len(value) == count else [value]
    if count and values is not value:
        raise ConfigError(f"{name} has {count} banks: give a list of so many values")
    for one in values:
        if not isinstance(one, int) or not 0 <= one <= mask:
            raise ConfigError(f"{name} = {one!r}: a whole number from 0 to {mask:#x} fits")
