"""The wire format between a notebook and its monitor process.

A message is its length (4 bytes, little endian, at most MAX_MESSAGE) and that many bytes of
MessagePack. Every message is one of the records below; msgspec checks the type of each field as it
decodes. The notebook's side decodes records alone: nothing that the monitor sends is ever unpickled.
The other way, `HotAdd` and `Replace` carry a pickle of a user's device.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec
from msgspec import Struct

from vmlab import errors
from vmlab.errors import DeviceFault, VmlabError, WireError
from vmlab.machine.config import DeviceEntry, Exit, Fault, MachineConfig

__all__ = ["MAX_MESSAGE", "Command", "Event", "Reply"]

#: bytes; memory is shared, so nothing large needs to travel
MAX_MESSAGE = 16 << 20


# --- commands: what the notebook asks ---------------------------------------------------------------


class Build(Struct, tag=True):
    """Make the machine. `devices` are pickles with their ids."""

    config: MachineConfig
    devices: list[tuple[bytes, str | None]]


class Start(Struct, tag=True):
    pass


class Pause(Struct, tag=True):
    pass


class Resume(Struct, tag=True):
    pass


class Step(Struct, tag=True):
    cpu: int
    count: int


class Reset(Struct, tag=True):
    pass


class Stop(Struct, tag=True):
    pass


class Look(Struct, tag=True):
    """The directory of devices."""


class Peek(Struct, tag=True):
    id: str


class GetRegs(Struct, tag=True):
    cpu: int


class SetRegs(Struct, tag=True):
    cpu: int
    values: dict[str, int]


class HotAdd(Struct, tag=True):
    device: bytes
    id: str | None


class HotRemove(Struct, tag=True):
    id: str
    force: bool


class Replace(Struct, tag=True):
    id: str
    device: bytes


class Send(Struct, tag=True):
    """Bytes for COM1."""

    data: bytes


class Trace(Struct, tag=True):
    on: bool
    last: int
    device: str | None


class TakeTrace(Struct, tag=True):
    pass


class Exits(Struct, tag=True):
    """Exits by kind and accesses that hit nothing."""


Command = (
    Build | Start | Pause | Resume | Step | Reset | Stop | Look | Peek | GetRegs | SetRegs | HotAdd | HotRemove
    | Replace | Send | Trace | TakeTrace | Exits
)  # fmt: skip


class Request(Struct):
    number: int
    command: Command


# --- replies ------------------------------------------------------------------------------------------


class Done(Struct, tag=True):
    """It is done; for Send, how many bytes were taken, for Step, how many instructions ran."""

    count: int = 0


class Failed(Struct, tag=True):
    """error: the name of a class in `vmlab.errors`; traceback is for errors of a user's device."""

    error: str
    text: str
    traceback: str


class Built(Struct, tag=True):
    engine: str
    reason: str
    devices: list[DeviceEntry]
    ids: list[str]


class Devices(Struct, tag=True):
    generation: int
    devices: list[DeviceEntry]


class Added(Struct, tag=True):
    id: str


class Registers(Struct, tag=True):
    values: dict[str, int]


class AccessList(Struct, tag=True):
    """Rows as `core.trace.AccessEvent`."""

    events: list[tuple[float, int, str, int, str, str, bool, int, int]]
    dropped: int


class ExitCounts(Struct, tag=True):
    """unmapped: (space, address or None for the rest, reads, writes)."""

    exits: dict[str, int]
    unmapped: list[tuple[str, int | None, int, int]]


Reply = Done | Failed | Built | Devices | Added | Registers | AccessList | ExitCounts


class Answer(Struct, tag=True):
    number: int
    reply: Reply


# --- events: what the monitor tells -----------------------------------------------------------------


class Output(Struct, tag=True):
    """Bytes that the guest sent to its console."""

    data: bytes


class State(Struct, tag=True):
    state: str
    exit: Exit | None
    fault: Fault | None


class Said(Struct, tag=True):
    """What the code of a user's device printed."""

    text: str


Event = Output | State | Said
FromMonitor = Answer | Output | State | Said

_encoder = msgspec.msgpack.Encoder()
#: built when first needed: a process decodes one direction only
_decoders: dict[Any, Any] = {}


def pack(message: Struct) -> bytes:
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE:
        raise WireError(f"a message of {len(body)} bytes; at most {MAX_MESSAGE} fit")
    return len(body).to_bytes(4, "little") + body


def receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    """`size` bytes, or None when the other side is gone."""
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        try:
            got = connection.recv_into(view[at:])
        except (ConnectionError, OSError):
            return None
        if not got:
            return None
        at += got
    return bytes(data)


def receive(connection: socket.socket, kind: Any) -> Any:
    """The next message, decoded as `kind`; None when the other side is gone; WireError when what
    came is none."""
    head = receive_exactly(connection, 4)
    if head is None:
        return None
    size = int.from_bytes(head, "little")
    if size > MAX_MESSAGE:
        raise WireError(f"a message of {size} bytes was announced; at most {MAX_MESSAGE} fit")
    body = receive_exactly(connection, size)
    if body is None:
        return None
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WireError(f"a message that is none: {error}") from error


def raise_failure(failed: Failed) -> None:
    """The error that a reply carries, as the exception of that name."""
    kind = getattr(errors, failed.error, VmlabError)
    if kind is DeviceFault:
        raise DeviceFault(failed.text, traceback=failed.traceback)
    error = kind.__new__(kind)
    # the text is whole already: the constructor would put the class's words before it again
    Exception.__init__(error, failed.text)
    raise error
