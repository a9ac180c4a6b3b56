"""Looking at frames: records, watchers, capture files, words."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.net.frames import BROADCAST, frame, mac, soon
from tests.support import require_program
from vmlab.errors import ConfigError
from vmlab.net.hub import KEEP
from vmlab.net.observers import WATCH_QUEUE, Port
from vmlab.net.packets import describe
from vmlab.net.pcap import Frame
from vmlab.virtio import Switch

pytestmark = pytest.mark.usefixtures("no_leaks")

A, B = mac(1), mac(2)


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch() as one:
        yield one


@pytest.fixture
def port(switch: Switch) -> Iterator[Port]:
    with switch.attach(lambda _: None) as one:
        yield one


def parsed(path: Path) -> list[tuple[int, bytes]]:
    """(nanoseconds, frame) of each record; the header is checked."""
    data = path.read_bytes()
    magic, major, minor, zone, sigfigs, snaplen, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, zone, sigfigs, link) == (0xA1B23C4D, 2, 4, 0, 0, 1)
    at, found = 24, []
    while at < len(data):
        seconds, fraction, kept, length = struct.unpack_from("<IIII", data, at)
        assert kept == length <= snaplen
        assert fraction < 1_000_000_000
        found.append((seconds * 1_000_000_000 + fraction, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


# --- records --------------------------------------------------------------------------------------


def test_frames_are_remembered(switch: Switch, port: Port) -> None:
    before = time.time_ns()
    sent = frame(BROADCAST, A, b"hello", 60)
    port.send(sent)
    soon(lambda: switch.frames)
    one = switch.frames[0]
    assert one == Frame(one.time, 1, sent)
    assert before <= one.time <= time.time_ns()


def test_not_for_ever(switch: Switch, port: Port) -> None:
    for number in range(KEEP + 50):
        while not port.send(frame(BROADCAST, A, number.to_bytes(4, "big"), 60)):
            pass
    soon(lambda: switch.ports[0].frames_in == KEEP + 50)
    soon(lambda: switch.frames[-1].data[14:18] == (KEEP + 49).to_bytes(4, "big"))
    assert len(switch.frames) == KEEP


def test_the_log(switch: Switch, port: Port) -> None:
    port.send(bytes.fromhex(ARP))
    port.send(frame(B, A, size=60))
    soon(lambda: len(switch.frames) == 2)
    first, second = switch.log()
    assert first.endswith("ARP who has 10.0.0.2? tell 10.0.0.1")
    assert first.split()[:2] == ["0.000000", "1"]
    assert second.endswith("02:56:4d:00:00:01 > 02:56:4d:00:00:02 type 0x88b5, 46 bytes")
    assert repr(switch.log()) == f"{first}\n{second}"
    assert len(switch.log(1)) == 1
    assert switch.log(0) == []


# --- watchers -------------------------------------------------------------------------------------


def test_a_watcher(switch: Switch, port: Port) -> None:
    seen: list[Frame] = []
    with switch.watch(seen.append):
        port.send(frame(B, A, b"1", 60))
        soon(lambda: len(seen) == 1)
    port.send(frame(B, A, b"2", 60))
    soon(lambda: len(switch.frames) == 2)
    assert [one.data[14:15] for one in seen] == [b"1"]


def test_a_watcher_that_raises_is_taken_off(
    switch: Switch, port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Frame] = []

    def broken(one: Frame) -> None:
        seen.append(one)
        raise ZeroDivisionError

    switch.watch(broken)
    port.send(frame(B, A, size=60))
    soon(lambda: "ZeroDivisionError" in caplog.text)
    port.send(frame(B, A, size=60))
    soon(lambda: len(switch.frames) == 2)
    assert len(seen) == 1


def test_a_slow_watcher_misses_frames_and_holds_nobody_up(switch: Switch, port: Port) -> None:
    go = threading.Event()
    watch = switch.watch(lambda _: go.wait(10))
    count = WATCH_QUEUE + 500
    for _ in range(count):
        while not port.send(frame(B, A, size=60)):
            pass
    soon(lambda: switch.ports[0].frames_in == count)
    soon(lambda: watch.missed >= 499)
    go.set()
    watch.close()
    watch.close()


def test_a_watcher_may_stop_itself(switch: Switch, port: Port) -> None:
    seen: list[Frame] = []

    def once(one: Frame) -> None:
        seen.append(one)
        watch.close()

    watch = switch.watch(once)
    port.send(frame(B, A, size=60))
    soon(lambda: seen)
    port.send(frame(B, A, size=60))
    soon(lambda: len(switch.frames) == 2)
    assert len(seen) == 1


# --- capture files --------------------------------------------------------------------------------


def test_a_capture(switch: Switch, port: Port, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    sent = [frame(B, A, bytes([n]), 60 + n) for n in range(50)]
    with switch.capture(path) as capture:
        for one in sent:
            port.send(one)
        soon(lambda: capture.frames == 50)
        # it is in the file while the capture goes on
        assert len(parsed(path)) == 50
    port.send(sent[0])
    soon(lambda: len(switch.frames) == 51)
    found = parsed(path)
    assert [data for _, data in found] == sent
    assert found == [(one.time, one.data) for one in list(switch.frames)[:50]]


def test_what_was_seen_can_be_written_later(switch: Switch, port: Port, tmp_path: Path) -> None:
    port.send(frame(B, A, size=60))
    soon(lambda: switch.frames)
    assert switch.pcap(tmp_path / "x.pcap") == 1
    assert len(parsed(tmp_path / "x.pcap")) == 1


def test_from_the_beginning_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with Switch(pcap=path) as switch, switch.attach(lambda _: None) as port:
        port.send(frame(B, A, size=60))
        soon(lambda: switch.frames)
    assert len(parsed(path)) == 1


def test_a_file_that_cannot_be(switch: Switch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the capture"):
        switch.capture(tmp_path / "no" / "x.pcap")
    with pytest.raises(ConfigError, match="cannot write the capture"):
        Switch(pcap=tmp_path)
    with pytest.raises(ConfigError, match="cannot write the capture"):
        switch.capture("a\0b")
    with pytest.raises(ConfigError, match="give the path of a file"):
        switch.capture(5)  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk(switch: Switch) -> None:
    with pytest.raises(ConfigError, match="No space"):
        switch.capture("/dev/full")


def test_a_capture_that_fails_ends_alone(
    switch: Switch, port: Port, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with switch.capture(path):
        os.close(reader)
        port.send(frame(B, A, size=60))
        soon(lambda: "BrokenPipeError" in caplog.text)
        port.send(frame(B, A, size=60))
        soon(lambda: len(switch.frames) == 2)
    assert caplog.text.count("BrokenPipeError:") == 1


def test_tcpdump_reads_it(switch: Switch, port: Port, tmp_path: Path) -> None:
    tcpdump = require_program("tcpdump")
    path = tmp_path / "x.pcap"
    with switch.capture(path) as capture:
        port.send(bytes.fromhex(ARP))
        port.send(bytes.fromhex(PING))
        soon(lambda: capture.frames == 2)
    done = subprocess.run(
        [tcpdump, "-n", "-tt", "--nano", "-r", path], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "who-has 10.0.0.2 tell 10.0.0.1" in first
    assert "10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 2" in second
    assert float(first.split()[0]) > 1e9


# --- words ----------------------------------------------------------------------------------------

ETHER = "02564d000002" + "02564d000001"
ARP = (
    "ffffffffffff02564d000001"
    + "0806"
    + "00010800060400"
    + "0102564d0000010a0000010000000000000a000002"
)
ARP_REPLY = ETHER + "0806" + "00010800060400" + "0202564d0000010a00000102564d0000020a000002"
IP = "450000{size:02x}0000{fragment}40{kind:02x}00000a0000010a000002"


def ipv4(kind: int, body: str, fragment: str = "0000", ether: str = ETHER) -> str:
    size = 20 + len(body) // 2
    return ether + "0800" + IP.format(size=size, fragment=fragment, kind=kind) + body


PING = ipv4(1, "0800f7fc00010002")
V6 = (
    ETHER
    + "86dd"
    + "60000000{size:04x}{kind:02x}ff"
    + "fe80"
    + "00" * 13
    + "01"
    + "ff02"
    + "00" * 13
    + "01"
)
TCP = "0050" + "1f90" + "0000000a" + "00000000" + "5012" + "ffff" + "00000000" + "616263"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (ARP, "02:56:4d:00:00:01 > ff:ff:ff:ff:ff:ff ARP who has 10.0.0.2? tell 10.0.0.1"),
        (ARP_REPLY, "ARP 10.0.0.1 is at 02:56:4d:00:00:01"),
        (PING, "10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 2, 0 bytes"),
        (ipv4(1, "0301000000000000"), "10.0.0.1 > 10.0.0.2 ICMP unreachable"),
        (ipv4(1, "2a01000000000000"), "ICMP type 42"),
        (ipv4(17, "004400430009000041"), "10.0.0.1:68 > 10.0.0.2:67 UDP, 1 bytes"),
        (ipv4(6, TCP), "10.0.0.1:80 > 10.0.0.2:8080 TCP SYN ACK seq 10, 3 bytes"),
        (ipv4(17, "00" * 8, "0010"), "10.0.0.1 > 10.0.0.2 IPv4 fragment at 128, 8 bytes"),
        (ipv4(89, "00" * 8), "protocol 89, 8 bytes"),
        (ETHER + "0800" + "65" + "00" * 30, "IPv4 with a broken header"),
        (
            V6.format(size=8, kind=58) + "8000000000050006",
            "IPv6 fe80::1 > ff02::1 ICMPv6 echo request id 5 seq 6, 0 bytes",
        ),
        (V6.format(size=8, kind=58) + "8700000000000000", "ICMPv6 neighbour solicitation"),
        (V6.format(size=8, kind=17) + "0222022300080000", "IPv6 [fe80::1]:546 > [ff02::1]:547 UDP, 0 bytes"),
        (
            V6.format(size=16, kind=0) + "3a00050200000000" + "8f00000000000000",
            "ICMPv6 multicast listener report",
        ),
        (ETHER + "8100" + "0005" + PING[24:], "VLAN 5 10.0.0.1 > 10.0.0.2 ICMP echo request"),
        (ETHER + "81000005" * 4 + PING[24:], "VLAN 5 " * 4 + "10.0.0.1 > 10.0.0.2 ICMP"),
        (ETHER + "81000005" * 5 + PING[24:], "VLAN 5 " * 4 + "more VLAN tags, "),
        (ETHER + "81000005" * 1200, "VLAN 5 VLAN 5 VLAN 5 VLAN 5 more VLAN tags, 4782 bytes"),
        (ETHER + "81000005" * 2, "cut short"),
        (ETHER + "88cc" + "0000", "type 0x88cc, 2 bytes"),
        (ETHER + "0026" + "0000", "length 38, 2 bytes"),
        (ETHER + "0806" + "0007" + "0800" + "0604" + "0001", "ARP for hardware 7"),
        (ETHER + "0806", "cut short"),
        (ETHER + "0800" + "45", "cut short"),
        (ETHER, "cut short"),
    ],
)  # fmt: skip
def test_words(data: str, text: str) -> None:
    assert text in describe(bytes.fromhex(data))


@given(st.binary(max_size=200), st.sampled_from(["0800", "86dd", "0806", "8100"]))
def test_any_bytes_have_words(data: bytes, kind: str) -> None:
    assert "\n" not in describe(A + B + bytes.fromhex(kind) + data)
    describe(data)


#: what a header of each kind leads to is the guest's word
HEADERS = st.sampled_from(
    [
        *("81000005", "8100", "88a8", "0800" + IP.format(size=60, fragment="0000", kind=6)),
        *("86dd60000000ffff00ff" + "fe" * 32, "3a00050200000000", "0000" * 4, "2bff" + "00" * 6),
        *("0806000108000604", "45", "4f", TCP, "0050", "ff" * 8, ""),
    ]
)


@given(st.lists(HEADERS, max_size=40), st.integers(0, 30))
def test_any_headers_have_words(headers: list[str], cut: int) -> None:
    data = bytes.fromhex(ETHER + "".join(headers))
    text = describe(data[: max(len(data) - cut, 14)])
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize("header", ["81000005", "86dd", "0800", "2b00000000000000", "0000", "8100"])
def test_the_log_bears_frames_of_one_header_over_and_over(
    switch: Switch, port: Port, header: str
) -> None:
    port.send(A + B + (bytes.fromhex(header) * 1200)[:9000])
    soon(lambda: len(switch.log()) == 1)
    assert str(switch.log()).count("\n") == 0
    assert len(str(switch.log())) < 300
