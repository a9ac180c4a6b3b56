"""The network device against a peer that speaks as passt does."""

from __future__ import annotations

import itertools
import pickle
import socket
from pathlib import Path

import pytest

from tests.net.frames import (
    HEADER,
    OWN,
    RX,
    TX,
    Peer,
    Plug,
    buffers,
    frame,
    mac,
    nic_of,
    received,
    soon,
)
from vmlab.catalogue import make
from vmlab.errors import ConfigError, StateError
from vmlab.net.stream import LENGTH
from vmlab.testing import Driver, DriverError
from vmlab.virtio import Nic, Switch
from vmlab.virtio.registers import VERSION_1

pytestmark = pytest.mark.usefixtures("no_leaks")

ME, OTHER = bytes.fromhex(OWN.replace(":", "")), mac(9)


# --- what the driver sees -------------------------------------------------------------------------


def test_features_and_configuration(plug: Plug) -> None:
    driver = plug(mtu=9000)
    assert driver.read("DeviceID") == 1
    features = driver.offered()
    for bit in (3, 5, 16, 17, 18, 20, 23):  # MTU MAC STATUS CTRL_VQ CTRL_RX RX_EXTRA CTRL_MAC_ADDR
        assert features >> bit & 1, bit
    for bit in (0, 1, 7, 8, 11, 12, 15, 22):  # no offload, no merging, one pair of queues
        assert not features >> bit & 1, bit
    assert bytes(driver.read_config(at, 1) for at in range(6)) == ME
    assert driver.read_config(6, 2) == 1
    assert driver.read_config(10, 2) == 9000


def test_no_mtu_no_feature(plug: Plug) -> None:
    assert not plug().offered() >> 3 & 1


def test_the_configuration_is_not_for_writing(plug: Plug) -> None:
    driver = plug()
    driver.write_config(0, 4, 0xFFFF_FFFF)
    assert bytes(driver.read_config(at, 1) for at in range(6)) == ME
    assert driver.mistakes


@pytest.mark.parametrize("bit", [18, 23])
def test_control_features_need_the_control_queue(plug: Plug, bit: int) -> None:
    """virtio 1.2 §5.1.3.1"""
    driver = plug()
    driver.start_over()
    with pytest.raises(DriverError):
        driver.negotiate(VERSION_1 | 1 << bit)


# --- frames ---------------------------------------------------------------------------------------


def test_a_frame_goes_out(plug: Plug, peer: Peer) -> None:
    driver = plug()
    sent = frame(OTHER, ME, b"hello", 60)
    driver.request(TX, out=HEADER + sent)
    assert peer.receive() == [sent]
    shown = nic_of(driver).inspect()
    assert (shown["tx_frames"], shown["tx_bytes"]) == (1, 60)


@pytest.mark.parametrize("cuts", [(12,), (1, 5), (6, 12, 13), (12, 26, 30), (0, 12, 12), (40,)])
def test_where_the_driver_cuts_means_nothing(plug: Plug, peer: Peer, cuts: tuple[int, ...]) -> None:
    """virtio 1.2 §2.7.4"""
    driver = plug()
    sent = frame(OTHER, ME, bytes(range(200)))
    data = HEADER + sent
    edges = [0, *cuts, len(data)]
    driver.request(TX, out=[data[a:b] for a, b in itertools.pairwise(edges)])
    assert peer.receive() == [sent]


def test_a_frame_in_more_pieces_than_a_system_call_takes(plug: Plug, peer: Peer) -> None:
    driver = plug()
    sent = frame(OTHER, ME, bytes(range(180)))
    driver.request(TX, out=[bytes([byte]) for byte in HEADER + sent])
    assert peer.receive() == [sent]


def test_many_frames_in_their_order(plug: Plug, peer: Peer) -> None:
    driver = plug()
    sent = [frame(OTHER, ME, number.to_bytes(2, "big"), 1514) for number in range(200)]
    for one in sent:
        driver.submit(TX, out=HEADER + one, kick=False)
    driver.kick(TX)
    assert peer.receive(200) == sent
    driver.collect(TX, 200)


def test_a_frame_comes_in(plug: Plug, peer: Peer) -> None:
    driver = plug()
    buffers(driver)
    sent = frame(ME, OTHER, b"hello", 60)
    peer.send(sent)
    assert received(driver) == [sent]


