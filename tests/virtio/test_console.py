"""The console device (virtio 1.2 §5.3), driven by a mock."""

from __future__ import annotations

import pickle
import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab.errors import ConfigError
from vmlab.testing.driver import Driver
from vmlab.virtio.console import Console
from vmlab.virtio.ports import (
    BACKLOG,
    CONSOLE_PORT,
    DEVICE_ADD,
    DEVICE_READY,
    DEVICE_REMOVE,
    F_EMERG_WRITE,
    F_MULTIPORT,
    F_SIZE,
    PORT_NAME,
    PORT_OPEN,
    PORT_READY,
    RESIZE,
    SLICE,
)
from vmlab.virtio.registers import CONFIG_CHANGE, VERSION_1

pytestmark = pytest.mark.usefixtures("no_leaks")


class Guest(Driver):
    """A driver of a console that keeps what came out of it."""

    def __init__(self, console: Console, **options: Any) -> None:
        self.said: dict[int, bytes] = defaultdict(bytes)
        self.console = console
        super().__init__(console, **options)
        self.transport.on_output = self.hear

    def hear(self, data: bytes, port: int) -> None:
        self.said[port] += data

    def control(self, port: int, event: int, value: int = 0) -> None:
        self.request(3, [struct.pack("<IHH", port, event, value)])

    def messages(self, count: int) -> list[tuple[Any, ...]]:
        """(port, event, value, what follows) of the next `count` control messages."""
        found: list[tuple[Any, ...]] = []
        for _ in range(count):
            data = self.request(2, [], [64])
            found.append((*struct.unpack_from("<IHH", data), data[8:]))
        return found

    def open(self, port: int) -> None:
        self.control(port, PORT_READY, 1)
        self.messages(4)
        self.control(port, PORT_OPEN, 1)

    def come_up(self) -> None:
        self.control(0, DEVICE_READY, 1)
        self.messages(self.console.ports)


# --- one port -----------------------------------------------------------------------------------------


def test_output_and_input() -> None:
    with Guest(Console()) as guest:
        assert guest.offered() & (F_SIZE | F_MULTIPORT | F_EMERG_WRITE) == F_SIZE | F_EMERG_WRITE
        assert list(guest.rings) == [0, 1]
        guest.request(1, [b"hel", b"", b"lo\n"])
        assert guest.said == {0: b"hello\n"}
        waits = guest.submit(0, [], [4, 4])
        assert guest.console.send("typed\n") == 6
        guest.wait(0, waits)
        assert waits.result == b"typed\n"
        assert guest.mistakes == []


def test_input_waits_for_the_driver_and_for_buffers() -> None:
    with Guest(Console(), initialise=False) as guest:
        guest.console.send(b"early ")
        guest.initialise()
        guest.console.send(b"bird")
        assert guest.request(0, [], [3]) == b"ear"
        assert guest.request(0, [], [100]) == b"ly bird"
        seen = guest.console.inspect()["ports"][0]
        assert (seen["bytes_in"], seen["waiting"]) == (10, 0)


def test_the_backlog_is_bounded() -> None:
    with Guest(Console()) as guest:
        assert guest.console.send(b"x" * (BACKLOG - 10)) == BACKLOG - 10
        assert guest.console.send(b"y" * 100) == 10
        assert guest.console.send(b"z") == 0
        got = b""
        while len(got) < BACKLOG:
            got += guest.request(0, [], [300_000])
        assert got == b"x" * (BACKLOG - 10) + b"y" * 10
        assert guest.console.send("ü") == 2


