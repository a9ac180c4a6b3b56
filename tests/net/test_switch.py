"""The switch: who gets which frame, and that nobody can stop it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.net.frames import BROADCAST, frame, mac, soon
from vmlab.errors import ConfigError
from vmlab.net.addresses import MAX_OF_PORT
from vmlab.net.hub import MAX_PORTS, QUEUE
from vmlab.net.observers import Port
from vmlab.net.stream import LENGTH, MAX_FRAME, connect, cut
from vmlab.virtio import Switch

pytestmark = pytest.mark.usefixtures("no_leaks")

A, B, C = mac(1), mac(2), mac(3)


class Station:
    """A connection as a VM has it."""

    def __init__(self, switch: Switch, own: bytes) -> None:
        ports = len(switch.ports)
        self.own = own
        self.socket = connect(switch.path)
        self.socket.settimeout(5)
        self._data = b""
        soon(lambda: len(switch.ports) == ports + 1)

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(LENGTH.pack(len(one)) + one for one in frames))

    def say(self, target: bytes, text: bytes = b"", size: int = 60) -> bytes:
        one = frame(target, self.own, text, size)
        self.send(one)
        return one

    def hear(self) -> bytes:
        """The next frame."""
        while True:
            found, _ = cut(self._data)
            if found:
                self._data = self._data[4 + len(found[0]) :]
                return found[0]
            data = self.socket.recv(1 << 18)
            assert data, "the switch hung up"
            self._data += data

    def hears_nothing(self, switch: Switch) -> bool:
        """Asked with a frame from elsewhere: what came before it would be heard first."""
        probe = frame(BROADCAST, mac(0xFFFF), os.urandom(8), 60)
        port = switch.attach(lambda _: None)
        assert port.send(probe)
        heard = self.hear()
        port.close()
        soon(lambda: all(row.name != "python" for row in switch.ports))
        return heard == probe

    def closed_by_peer(self) -> bool:
        while True:
            try:
                if not self.socket.recv(1 << 18):
                    return True
            except ConnectionError:
                return True

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch() as one:
        yield one


@pytest.fixture
def three(switch: Switch) -> Iterator[tuple[Station, Station, Station]]:
    stations = Station(switch, A), Station(switch, B), Station(switch, C)
    yield stations
    for one in stations:
        one.close()


Three = tuple[Station, Station, Station]


def test_an_unknown_address_is_flooded_a_known_one_is_not(switch: Switch, three: Three) -> None:
    a, b, c = three
    sent = a.say(B)
    assert b.hear() == sent
    assert c.hear() == sent
    answer = b.say(A)
    assert a.hear() == answer
    again = a.say(B, b"again")
    assert b.hear() == again
    assert c.hears_nothing(switch)


def test_broadcasts_and_groups_go_to_all_but_the_sender(switch: Switch, three: Three) -> None:
    a, b, c = three
    for target in (BROADCAST, b"\x33\x33\0\0\0\1"):
        sent = a.say(target)
        assert b.hear() == c.hear() == sent
    assert a.hears_nothing(switch)


def test_link_local_groups_are_not_passed_on(switch: Switch, three: Three) -> None:
    a, b, _ = three
    a.say(b"\x01\x80\xc2\0\0\x01")
    sent = a.say(BROADCAST)
    assert b.hear() == sent


def test_a_frame_to_oneself_goes_nowhere(switch: Switch, three: Three) -> None:
    a, b, _ = three
    a.say(BROADCAST)
    b.hear()
    a.say(A)
    sent = a.say(BROADCAST, b"next")
    assert b.hear() == sent


def test_a_station_that_moves_is_found(switch: Switch, three: Three) -> None:
    a, b, c = three
    b.say(BROADCAST)
    c.send(frame(BROADCAST, B, size=60))
    for one in (a, a, c, b):
        one.hear()
    sent = a.say(B)
    assert c.hear() == sent
    assert b.hears_nothing(switch)


def test_mixed_frames_keep_their_order_for_each_receiver(switch: Switch, three: Three) -> None:
    a, b, c = three
    b.say(BROADCAST)
    c.say(BROADCAST)
    for one in (a, a, b, c):
        one.hear()
    frames = [frame((B, C, BROADCAST)[n % 3], A, n.to_bytes(4, "big"), 60 + n) for n in range(300)]
    a.send(*frames)
    for station, missing in ((b, C), (c, B)):
        for one in (one for one in frames if one[:6] != missing):  # type: ignore[assignment]
            assert station.hear() == one  # type: ignore[comparison-overlap]
    assert [one.data for one in list(switch.frames)[-300:]] == frames


def test_frames_in_pieces(switch: Switch, three: Three) -> None:
    a, b, _ = three
    sent = frame(B, A, bytes(range(100)), MAX_FRAME)
    data = LENGTH.pack(len(sent)) + sent
    for at in (0, 1, 5, 100):
        part = data[at : {0: 1, 1: 5, 5: 100, 100: len(data)}[at]]
        a.socket.sendall(part)
        time.sleep(0.01)
    assert b.hear() == sent


def test_counters(switch: Switch, three: Three) -> None:
    a, b, c = three
    a.say(B, size=100)
    b.hear()
    c.hear()
    rows = {row.macs: row for row in switch.ports}
    first = rows[("02:56:4d:00:00:01",)]
    assert (first.frames_in, first.bytes_in, first.frames_out, first.drops) == (1, 100, 0, 0)
    assert sum(row.frames_out for row in switch.ports) == 2
    assert sum(row.bytes_out for row in switch.ports) == 200
    assert "02:56:4d:00:00:01" in repr(switch.ports)


# --- peers that mean no good ----------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_ends_the_connection(
    switch: Switch, three: Three, length: int
) -> None:
    a, b, _ = three
    before = frame(B, A, b"before", 60)
    a.socket.sendall(LENGTH.pack(60) + before + LENGTH.pack(length) + bytes(50))
    assert a.closed_by_peer()
    assert b.hear() == before
    assert switch.refused == 1
    assert len(switch.ports) == 2
    b.say(C)


def test_runts_are_dropped_and_counted(switch: Switch, three: Three) -> None:
    a, b, _ = three
    first, last = frame(B, A, b"1", 60), frame(B, A, b"2", 60)
    a.send(first, b"x", bytes(13), last)
    assert b.hear() == first
    assert b.hear() == last
    assert sum(row.drops for row in switch.ports) == 2


def test_half_a_frame_and_then_nothing(switch: Switch, three: Three) -> None:
    a, b, c = three
    a.socket.sendall(LENGTH.pack(1000) + bytes(10))
    a.close()
    soon(lambda: len(switch.ports) == 2)
    sent = b.say(C)
    assert c.hear() == sent


def test_a_slow_receiver_loses_its_own_frames_alone(switch: Switch, three: Three) -> None:
    a, b, c = three
    b.say(BROADCAST)
    c.say(BROADCAST)
    for one in (a, a, b, c):
        one.hear()
    count = 5000
    for number in range(count):
        a.send(frame(B, A, number.to_bytes(4, "big"), 1500))
    sent = a.say(C)
    assert c.hear() == sent
    row = switch.ports[1]
    taken = row.frames_out - 1  # without the broadcast of c
    assert taken + row.drops == count
    assert row.drops > 0
    # what it gets in the end are whole frames in their order, and then new ones again
    numbers = [int.from_bytes(b.hear()[14:18], "big") for _ in range(taken)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) * 1504 >= QUEUE
    last = a.say(B, b"last")
    assert b.hear() == last


def test_invented_senders_fill_their_own_share(switch: Switch, three: Three) -> None:
    a, b, c = three
    b.say(BROADCAST)
    a.send(*(frame(BROADCAST, mac(n), size=14) for n in range(1000, 6000)))
    soon(lambda: switch.ports[0].frames_in == 5000)
    rows = switch.ports
    assert len(rows[0].macs) == MAX_OF_PORT
    assert rows[1].macs == ("02:56:4d:00:00:02",)
    del c


def test_a_group_as_a_sender_is_not_learned(switch: Switch, three: Three) -> None:
    a, b, _ = three
    a.send(frame(BROADCAST, b"\x03\0\0\0\0\0", size=60))
    b.hear()
    assert switch.ports[0].macs == ()


def test_too_many_connections(switch: Switch) -> None:
    opened = [connect(switch.path) for _ in range(MAX_PORTS + 5)]
    soon(lambda: switch.refused == 5)
    assert len(switch.ports) == MAX_PORTS
    for one in opened:
        one.close()
    soon(lambda: not switch.ports)


def test_a_storm_between_two_ports_of_ones_own(switch: Switch) -> None:
    """Two callbacks that answer each other for ever do not keep others from being served."""
    ends: list[Port] = []

    def back(at: int, data: bytes) -> None:
        ends[at].send(data)

    one = switch.attach(partial(back, 1))
    two = switch.attach(partial(back, 0))
    ends += [one, two]
    soon(lambda: len(switch.ports) == 2)
    one.send(frame(BROADCAST, A, size=60))
    soon(lambda: switch.ports[0].frames_in > 20)
    station = Station(switch, C)
    sent = frame(BROADCAST, B, b"through", 60)
    third = switch.attach(lambda _: None)
    third.send(sent)
    soon(lambda: station.hear() == sent)
    for port in (one, two, third, station):
        port.close()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=100),
            st.binary(max_size=100).map(lambda data: LENGTH.pack(len(data)) + data),
            st.tuples(st.sampled_from([A, B, C, BROADCAST]), st.sampled_from([A, B, C])).map(
                lambda pair: LENGTH.pack(20) + frame(*pair, size=20)
            ),
        ),
        max_size=10,
    )
)
def test_any_bytes_end_their_own_connection_at_most(
    switch: Switch, three: Three, data: list[bytes]
) -> None:
    _, b, c = three
    with connect(switch.path) as wild:
        try:
            wild.sendall(b"".join(data))
        except OSError:
            pass  # the switch has hung up already
    soon(lambda: len(switch.ports) == 3)
    sent = b.say(BROADCAST, os.urandom(8))
    while c.hear() != sent:
        pass
    while three[0].hear() != sent:
        pass


# --- from Python ----------------------------------------------------------------------------------


def test_a_port_that_answers(switch: Switch) -> None:
    answers: list[bytes] = []
    server = switch.attach(lambda data: server.send(data[6:12] + data[:6] + data[12:]), "echo")
    client = switch.attach(answers.append)
    soon(lambda: len(switch.ports) == 2)
    assert client.send(frame(B, A, b"hello", 60))
    soon(lambda: answers == [frame(A, B, b"hello", 60)])
    assert switch.ports[0].name == "echo"
    assert server.mac == "02:56:4d:00:00:01"
    client.close()
    server.close()
    server.close()
    assert not server.send(frame(B, A, size=60))


@pytest.mark.parametrize("size", [0, 13, MAX_FRAME + 1])
def test_a_port_sends_frames_alone(switch: Switch, size: int) -> None:
    with switch.attach(lambda _: None) as port, pytest.raises(ConfigError, match="frame of"):
        port.send(bytes(size))


def test_a_callback_that_raises_loses_its_port(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(data: bytes) -> None:
        raise ZeroDivisionError

    port = switch.attach(broken)
    other = switch.attach(lambda _: None)
    soon(lambda: len(switch.ports) == 2)
    other.send(frame(BROADCAST, A, size=60))
    soon(lambda: len(switch.ports) == 1)
    assert "ZeroDivisionError" in caplog.text
    port.close()
    other.close()
