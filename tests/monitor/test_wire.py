"""The wire format: what fits goes through unchanged, everything else ends in words."""

from __future__ import annotations

import builtins
import socket
import threading
import types
import typing
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.inspect import type_info

from vmlab import errors
from vmlab.errors import (
    BusOverlap,
    ConfigError,
    DeviceFault,
    DeviceNotFound,
    IrqsExhausted,
    VmlabError,
    WireError,
)
from vmlab.machine.config import MachineConfig
from vmlab.monitor import wire


def through(message: msgspec.Struct, kind: Any) -> Any:
    """The message after its way through a socket."""
    here, there = socket.socketpair()
    with here, there:
        sender = threading.Thread(target=here.sendall, args=(wire.pack(message),))
        sender.start()
        try:
            return wire.receive(there, kind)
        finally:
            sender.join()


def raw(data: bytes, kind: Any = wire.FromMonitor) -> Any:
    here, there = socket.socketpair()
    with there:
        with here:
            here.sendall(data)
        return wire.receive(there, kind)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


#: what MessagePack has: integers of 64 bits, text without lone surrogates, no NaN
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    bytes: st.binary(max_size=20),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}
PLAIN[Any] = st.one_of(PLAIN[int], PLAIN[str], PLAIN[bytes], PLAIN[bool], st.none())


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of the type, records included."""
    parts = [
        values(part) for part in get_args(kind) if part is not ... and not isinstance(part, str)
    ]
    match get_origin(kind) or kind:
        case types.UnionType | typing.Union:
            return st.one_of(parts)
        case typing.Literal:
            return st.sampled_from(get_args(kind))
        case builtins.list:
            return st.lists(parts[0], max_size=3)
        case builtins.tuple:
            return st.tuples(*parts)
        case builtins.dict:
            return st.dictionaries(*parts, max_size=3)
    if kind in PLAIN:
        return PLAIN[kind]
    return st.builds(kind, **{n: values(t) for n, t in typing.get_type_hints(kind).items()})


@settings(max_examples=150, deadline=None)
@given(values(wire.Request))
def test_every_request_goes_through(request: wire.Request) -> None:
    assert through(request, wire.Request) == request


@settings(max_examples=150, deadline=None)
@given(values(wire.FromMonitor))
def test_every_message_of_the_monitor_goes_through(message: msgspec.Struct) -> None:
    assert through(message, wire.FromMonitor) == message


def test_nothing_in_a_message_of_the_monitor_can_carry_an_object() -> None:
    """Records, numbers and text alone: no raw, no extension, no custom type."""
    allowed = {"IntType", "FloatType", "StrType", "BoolType", "BytesType", "NoneType", "AnyType"}
    allowed |= {"LiteralType", "UnionType", "ListType", "TupleType", "DictType", "StructType"}
    seen: set[int] = set()

    def walk(one: Any) -> None:
        if id(one) in seen or not hasattr(one, "__struct_fields__"):
            return
        seen.add(id(one))
        name = type(one).__name__
        if name.endswith("Type"):
            assert name in allowed or name == "VarTupleType", name
        for field in one.__struct_fields__:
            value = getattr(one, field)
            for part in value if isinstance(value, tuple) else (value,):
                walk(part)

    walk(type_info(wire.FromMonitor))


# --- messages that are none -----------------------------------------------------------------------


def test_the_end_between_and_inside_messages() -> None:
    whole = wire.pack(wire.Output(b"hello"))
    for length in range(len(whole)):
        assert raw(whole[:length]) is None


def test_a_length_past_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match=f"at most {wire.MAX_MESSAGE}"):
        raw((wire.MAX_MESSAGE + 1).to_bytes(4, "little"))
    with pytest.raises(WireError):
        raw(b"\xff\xff\xff\xff" + b"x" * 100)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91" * 200_000,
        b"\x81" * 200_000,
        b"\x81\xa1\xff\x01",
        b"\x82\xa4type\xa6Output\xa4data\xa3abc" + b"trailing",
        msgspec.msgpack.encode({"type": "Output"}),
        msgspec.msgpack.encode({"type": "Output", "data": 7}),
        msgspec.msgpack.encode({"type": "Start"}),
        msgspec.msgpack.encode({"type": "State", "state": "exploded", "exit": None, "fault": None}),
        msgspec.msgpack.encode({"type": "Answer", "number": "1", "reply": {"type": "Done"}}),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x80\x04.")),
        b"\x80\x04\x95",
    ],
)
def test_garbage(body: bytes) -> None:
    with pytest.raises(WireError):
        raw(framed(body))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes) -> None:
    for body in (data, wire.pack(wire.Output(b"x"))[4:] + data):
        for kind in (wire.FromMonitor, wire.Request):
            try:
                wire.decode(body, kind)
            except WireError:
                pass


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (wire.Step("1", 1), "Expected `int`"),  # type: ignore[arg-type]
        (wire.Step(0, 1.5), "Expected `int`"),  # type: ignore[arg-type]
        (wire.SetRegs(0, {"rip": 1 << 70}), "setregs"),
        (wire.SetRegs(0, {"rip": None}), "Expected `int`"),  # type: ignore[dict-item]
        (wire.Peek("\ud800"), "peek"),
        (wire.HotRemove("x", object()), "hotremove"),  # type: ignore[arg-type]
        (wire.Send(bytes(wire.MAX_MESSAGE + 1)), "at most"),
    ],
)
def test_a_request_with_wrong_values_is_refused_where_it_is_made(command: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        wire.pack_request(1, command)


@pytest.mark.parametrize(
    "reply",
    [
        wire.Registers({"X": 1 << 80}),
        wire.Failed("VmlabError", "\ud800", ""),
        wire.Registers({"X": object()}),  # type: ignore[dict-item]
        wire.Failed("VmlabError", "x" * (wire.MAX_MESSAGE + 1), ""),
    ],
)
def test_an_answer_that_cannot_be_sent_says_so(reply: Any) -> None:
    answer = wire.decode(wire.pack_answer(7, reply)[4:], wire.FromMonitor)
    assert answer.number == 7
    assert answer.reply.error == "WireError"


# --- what commands end in --------------------------------------------------------------------------


def test_each_command_has_one_kind_of_answer() -> None:
    config = MachineConfig("k")
    assert wire.result(wire.Start(), wire.Done()) == wire.Done()
    for command in (wire.Build(config, []), wire.Look(), wire.Peek("x"), wire.Exits()):
        with pytest.raises(WireError, match="was answered with Done"):
            wire.result(command, wire.Done())


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_keep_their_class_and_their_text(name: str) -> None:
    with pytest.raises(getattr(errors, name)) as caught:
        wire.raise_failure(wire.Failed(name, "some text", ""))
    assert str(caught.value) == "some text"


@pytest.mark.parametrize("error", [IrqsExhausted(), DeviceNotFound("'x'"), BusOverlap(" a b")])
def test_the_contracts_words_are_not_said_twice(error: VmlabError) -> None:
    with pytest.raises(type(error)) as caught:
        wire.raise_failure(wire.Failed(type(error).__name__, str(error), ""))
    assert str(caught.value) == str(error)


@pytest.mark.parametrize("name", ["", "annotations", "_Worded", "__doc__", "SystemExit", "x" * 99])
def test_an_error_of_no_known_name_is_a_vmlab_error(name: str) -> None:
    with pytest.raises(VmlabError, match="text"):
        wire.raise_failure(wire.Failed(name, "text", ""))


def test_a_devices_failure_brings_its_traceback() -> None:
    with pytest.raises(DeviceFault) as caught:
        wire.raise_failure(wire.Failed("DeviceFault", "it broke", "Traceback ..."))
    assert caught.value.traceback == "Traceback ..."


def test_decoders_are_made_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec crashes when two threads look into the same records for the first time."""
    import time

    made: list[object] = []
    real = msgspec.msgpack.Decoder

    def slowly(kind: object) -> object:
        made.append(kind)
        time.sleep(0.1)
        return real(kind)

    monkeypatch.setattr(wire, "_decoders", {})
    monkeypatch.setattr(msgspec.msgpack, "Decoder", slowly)
    barrier = threading.Barrier(3)

    def ask() -> None:
        barrier.wait()
        wire.pack_request(1, wire.Pause())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [wire.Request]