def test_output_of_any_size_comes_in_pieces_and_in_order() -> None:
    data = bytes(range(256)) * (5 * SLICE // 256) + b"end"
    with Guest(Console()) as guest:
        pieces: list[int] = []
        hear = guest.hear
        guest.transport.on_output = lambda data, port: (pieces.append(len(data)), hear(data, port))  # type: ignore[assignment]
        guest.request(1, [data[:100], data[100:]])
        assert guest.said[0] == data
        assert pieces == [SLICE] * 5 + [3]


def test_a_reset_ends_output_under_way() -> None:
    """The same memory named again and again: gigabytes, of which a reset stops the rest."""
    with Guest(Console(), memory="16M") as guest:
        ring, place = guest.rings[1], guest.arena.take(8 << 20)
        for index in range(ring.size):
            ring.write_descriptor(
                index, place, 8 << 20, 1 if index < ring.size - 1 else 0, index + 1
            )
        count = 0

        def hear(data: bytes, port: int) -> None:
            nonlocal count
            count += len(data)

        guest.transport.on_output = hear
        ring.write_avail(0, 0)
        ring.avail_idx = 1
        guest.write("QueueNotify", 1)
        guest.wait_for(lambda: count > SLICE)
        guest.status = 0
        before = count
        assert before < ring.size * (8 << 20)
        guest.initialise()
        guest.transport.on_output = guest.hear
        guest.request(1, [b"again"])
        assert guest.said == {0: b"again"}
        assert count == before


def test_resize_changes_the_configuration_space() -> None:
    """virtio 1.2 §5.3.4, §5.3.5"""
    with Guest(Console(cols=100, rows=30)) as guest:
        assert (guest.read_config(0, 2), guest.read_config(2, 2)) == (100, 30)
        guest.acknowledge()
        guest.console.resize(132, 43)
        assert guest.acknowledge() & CONFIG_CHANGE
        assert (guest.read_config(0, 2), guest.read_config(2, 2)) == (132, 43)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_emergency_writes_come_out_before_there_is_a_driver(size: int) -> None:
    """virtio 1.2 §5.3.4"""
    with Guest(Console(), initialise=False) as guest:
        for byte in b"!x":
            guest.write_config(8, size, byte)
        assert guest.said == {0: b"!x"}
        assert guest.read_config(8, 4) == 0
        guest.write_config(4, 4, 7)
        guest.write_config(9, 1, 7)
        assert len(guest.mistakes) == 2


def test_multiport_needs_several_ports() -> None:
    console = Console()
    with Guest(console):
        calls: list[Callable[[], object]] = [
            console.connect,
            lambda: console.remove_port(0),
            lambda: console.add_port(0),
        ]
        for call in calls:
            with pytest.raises(ConfigError, match="ports=2"):
                call()


# --- several ports ------------------------------------------------------------------------------------


def test_the_handshake() -> None:
    """virtio 1.2 §5.3.6.2: DEVICE_READY, DEVICE_ADD, PORT_READY, CONSOLE_PORT, ..., PORT_OPEN."""
    with Guest(Console(ports=3, cols=80, rows=25)) as guest:
        assert guest.read_config(4, 4) == 3
        assert list(guest.rings) == list(range(8))
        guest.control(0, DEVICE_READY, 1)
        assert guest.messages(3) == [(port, DEVICE_ADD, 0, b"") for port in range(3)]
        guest.control(1, PORT_READY, 1)
        assert guest.messages(4) == [
            (1, CONSOLE_PORT, 1, b""),
            (1, RESIZE, 0, struct.pack("<HH", 80, 25)),
            (1, PORT_NAME, 1, b"vmlab.1"),
            (1, PORT_OPEN, 1, b""),
        ]
        guest.control(1, PORT_OPEN, 1)
        assert guest.console.inspect()["ports"][1]["guest_open"]
        guest.control(1, PORT_OPEN, 0)
        assert not guest.console.inspect()["ports"][1]["guest_open"]
        assert guest.mistakes == []


@pytest.mark.parametrize(("port", "rx"), [(0, 0), (1, 4), (2, 6)])
def test_each_port_has_its_queues(port: int, rx: int) -> None:
    """virtio 1.2 §5.3.2; input goes only into a port that the guest has opened."""
    with Guest(Console(ports=3)) as guest:
        guest.come_up()
        request = guest.submit(rx, [], [64])
        guest.console.send(f"for {port}", port)
        guest.control(port, PORT_READY, 1)
        guest.messages(4)
        assert not guest.poll(rx)
        guest.control(port, PORT_OPEN, 1)
        guest.wait(rx, request)
        assert request.result == f"for {port}".encode()
        guest.request(rx + 1, [f"from {port}".encode()])
        assert guest.said == {port: f"from {port}".encode()}


def test_resize_of_a_port_is_a_message() -> None:
    with Guest(Console(ports=2)) as guest:
        guest.come_up()
        guest.console.resize(132, 43, port=1)
        assert guest.messages(1) == [(1, RESIZE, 0, struct.pack("<HH", 132, 43))]
        assert (guest.read_config(0, 2), guest.read_config(2, 2)) == (80, 25)
        guest.console.resize(90, 20)
        assert guest.messages(1) == [(0, RESIZE, 0, struct.pack("<HH", 90, 20))]
        assert (guest.read_config(0, 2), guest.read_config(2, 2)) == (90, 20)
        guest.control(1, PORT_READY, 1)
        assert guest.messages(2)[1] == (1, RESIZE, 0, struct.pack("<HH", 132, 43))


def test_this_end_of_a_port_opens_and_closes() -> None:
    with Guest(Console(ports=2)) as guest:
        guest.come_up()
        guest.console.connect(1, False)
        assert guest.messages(1) == [(1, PORT_OPEN, 0, b"")]
        guest.control(1, PORT_READY, 1)
        assert guest.messages(4)[3] == (1, PORT_OPEN, 0, b"")
        guest.console.connect(1)
        assert guest.messages(1) == [(1, PORT_OPEN, 1, b"")]


def test_a_port_is_taken_out_and_put_back() -> None:
    with Guest(Console(ports=2)) as guest:
        guest.come_up()
        guest.open(1)
        guest.console.send("lost", 1)
        guest.console.remove_port(1)
        guest.console.remove_port(1)
        assert guest.messages(1) == [(1, DEVICE_REMOVE, 0, b"")]
        guest.request(5, [b"too late"])
        guest.control(1, PORT_READY, 1)
        assert len(guest.mistakes) == 2
        guest.console.add_port(1)
        guest.console.add_port(1)
        assert guest.messages(1) == [(1, DEVICE_ADD, 0, b"")]
        guest.open(1)
        guest.console.send("back", 1)
        assert guest.request(4, [], [64]) == b"back"
        guest.console.remove_port(0)
        guest.initialise()
        guest.control(0, DEVICE_READY, 1)
        assert guest.messages(1) == [(1, DEVICE_ADD, 0, b"")]


def test_a_driver_without_multiport_has_port_0() -> None:
    with Guest(Console(ports=3), features=VERSION_1 | F_SIZE) as guest:
        guest.console.send("plain")
        assert guest.request(0, [], [64]) == b"plain"
        guest.request(1, [b"out"])
        assert guest.said == {0: b"out"}
        for queue, out, room in ((2, [], [64]), (3, [b"x" * 8], []), (5, [b"x"], [])):
            assert guest.request(queue, out, room) == b""
        assert [text.split()[4] for text in guest.mistakes] == ["2", "3", "5"]
        guest.acknowledge()
        guest.console.resize(1, 2)
        assert guest.acknowledge() & CONFIG_CHANGE


# --- hostile guests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"\0" * 7,
        b"\0",
        struct.pack("<IHH", 2, PORT_READY, 1),
        struct.pack("<IHH", 0xFFFF_FFFF, PORT_OPEN, 1),
        struct.pack("<IHH", 0, 99, 1),
        struct.pack("<IHH", 0, DEVICE_ADD, 1),
        struct.pack("<IHH", 0, DEVICE_READY, 0),
        struct.pack("<IHH", 0, PORT_READY, 0),
    ],
    ids=bytes.hex,
)
def test_control_messages_that_are_none(message: bytes) -> None:
    with Guest(Console(ports=2)) as guest:
        guest.request(3, [message])
        assert len(guest.mistakes) == 1
        guest.come_up()
        assert not guest.needs_reset()


