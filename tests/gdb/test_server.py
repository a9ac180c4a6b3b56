"""The server and clients that mean no good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gdb.lab import Client
from tests.support import require_module
from vmlab import VM
from vmlab.errors import ConfigError, StateError
from vmlab.gdb.packets import PACKET_SIZE, Framer, Signal, encode, escape, unescape

_LETTERS = b"?gGpPmMXcsHTDkzZqQvRx"


@pytest.fixture(scope="module")
def vm() -> Iterator[VM]:
    require_module("unicorn")
    with VM("monitor", engine="soft") as made:
        made.console.expect("vmlab> ")
        yield made


@given(st.binary(max_size=200), st.integers(1, 7))
def test_packets_come_in_any_portions(data: bytes, portion: int) -> None:
    sent = encode(escape(data))
    framer, found = Framer(), []
    for at in range(0, len(sent), portion):
        found += framer.feed(sent[at : at + portion])
    assert len(found) == 1
    assert isinstance(found[0], bytes)
    assert unescape(found[0]) == data


@given(st.binary(max_size=2000))
def test_garbage_makes_no_packet_that_does_not_match_its_checksum(data: bytes) -> None:
    for one in Framer().feed(data):
        assert isinstance(one, Signal) or len(one) <= PACKET_SIZE


def test_a_packet_without_end_is_bounded() -> None:
    framer = Framer()
    assert framer.feed(b"$" + b"a" * 5_000_000 + b"#00") == [Signal.BAD]
    assert len(framer._data) <= PACKET_SIZE
    assert framer.feed(encode(b"g")) == [b"g"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(_LETTERS)), st.binary(max_size=60))
def test_any_packet_is_answered_in_words_of_the_protocol(vm: VM, letter: int, rest: bytes) -> None:
    if bytes((letter,)) in (b"k", b"D", b"c", b"s") or rest.startswith((b"Kill", b"Cont")):
        letter = ord("m")
    if vm.state == "stopped":
        vm.start()
    with vm.gdb() as server:
        client = Client(server.port)
        try:
            client.send(encode(escape(bytes((letter,)) + rest)))
            client.send(encode(b"qC"))
            seen = [client.packet()]
            while not seen[-1].startswith(b"QC"):
                seen.append(client.packet())
                assert seen[-1], "the server has hung up"
        finally:
            client.close()
    vm.wait_until(lambda v: v.state == "running")


def test_a_bad_checksum_is_asked_for_again(vm: VM) -> None:
    with vm.gdb() as server:
        client = Client(server.port)
        client.send(b"$g#00")
        assert client.socket.recv(1) == b"-"
        assert client.ask(b"qC") == b"QC1"
        client.close()


def test_a_second_client_is_refused_in_words(vm: VM) -> None:
    with vm.gdb() as server:
        first = Client(server.port)
        assert first.ask(b"qC") == b"QC1"
        second = Client(server.port)
        assert b"another gdb" in second.packet()
        assert second.packet() == b""
        second.close()
        assert first.ask(b"qC") == b"QC1"
        first.close()


def test_a_client_that_vanishes_leaves_a_guest_that_runs(vm: VM) -> None:
    with vm.gdb() as server:
        client = Client(server.port)
        assert client.ask(b"?").startswith(b"T")
        assert client.ask(b"Z0,100000,1") == b"OK"
        assert len(vm.breakpoints) == 1
        client.send(b"$m0,")  # half a packet
        client.close()
        vm.wait_until(lambda v: v.state == "running" and not len(v.breakpoints))
        again = Client(server.port)
        assert again.ask(b"qC") == b"QC1"
        again.close()
    assert vm.console.run("help")


def test_what_cannot_be_is_said(vm: VM) -> None:
    with vm.gdb() as server:
        with pytest.raises(StateError, match="served already"):
            vm.gdb()
        client = Client(server.port)
        assert client.ask(b"nonsense") == b""
        assert client.ask(b"vMustReplyEmpty") == b""
        assert client.ask(b"m700000000000,4") == b"E14"
        assert client.ask(b"p7fff") == b"E01"
        assert client.ask(b"Z2,700000000000,4").startswith(b"E.")
        assert client.ask(b"T99") == b"E01"
        client.close()
    for port in (-1, 1 << 16, "1234", True):
        with pytest.raises(ConfigError, match="0 \\(any that is free\\) to 65535"):
            vm.gdb(port)  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_said(vm: VM) -> None:
    with vm.gdb() as server, VM("hello", engine="soft") as other:
        _refused(other, server.port)


def _refused(vm: VM, port: int) -> None:
    with pytest.raises(ConfigError, match="cannot be served at"):
        vm.gdb(port)