def test_frames_wait_for_buffers(plug: Plug, peer: Peer) -> None:
    driver = plug()
    sent = [frame(ME, OTHER, bytes([number]), 60) for number in range(20)]
    peer.send(*sent)
    soon(lambda: nic_of(driver).inspect()["waiting"] == 20)
    buffers(driver, 30)
    assert received(driver, 20) == sent
    assert nic_of(driver).drops == {}


def test_the_largest_frame_both_ways(plug: Plug, peer: Peer) -> None:
    driver = plug()
    buffers(driver, 1, 65562)
    largest = frame(ME, OTHER, size=65550)
    peer.send(largest)
    assert received(driver) == [largest]
    driver.request(TX, out=HEADER + largest)
    assert peer.receive() == [largest]


def test_too_many_frames_are_dropped_and_counted(plug: Plug, peer: Peer) -> None:
    driver = plug()
    for _ in range(1100):
        peer.send(frame(ME, OTHER, size=60))
    soon(lambda: nic_of(driver).drops.get("rx: backlog full") == 1100 - 1024)
    buffers(driver, 256)
    assert len(received(driver, 256)) == 256


def test_large_frames_fill_the_backlog_by_their_bytes(plug: Plug, peer: Peer) -> None:
    driver = plug()
    for _ in range(100):
        peer.send(frame(ME, OTHER, size=65000))
    soon(lambda: nic_of(driver).inspect()["waiting"] + sum(nic_of(driver).drops.values()) == 100)
    assert nic_of(driver).inspect()["waiting"] == 65  # 4 MiB and the one that went over it


def test_mtu_bounds_what_the_driver_gets(plug: Plug, peer: Peer) -> None:
    """virtio 1.2 §5.1.4.1"""
    driver = plug(mtu=1400)
    buffers(driver)
    fits = frame(ME, OTHER, size=1414)
    peer.send(frame(ME, OTHER, size=1415), fits)
    assert received(driver) == [fits]
    assert nic_of(driver).drops == {"rx: too long": 1}


# --- bad drivers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 13, 65551, 200_000])
def test_frames_of_no_length_are_dropped(plug: Plug, peer: Peer, size: int) -> None:
    driver = plug()
    driver.request(TX, out=HEADER + bytes(size))
    driver.request(TX, out=HEADER + frame(OTHER, ME, size=60))
    assert len(peer.receive()) == 1
    assert nic_of(driver).drops == {"tx: bad length": 1}
    assert len(driver.mistakes) == 1


@pytest.mark.parametrize("size", [0, 1, 11])
def test_not_even_a_header(plug: Plug, size: int) -> None:
    driver = plug()
    driver.request(TX, out=bytes(size))
    assert nic_of(driver).drops == {"tx: bad length": 1}


def test_a_transmit_buffer_that_is_to_be_written(plug: Plug) -> None:
    driver = plug()
    assert driver.request(TX, out=HEADER + bytes(60), in_=100) == b""
    assert nic_of(driver).drops == {"tx: bad length": 1}


def test_offloads_that_were_not_negotiated_are_ignored(plug: Plug, peer: Peer) -> None:
    """virtio 1.2 §5.1.6.2.2"""
    driver = plug()
    sent = frame(OTHER, ME, size=60)
    driver.request(TX, out=b"\1\1" + bytes(10) + sent)
    assert peer.receive() == [sent]
    assert len(driver.mistakes) == 1


def test_receive_buffers_of_no_use(plug: Plug, peer: Peer) -> None:
    driver = plug()
    driver.submit(RX, in_=11)
    driver.submit(RX, out=b"what for", in_=2000)
    driver.submit(RX, in_=2000)
    sent = frame(ME, OTHER, size=60)
    peer.send(sent)
    useless = driver.collect(RX, 2)
    assert [one.written for one in useless] == [0, 0]
    assert received(driver) == [sent]
    assert len(driver.mistakes) == 2


def test_a_frame_that_no_buffer_holds_is_dropped_and_the_buffer_kept(
    plug: Plug, peer: Peer
) -> None:
    driver = plug()
    buffers(driver, 1, 100)
    small = frame(ME, OTHER, size=60)
    peer.send(frame(ME, OTHER, size=200), small)
    assert received(driver) == [small]
    assert nic_of(driver).drops == {"rx: buffer too small": 1}