def test_what_follows_a_control_message_is_ignored() -> None:
    data = struct.pack("<IHH", 0, DEVICE_READY, 1) + b"x" * 100_000
    with Guest(Console(ports=2)) as guest:
        guest.request(3, [data[:5], b"", data[5:]])
        assert guest.messages(2) == [(port, DEVICE_ADD, 0, b"") for port in range(2)]
        assert guest.mistakes == []


def test_a_driver_that_asks_and_never_listens_does_not_fill_the_host() -> None:
    with Guest(Console(ports=31)) as guest:
        for _ in range(100):
            guest.control(0, DEVICE_READY, 1)
        assert len(guest.console._control) == 1024
        assert guest.mistakes
        assert set(guest.mistakes) == {
            "the driver does not take its control messages; one is dropped"
        }


def test_buffers_for_input_without_room() -> None:
    with Guest(Console(ports=2)) as guest:
        guest.control(0, DEVICE_READY, 1)
        assert guest.request(2, [b"out"]) == b""
        assert guest.request(2, [], [0, 0]) == b""
        assert guest.request(2, [], [3]) == b"\0\0\0"
        assert len(guest.mistakes) == 3
        guest.control(0, PORT_OPEN, 1)
        guest.console.send("hello")
        assert guest.request(0, [b"readable"]) == b""
        assert guest.request(0, [], [64]) == b"hello"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("control"), st.binary(max_size=20)),
            st.tuples(
                st.just("event"),
                st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 2)),
            ),
            st.tuples(st.just("out"), st.integers(0, 3)),
            st.tuples(st.just("in"), st.tuples(st.sampled_from([0, 2, 4, 6]), st.integers(0, 20))),
            st.tuples(st.just("send"), st.integers(0, 2)),
            st.tuples(st.just("remove"), st.integers(0, 2)),
            st.tuples(st.just("add"), st.integers(0, 2)),
            st.tuples(st.just("resize"), st.integers(0, 2)),
            st.tuples(st.just("reset"), st.none()),
        ),
        max_size=30,
    )
)
def test_any_guest_leaves_it_working(steps: list[tuple[str, Any]]) -> None:
    with Guest(Console(ports=3), event_idx=True) as guest:
        for what, how in steps:
            match what:
                case "control":
                    guest.request(3, [how or b"?"])
                case "event":
                    guest.control(*how)
                case "out":
                    guest.request([1, 5, 7, 3][how], [b"data", b""])
                case "in":
                    queue, size = how
                    if len(guest.rings[queue].free) > 2:
                        guest.submit(queue, [], [size, 1])
                case "send":
                    guest.console.send(b"input", how)
                case "remove":
                    guest.console.remove_port(how)
                case "add":
                    guest.console.add_port(how)
                case "resize":
                    guest.console.resize(how, how, how)
                case "reset":
                    guest.initialise()
            assert not guest.needs_reset()
        guest.initialise()
        for port in range(3):
            guest.console.add_port(port)
        guest.come_up()
        guest.open(1)
        guest.request(5, [b"alive"])
        assert guest.said[1].endswith(b"alive")


# --- the constructor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ports": 0}, "ports=0; a console has 1 to 31"),
        ({"ports": 32}, "ports=32"),
        ({"cols": -1}, "cols=-1"),
        ({"rows": 65536}, "rows=65536"),
        ({"notify": "x"}, "notify='x'"),
    ],
)
def test_what_can_be_no_console(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Console(**options)


def test_ports_that_are_not_there() -> None:
    console = Console(ports=2)
    with Guest(console):
        for port in (-1, 2):
            with pytest.raises(ConfigError, match=f"no port {port}; there are 0 to 1"):
                console.send("x", port)


def test_it_travels() -> None:
    console = Console(ports=2)
    with Guest(console):
        copy = pickle.loads(pickle.dumps(console))
    with Guest(copy) as guest:
        guest.come_up()
