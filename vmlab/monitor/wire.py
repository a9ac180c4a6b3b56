"""The wire format between a notebook and its monitor process.

A message is its length (4 bytes, little endian, at most MAX_MESSAGE) and that many bytes of
MessagePack. Every message is one of the records below; msgspec checks the type of each field as it
decodes. The notebook's side decodes records alone: nothing that the monitor sends is ever unpickled.
The other way, `Build`, `HotAdd` and `Replace` carry a pickle of a user's device.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import msgspec
from msgspec import Struct

from vmlab import errors
from vmlab.core.safely import short
from vmlab.errors import ConfigError, DeviceFault, VmlabError, WireError
from vmlab.machine.config import BusyCall, DeviceEntry, Exit, Fault, MachineConfig, StateName
from vmlab.machine.debug.records import BreakEntry, BreakEvent, BreakSpec
from vmlab.virtio.queue_state import QueueState
from vmlab.virtio.steps import DriverSteps

__all__ = ["MAX_MESSAGE", "Command", "Event", "Reply"]

#: bytes; memory is shared, so nothing large needs to travel
MAX_MESSAGE = 16 << 20
#: entries of the log in one answer; most have 100 bytes, some a text of `core.trace.TEXT` characters
TRACE_PART = 10_000
#: an entry
TraceRow = tuple[
    float, int | None, str, str, str, int | None, int | None, int | None, int | None, str,
    int | None, str,
]  # fmt: skip


# --- commands: what the notebook asks ---------------------------------------------------------------


class Build(Struct, tag=True):
    """Make the machine, with what is plugged in from the start."""

    config: MachineConfig
    devices: list[HotAdd]


class Start(Struct, tag=True):
    paused: bool = False


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


class Checklist(Struct, tag=True):
    """How far the driver of a virtio device is. queue: whose last request; None: the device's last."""

    id: str
    queue: int | None = None


class Queue(Struct, tag=True):
    """What lies in the memory of a virtio device's queue."""

    id: str
    index: int


class GetRegs(Struct, tag=True):
    cpu: int


class SetRegs(Struct, tag=True):
    cpu: int
    values: dict[str, int]


class HotAdd(Struct, tag=True):
    """device: a pickle. at, irq: the address and the line that it is to have."""

    device: bytes
    id: str | None
    at: int | None = None
    irq: int | None = None


class HotRemove(Struct, tag=True):
    id: str
    force: bool


class Replace(Struct, tag=True):
    id: str
    device: bytes
    force: bool = False


class Poke(Struct, tag=True):
    """Give a register of a device a value, as the device itself does: no handler is called."""

    id: str
    register: str
    value: Any


class Tell(Struct, tag=True):
    """Call a `core.device.command` of a device. Arguments are plain values."""

    id: str
    method: str
    arguments: list[Any]
    options: dict[str, Any]


class Send(Struct, tag=True):
    """Bytes for COM1."""

    data: bytes


class Trace(Struct, tag=True):
    """Begin a log, or end the one that there is. None: all of them; kinds may be groups."""

    on: bool
    last: int = 1
    devices: list[str] | None = None
    kinds: list[str] | None = None
    registers: list[str] | None = None
    cpus: list[int] | None = None


class TakeTrace(Struct, tag=True):
    pass


class Exits(Struct, tag=True):
    """Exits by kind and accesses that hit nothing."""


class Wrote(Struct, tag=True):
    """The other process has written to guest memory, as `GuestMemory.on_write` says."""

    address: int
    size: int


class AddBreak(Struct, tag=True):
    spec: BreakSpec


class ChangeBreak(Struct, tag=True):
    """enabled None: delete it."""

    number: int
    enabled: bool | None


class ListBreaks(Struct, tag=True):
    pass


class Decided(Struct, tag=True):
    """What the condition of `Asked` says. trouble: it raised that."""

    serial: int
    stop: bool
    trouble: str = ""


class ReadVirtual(Struct, tag=True):
    """Memory as a CPU's code sees it."""

    address: int
    size: int
    cpu: int


class Gdb(Struct, tag=True):
    """Begin to serve gdb; port None: stop it. 0: any port."""

    port: int | None


Command = (
    Build | Start | Pause | Resume | Step | Reset | Stop | Look | Peek | Checklist | Queue | GetRegs | SetRegs
    | HotAdd | HotRemove | Replace | Poke | Tell | Send | Trace | TakeTrace | Exits | Wrote
    | AddBreak | ChangeBreak | ListBreaks | Decided | ReadVirtual | Gdb
)  # fmt: skip


class Request(Struct):
    number: int
    command: Command


# --- replies ------------------------------------------------------------------------------------------


class Done(Struct, tag=True):
    """It is done; for Send, how many bytes were taken, for Step, how many instructions ran, for Stop,
    whether code of a device does not return."""

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
    #: whether the guest is a Linux
    linux: bool = False


class Devices(Struct, tag=True):
    generation: int
    devices: list[DeviceEntry]


class Added(Struct, tag=True):
    id: str


class Told(Struct, tag=True):
    """What a command returned, as a plain value."""

    value: Any


class Registers(Struct, tag=True):
    values: dict[str, int]


class Peeked(Struct, tag=True):
    """Register values, and what else a device shows: plain values by name."""

    registers: dict[str, int]
    attributes: dict[str, Any]


class Checked(Struct, tag=True):
    steps: DriverSteps


class TraceRecords(Struct, tag=True):
    """The fields of `core.trace.TraceRecord`. Full when there may be more: ask again."""

    events: list[TraceRow]
    dropped: int