def test_a_loop_in_the_ring_asks_for_a_reset_and_the_peer_stays(plug: Plug, peer: Peer) -> None:
    driver = plug()
    ring = driver.rings[TX]
    ring.write_descriptor(0, 0x1000, 16, flags=1, following=0)
    ring.write_avail(0, 0)
    ring.avail_idx = 1
    driver.kick(TX)
    driver.wait_for(driver.needs_reset)
    driver.initialise()
    sent = frame(OTHER, ME, size=60)
    driver.request(TX, out=HEADER + sent)
    assert peer.receive() == [sent]


def test_notifying_all_the_time(plug: Plug, peer: Peer) -> None:
    driver = plug()
    buffers(driver)
    for number in range(3000):
        driver.write("QueueNotify", number % 3)
    sent = frame(ME, OTHER, size=60)
    peer.send(sent)
    assert received(driver) == [sent]


# --- the cable ------------------------------------------------------------------------------------


def test_pulling_the_cable_out(plug: Plug, peer: Peer) -> None:
    driver = plug()
    buffers(driver)
    before = driver.irq_count
    nic_of(driver).set_link(False)
    assert driver.irq_count == before + 1
    assert driver.acknowledge() == 2  # a change of the configuration
    assert driver.read_config(6, 2) == 0
    driver.request(TX, out=HEADER + frame(OTHER, ME, size=60))
    peer.send(frame(ME, OTHER, size=60))
    soon(lambda: nic_of(driver).drops == {"tx: link down": 1, "rx: link down": 1})
    nic_of(driver).set_link(True)
    nic_of(driver).set_link(True)
    assert driver.read_config(6, 2) == 1
    sent = frame(ME, OTHER, b"again", 60)
    peer.send(sent)
    assert received(driver) == [sent]


def test_a_link_that_begins_down(plug: Plug) -> None:
    driver = plug(link=False)
    assert driver.read_config(6, 2) == 0
    nic_of(driver).set_link(True)
    assert driver.read_config(6, 2) == 1


def test_the_peer_goes_and_comes_back(plug: Plug, peer: Peer) -> None:
    driver = plug()
    peer.hang_up()
    soon(lambda: driver.read_config(6, 2) == 0)
    driver.request(TX, out=HEADER + frame(OTHER, ME, size=60))
    assert nic_of(driver).link_losses == 1
    peer.accept()
    soon(lambda: driver.read_config(6, 2) == 1)
    sent = frame(OTHER, ME, b"again", 60)
    driver.request(TX, out=HEADER + sent)
    assert peer.receive() == [sent]


@pytest.mark.parametrize("length", [0, 65551, 0xFFFF_FFFF])
def test_a_peer_that_breaks_the_format_is_hung_up_on(plug: Plug, peer: Peer, length: int) -> None:
    driver = plug()
    assert peer.socket is not None
    peer.socket.sendall(LENGTH.pack(length) + bytes(100))
    with pytest.raises((AssertionError, ConnectionError)):
        peer.receive()
    soon(lambda: nic_of(driver).link_losses == 1)


def test_runts_of_a_peer_are_left_out(plug: Plug, peer: Peer) -> None:
    driver = plug()
    buffers(driver)
    sent = frame(ME, OTHER, size=60)
    peer.send(b"x", bytes(13), sent)
    assert received(driver) == [sent]


def test_a_peer_that_does_not_read(plug: Plug, peer: Peer) -> None:
    """The device waits a little, then drops; what the peer gets in the end are whole frames."""
    driver = plug()
    sent = 0
    while "tx: no room" not in nic_of(driver).drops:
        for _ in range(16):
            driver.submit(
                TX, out=HEADER + frame(OTHER, ME, sent.to_bytes(4, "big"), 60_000), kick=False
            )
            sent += 1
        driver.kick(TX)
        driver.collect(TX, 16)
    arrived = nic_of(driver).tx_frames
    assert arrived + nic_of(driver).drops["tx: no room"] == sent
    # the end of a frame that is half out goes first; the peer has to make room for it
    frames = peer.receive(arrived - 1)
    assert {len(one) for one in frames} == {60_000}
    driver.request(TX, out=HEADER + frame(OTHER, ME, b"last", 60))
    assert [len(one) for one in peer.receive(2)] == [60_000, 60]


