"""What is listed of a device: its table and its commands, as records."""

from __future__ import annotations

from vmlab.core.device import Device, commands
from vmlab.core.safely import report, short
from vmlab.machine.config import CommandEntry, FieldEntry, RegisterEntry
from vmlab.regs.table import Register
from vmlab.virtio.device import VirtioDevice

__all__ = ["commands_of", "described"]


def described(row: Register) -> RegisterEntry:
    fields = [
        FieldEntry(one.name, one.low, one.width, short(one.doc)) for one in row.fields.values()
    ]
    return RegisterEntry(row.name, row.offset, row.width, row.access, short(row.doc), fields)


def commands_of(device: Device | VirtioDevice) -> list[CommandEntry]:
    try:
        return [
            CommandEntry(name, short(signature), short(doc))
            for name, (signature, doc) in commands(device).items()
        ]
    except BaseException as error:  # noqa: BLE001 - looking runs its properties and decorators
        report(error)
        return []