class ExitCounts(Struct, tag=True):
    """unmapped: (space, address or None for the rest, reads, writes)."""

    exits: dict[str, int]
    unmapped: list[tuple[str, int | None, int, int]]


class Looked(Struct, tag=True):
    queue: QueueState


class Breaks(Struct, tag=True):
    entries: list[BreakEntry]


class Bytes(Struct, tag=True):
    """Fewer than were asked for where nothing is mapped."""

    data: bytes


Reply = (
    Done | Failed | Built | Devices | Added | Told | Registers | Peeked | Checked | TraceRecords
    | ExitCounts
    | Breaks | Bytes | Looked
)  # fmt: skip

#: command -> what answers it, beside Failed; Done where nothing is said
_ANSWERS: dict[type, type] = {
    Build: Built,
    Look: Devices,
    HotAdd: Added,
    Tell: Told,
    Peek: Peeked,
    Checklist: Checked,
    Queue: Looked,
    GetRegs: Registers,
    TakeTrace: TraceRecords,
    Exits: ExitCounts,
    AddBreak: Breaks,
    ListBreaks: Breaks,
    ReadVirtual: Bytes,
}


class Answer(Struct, tag=True):
    number: int
    reply: Reply


# --- events: what the monitor tells -----------------------------------------------------------------


class Output(Struct, tag=True):
    """Bytes that the guest sent to a console: COM1, or one of a device's."""

    data: bytes
    device: str = ""
    port: int = 0


class State(Struct, tag=True):
    state: StateName
    exit: Exit | None
    fault: Fault | None
    #: the breakpoint that it stands at
    met: BreakEvent | None = None


class Saying(Struct):
    """time: of the host's monotonic clock, which is the same in every process. device: an id, or "". kind:
    "print", "mistake" or "fault". text: as it was written, with the end of its line."""

    time: float
    device: str
    kind: str
    text: str


class Said(Struct, tag=True):
    """What devices printed and what is to be said of them. lost: how many before these came too fast."""

    sayings: list[Saying]
    lost: int = 0


class Busy(Struct, tag=True):
    """Calls of devices' code that have not returned for long, the longest first; none: they all have."""

    calls: list[BusyCall]


class Asked(Struct, tag=True):
    """A breakpoint with a condition was met: `Decided` is waited for."""

    serial: int
    event: BreakEvent


Event = Output | State | Said | Busy | Asked
FromMonitor = Answer | Output | State | Said | Busy | Asked

_encoder = msgspec.msgpack.Encoder()
#: built when first needed: a process decodes one direction only
_decoders: dict[Any, Any] = {}
#: two threads that make decoders of the same records at once crash msgspec
_making = threading.Lock()


def pack(message: Struct) -> bytes:
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE:
        raise WireError(f"a message of {len(body)} bytes; at most {MAX_MESSAGE} fit")
    return len(body).to_bytes(4, "little") + body


def pack_request(number: int, command: Command) -> bytes:
    """The request; ConfigError when a field has a value that the other side would not take."""
    try:
        data = pack(Request(number, command))
        decode(data[4:], Request)
    except (WireError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{type(command).__name__.lower()}: {error}") from error
    return data


def pack_answer(number: int, reply: Reply) -> bytes:
    """The answer; one that says why when the reply itself does not fit a message."""
    try:
        return pack(Answer(number, reply))
    except (WireError, TypeError, ValueError, OverflowError) as error:
        text = f"the answer cannot be sent: {error}"
        return pack(Answer(number, Failed("WireError", short(text), "")))


def pack_event(event: Event) -> bytes:
    """The event; what says why when it cannot be sent."""
    try:
        return pack(event)
    except (WireError, TypeError, ValueError, OverflowError) as error:
        text = f"vmlab: {type(event).__name__} cannot be sent: {error}"
        return pack(Said([Saying(time.monotonic(), "", "fault", short(text))]))


def decode(body: bytes, kind: Any) -> Any:
    """The message of type `kind`; WireError when it is none."""
    try:
        return (_decoders.get(kind) or _made(kind)).decode(body)
    # beside DecodeError, a ValueError: text that is no UTF-8, nesting without end
    except (ValueError, RecursionError) as error:
        raise WireError(f"a message that is none: {error}") from error


def _made(kind: Any) -> Any:
    with _making:
        if kind not in _decoders:
            _decoders[kind] = msgspec.msgpack.Decoder(kind)
        return _decoders[kind]


def receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    """`size` bytes, or None when the other side is gone."""
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        try:
            got = connection.recv_into(view[at:])
        except OSError:
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
    return None if body is None else decode(body, kind)


def result(command: Command, reply: Reply) -> Any:
    """What `command` returns; the exception that it ended with."""
    if isinstance(reply, Failed):
        raise_failure(reply)
    wanted = _ANSWERS.get(type(command), Done)
    if not isinstance(reply, wanted):
        raise WireError(f"{type(command).__name__} was answered with {type(reply).__name__}")
    return reply


def raise_failure(failed: Failed) -> None:
    """The error that a reply carries, as the exception of that name."""
    kind = getattr(errors, failed.error) if failed.error in errors.__all__ else VmlabError
    if kind is DeviceFault:
        raise DeviceFault(failed.text, traceback=failed.traceback)
    error = kind.__new__(kind)
    # the text is whole already: the constructor would put the class's words before it again
    Exception.__init__(error, failed.text)
    raise error