def test_a_peer_that_hangs_up_at_once(peer: Peer) -> None:
    """Whatever comes first, in the end the link is down."""
    with Driver(Nic(stream=peer.path, mac=OWN)) as driver:
        for losses in range(1, 4):
            peer.accept().hang_up()
            soon(lambda: nic_of(driver).link_losses == losses)  # noqa: B023 - asked at once
            soon(lambda: driver.read_config(6, 2) == 0)


def test_no_cable() -> None:
    with Driver(Nic(mac=OWN)) as driver:
        assert driver.read_config(6, 2) == 0
        driver.request(TX, out=HEADER + frame(OTHER, ME, size=60))
        nic_of(driver).set_link(True)
        assert driver.read_config(6, 2) == 0
        assert nic_of(driver).inspect()["backend"] == "none"


def test_frames_before_the_driver(peer: Peer) -> None:
    with Driver(Nic(stream=peer.path, mac=OWN), initialise=False) as driver:
        peer.accept().send(frame(ME, OTHER, size=60))
        soon(lambda: nic_of(driver).drops == {"rx: no driver": 1})


# --- making one -----------------------------------------------------------------------------------


def test_one_cable_at_most() -> None:
    with Switch() as switch, pytest.raises(ConfigError, match="one cable"):
        Nic(switch, stream="/tmp/s")


@pytest.mark.parametrize(
    "text", ["", "1:2:3", "02:00:00:00:00:xx", "01:00:00:00:00:01", "0:0:0:0:0:0"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="mac="):
        Nic(mac=text)


@pytest.mark.parametrize("mtu", [0, 67, 65536])
def test_mtu_bounds(mtu: int) -> None:
    with pytest.raises(ConfigError, match="mtu="):
        Nic(mtu=mtu)


def test_nobody_there(tmp_path: Path) -> None:
    nic = Nic(stream=str(tmp_path / "nobody"))
    with pytest.raises(ConfigError, match="nobody answers"):
        Driver(nic)


def test_a_path_too_long() -> None:
    with pytest.raises(ConfigError, match="no path of a Unix socket"):
        Nic(stream="/tmp/" + "x" * 200)


def test_a_closed_switch() -> None:
    switch = Switch()
    switch.close()
    with pytest.raises(StateError, match="closed"):
        Nic(switch)


def test_what_travels_is_what_was_asked_for(peer: Peer) -> None:
    with Switch() as switch:
        nic = Nic(switch, mtu=1300, link=False, notify="trap")
        data = pickle.dumps(nic)
        assert len(data) < 1000
        twin = pickle.loads(data)
        assert twin.inspect() == nic.inspect()
        assert twin.notify == "trap"
        assert nic.inspect()["mac"] == "02:56:4d:00:00:01"
        assert nic.inspect()["mtu"] == 1300


def test_addresses_are_the_same_in_each_run() -> None:
    for _ in range(2):
        with Switch() as switch:
            shown = [Nic(switch).inspect()["mac"] for _ in range(3)]
            assert shown == [f"02:56:4d:00:00:{n:02x}" for n in (1, 2, 3)]
    streams = [Nic(stream=f"/tmp/{name}").inspect()["mac"] for name in "aba"]
    assert streams[0] == streams[2] != streams[1]


def test_from_the_command_line(peer: Peer) -> None:
    nic, _ = make(f"net,stream={peer.path},mac={OWN},mtu=1280,link=off")
    assert isinstance(nic, Nic)
    assert nic.inspect()["mac"] == OWN
    assert nic.inspect()["backend"] == f"stream {peer.path}"


def test_hung_up_sockets_do_not_end_the_process(plug: Plug, peer: Peer) -> None:
    """No SIGPIPE, no exception: the frames are gone."""
    driver = plug()
    assert peer.socket is not None
    peer.socket.shutdown(socket.SHUT_RD)
    for _ in range(20):
        driver.request(TX, out=HEADER + frame(OTHER, ME, size=1514))
    assert not driver.needs_reset()
