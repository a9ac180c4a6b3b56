"""Which frames a driver gets, and the control queue by which it says so (virtio 1.2 §5.1.6.5)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.net.frames import (
    BROADCAST,
    CONTROL,
    OWN,
    Peer,
    Plug,
    buffers,
    frame,
    mac,
    received,
)
from vmlab.testing import Driver
from vmlab.virtio.registers import VERSION_1
from vmlab.virtio.rxfilter import RxFilter

pytestmark = pytest.mark.usefixtures("no_leaks")

ME, OTHER = bytes.fromhex(OWN.replace(":", "")), mac(9)


def ack(driver: Driver, *parts: bytes) -> int:
    return driver.request(CONTROL, out=b"".join(parts), in_=1)[0]


def tables(stations: list[bytes], groups: list[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(4, "little") + b"".join(one) for one in (stations, groups))


GROUP, GROUP2 = b"\x01\0\x5e\0\0\1", b"\x33\x33\0\0\0\1"


def heard(driver: Driver, peer: Peer, *targets: bytes) -> list[bytes]:
    """Which of the targets' frames the driver gets."""
    last = frame(ME, OTHER, b"last", 60)
    peer.send(*(frame(target, OTHER, b"x", 60) for target in targets), last)
    found: list[bytes] = []
    buffers(driver, len(targets) + 1)
    while (one := received(driver)[0]) != last:
        found.append(one[:6])
    return found


def test_before_the_driver_asks(plug: Plug, peer: Peer) -> None:
    """§5.1.6.5.2: frames for the own address alone, and broadcasts; no groups: it can ask for them."""
    assert heard(plug(), peer, OTHER, ME, GROUP, BROADCAST) == [ME, BROADCAST]


def test_a_driver_that_cannot_ask_gets_every_group(plug: Plug, peer: Peer) -> None:
    driver = plug(features=VERSION_1 | 1 << 5)
    assert heard(driver, peer, OTHER, GROUP, BROADCAST) == [GROUP, BROADCAST]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (0, [OTHER, ME, GROUP, BROADCAST]),
        (1, [ME, GROUP, BROADCAST]),
        (2, [OTHER, ME, BROADCAST]),
        (3, [ME, BROADCAST]),
        (5, [ME]),
    ],
)
def test_modes(plug: Plug, peer: Peer, command: int, expected: list[bytes]) -> None:
    """§5.1.6.5.1"""
    driver = plug()
    assert ack(driver, bytes([0, command, 1])) == 0
    assert heard(driver, peer, OTHER, ME, GROUP, BROADCAST) == expected
    assert ack(driver, bytes([0, command, 0])) == 0
    assert heard(driver, peer, OTHER, ME, GROUP, BROADCAST) == [ME, BROADCAST]


def test_no_unicast(plug: Plug, peer: Peer) -> None:
    driver = plug()
    assert ack(driver, bytes([0, 4, 1])) == 0
    peer.send(frame(ME, OTHER, size=60), frame(BROADCAST, OTHER, size=60))
    buffers(driver)
    assert received(driver)[0][:6] == BROADCAST


def test_tables(plug: Plug, peer: Peer) -> None:
    driver = plug()
    assert ack(driver, b"\1\0", tables([OTHER], [GROUP])) == 0
    assert heard(driver, peer, OTHER, mac(3), GROUP, GROUP2) == [OTHER, GROUP]
    assert ack(driver, b"\1\0", tables([], [])) == 0
    assert heard(driver, peer, OTHER, mac(3), GROUP, GROUP2) == []


def test_a_table_too_long_lets_all_in(plug: Plug, peer: Peer) -> None:
    driver = plug()
    assert ack(driver, b"\1\0", tables([], [b"\1" + n.to_bytes(5, "big") for n in range(300)])) == 0
    assert heard(driver, peer, OTHER, GROUP, GROUP2) == [GROUP, GROUP2]


def test_another_address(plug: Plug, peer: Peer) -> None:
    driver = plug()
    assert ack(driver, b"\1\1", OTHER) == 0
    assert bytes(driver.read_config(at, 1) for at in range(6)) == OTHER
    peer.send(frame(ME, OTHER, size=60), frame(OTHER, ME, size=60))
    buffers(driver)
    assert received(driver)[0][:6] == OTHER


def test_a_reset_forgets_what_was_asked(plug: Plug, peer: Peer) -> None:
    """§5.1.6.5.2: the table is empty on reset."""
    driver = plug()
    assert ack(driver, b"\1\0", tables([mac(3)], [GROUP])) == 0
    assert ack(driver, b"\1\1", OTHER) == 0
    assert ack(driver, b"\0\0\1") == 0
    driver.initialise()
    assert bytes(driver.read_config(at, 1) for at in range(6)) == ME
    assert heard(driver, peer, OTHER, mac(3), GROUP, BROADCAST) == [BROADCAST]


BAD = [
    b"",
    b"\0",
    b"\0\0",
    b"\0\0\2",
    b"\0\0\1\1",
    b"\0\6\1",
    b"\1\2" + ME,
    b"\1\1" + ME[:5],
    b"\1\1" + GROUP,
    b"\1\0",
    b"\1\0\0\0\0",
    b"\1\0" + b"\xff" * 8,
    b"\1\0" + tables([OTHER], []) + b"\0",
    b"\1\0" + b"\2\0\0\0" + bytes(6) + b"\0\0\0\0",
    b"\2\0\0\0",
    b"\4\0\1\0",
    b"\xff" * 100,
    bytes(20_000),
]


@pytest.mark.parametrize("data", BAD, ids=lambda data: data[:8].hex() or "nothing")
def test_bad_commands_get_an_error(plug: Plug, peer: Peer, data: bytes) -> None:
    driver = plug()
    assert driver.request(CONTROL, out=data, in_=1) == b"\1"
    assert driver.mistakes
    assert heard(driver, peer, OTHER, ME, GROUP, BROADCAST) == [ME, BROADCAST]


def test_commands_without_room_for_the_answer(plug: Plug) -> None:
    driver = plug()
    assert driver.request(CONTROL, out=b"\0\0\1") == b""
    assert driver.request(CONTROL, out=b"\0\0\1", in_=0) == b""
    assert driver.request(CONTROL, in_=1) == b"\1"
    assert len(driver.mistakes) == 3


@given(st.integers(0, 3), st.integers(0, 7), st.binary(max_size=100))
def test_any_command_is_obeyed_or_refused(kind: int, number: int, data: bytes) -> None:
    before = RxFilter(ME)
    after = RxFilter(ME)
    trouble = after.command(kind, number, data)
    if trouble:
        assert after.inspect() == before.inspect()
        assert after.mac == ME
    assert after.wants(after.mac) or after.modes["nouni"]
    after.wants(BROADCAST)
    after.inspect()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(data=st.lists(st.binary(max_size=40), min_size=1, max_size=4), room=st.integers(0, 3))
def test_any_request_on_the_control_queue_is_answered(
    any_driver: Driver, data: list[bytes], room: int
) -> None:
    answer = any_driver.request(CONTROL, out=data, in_=room)
    assert answer in ((b"\0", b"\1") if room else (b"",))


@pytest.fixture
def any_driver(plug: Plug) -> Driver:
    return plug()
