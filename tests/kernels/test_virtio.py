"""The monitor's virtio drivers against QEMU's devices, found through the command line."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels.qemu import PROMPT, Guest

pytestmark = pytest.mark.qemu

SECTOR = 512
SECTORS = 2048


def guest(images: Path, *devices: str) -> Guest:
    return Guest(images / "monitor.elf", devices=devices)


def disk(path: Path, name: str, options: str = "") -> list[str]:
    drive = f"file={path},if=none,id={name},format=raw{options}"
    return ["-drive", drive, "-device", f"virtio-blk-device,drive={name},serial=disk-{name}"]


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SECTOR) + b"second" + bytes(SECTOR * (SECTORS - 1) - 6))
    return path


@pytest.fixture
def block(images: Path, image_file: Path) -> Iterator[Guest]:
    with guest(images, *disk(image_file, "a", ",discard=unmap")) as running:
        running.expect(PROMPT)
        yield running


def word_sum(data: bytes) -> int:
    words = memoryview(data + bytes(-len(data) % 8)).cast("Q")
    return sum(words) & (1 << 64) - 1


def test_found_and_listed(images: Path, image_file: Path) -> None:
    devices = ["-device", "virtio-rng-device", *disk(image_file, "a")]
    with guest(images, *devices) as running:
        banner = running.expect(PROMPT)
        assert re.search(r"\r\nrng at 0xfeb\w{5} irq \d+\r\n", banner)
        assert re.search(r"\r\nblk at 0xfeb\w{5} irq \d+\r\n", banner)
        listed = running.ask("devices")
    assert re.search(r"0xfeb\w{5}  irq \d+ +rng, driver ok\r\n", listed)
    assert listed.endswith("11 of 11 device windows empty\r\n")


def test_a_device_without_a_driver_and_a_bad_option(images: Path) -> None:
    arguments = ["-device", "virtio-balloon-device"]
    cmdline = "virtio_mmio.device=4K@0xfeb00001:5 virtio_mmio.device=x virtio_mmio.device=4K@0:3"
    with Guest(images / "monitor.elf", devices=arguments, cmdline=cmdline) as running:
        banner = running.expect(PROMPT)
        assert re.search(r"\r\nvirtio device at 0xfeb\w{5} irq \d+: no driver\r\n", banner)
        for command, name in {
            "rng 1": "rng",
            "blk read 0": "blk",
            "net": "net",
            "con": "con",
        }.items():
            assert running.ask(command) == f"{name}: no such device\r\n"


def test_rng(images: Path) -> None:
    with guest(images, "-device", "virtio-rng-device") as running:
        running.expect(PROMPT)
        first, second = running.ask("rng 16"), running.ask("rng 16")
        assert re.fullmatch(r"([0-9a-f]{2} ){15}[0-9a-f]{2}\r\n", first)
        assert first != second
        assert len(running.ask("rng 33").splitlines()) == 3
        large = running.ask("rng 65536").splitlines()
        assert len(large) == 2
        assert re.fullmatch(r"rng: 65536 bytes in \d+ requests?, sum 0x[0-9a-f]{16}", large[1])
        for wrong in ("rng 0", "rng 65537"):
            assert running.ask(wrong) == "rng: 1 to 65536 bytes\r\n"
        assert running.ask("rng 4 1") == "rng: no such device\r\n"
        assert running.ask("rng") == "rng: bytes?\r\n"


def test_block_reads(block: Guest, image_file: Path) -> None:
    lines = block.ask("blk read 1").splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("73 65 63 6f 6e 64" + " 00" * 10 + "  second..........")
    assert f"512 bytes at 0x{lines[0][2:10].lstrip('0')}" in lines[4]
    data = image_file.read_bytes()[: 128 * SECTOR]
    assert block.ask("blk read 0 128").splitlines()[-1].endswith(f"sum 0x{word_sum(data):016x}")
    assert block.ask("blk") == f"blk: {SECTORS} sectors, flush, discard, zero\r\n"
    assert block.ask("blk id") == "blk: 'disk-a'\r\n"


def test_block_writes(block: Guest, image_file: Path) -> None:
    text = "hello,  with two spaces a b c d e f g"
    assert block.ask(f"blk write 2047 {text}") == "blk: written\r\n"
    assert block.ask("blk flush") == "blk: flushed\r\n"
    assert image_file.read_bytes()[-SECTOR:].rstrip(b"\0") == text.encode()
    assert block.ask("blk zero 1 1") == "blk: zeroed\r\n"
    assert block.ask("blk discard 0 8") == "blk: discarded\r\n"
    assert block.ask("blk flush") == "blk: flushed\r\n"
    assert image_file.read_bytes()[SECTOR : 2 * SECTOR] == bytes(SECTOR)


def test_block_mistakes(block: Guest) -> None:
    for command, answer in {
        f"blk read {SECTORS}": f"blk: beyond the end, {SECTORS} sectors",
        f"blk read {SECTORS - 1} 2": f"blk: beyond the end, {SECTORS} sectors",
        "blk read 0xffffffffffffffff 2": f"blk: beyond the end, {SECTORS} sectors",
        "blk write 0xffffffffffffffff x": f"blk: beyond the end, {SECTORS} sectors",
        "blk zero 1 0xffffffffffffffff": f"blk: beyond the end, {SECTORS} sectors",
        "blk read 0 129": "blk: 1 to 128 sectors",
        "blk read 0 0": "blk: 1 to 128 sectors",
        "blk read": "blk: sector?",
        "blk discard 0": "blk: count?",
        "blk 1 flush": "blk: no such device",
    }.items():
        assert block.ask(command) == answer + "\r\n"
    assert block.ask("blk bogus").startswith("blk [UNIT] read SECTOR [COUNT] | ")


def test_two_disks_one_read_only(images: Path, image_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(b"other" + bytes(SECTOR - 5))
    with guest(images, *disk(image_file, "a"), *disk(other, "b", ",readonly=on")) as running:
        running.expect(PROMPT)
        ids = [running.ask(f"blk {unit} id") for unit in range(2)]
        unit = next(n for n in range(2) if "disk-b" in ids[n])
        name = "blk" if unit == 0 else "blk 1"
        assert sorted(re.findall("disk-[ab]", "".join(ids))) == ["disk-a", "disk-b"]
        assert f"{name}: 1 sectors, read-only" in running.ask("blk")
        assert "other" in running.ask(f"blk {unit} read 0")
        assert running.ask(f"blk {unit} write 0 x") == f"{name}: read-only\r\n"
    assert other.read_bytes().startswith(b"other")


def test_console(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "console"
    devices = ["-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=c"]
    devices += ["-chardev", f"socket,id=c,path={path},server=on,wait=off"]
    with guest(images, *devices) as running, socket.socket(socket.AF_UNIX) as peer:
        running.expect(PROMPT)
        peer.settimeout(30)
        peer.connect(str(path))
        assert running.ask("con read") == "con: nothing to read\r\n"
        assert running.ask("con send hello  there") == "con: 13 bytes sent\r\n"
        assert peer.recv(100) == b"hello  there\n"
        peer.sendall(b"good\x01day\n" * 400)
        got = ""
        while len(got) < 400 * len("good.day"):
            got += re.sub("[\r\n]|con: nothing to read", "", running.ask("con read"))
        assert got == "good.day" * 400, "more than the buffers hold, and nothing is lost"


def test_the_gateway_answers(images: Path) -> None:
    devices = [
        "-netdev",
        "user,id=n",
        "-device",
        "virtio-net-device,netdev=n,mac=52:54:00:00:00:07",
    ]
    with guest(images, *devices) as running:
        running.expect(PROMPT)
        state = "net: mac 52:54:00:00:00:07, link up, "
        assert running.ask("net") == f"{state}no ip, 0 received, 0 sent\r\n"
        assert running.ask("net ping 10.0.2.2") == "net: net ip A.B.C.D comes first\r\n"
        assert running.ask("net ip 10.0.2.15") == ""
        assert running.ask("net ping 10.0.2.2 3").splitlines() == [
            *(f"net: 10.0.2.2 ping {n}: answered" for n in (1, 2, 3)),
            "net: 3 of 3 answered",
        ]
        assert running.ask("net").startswith(f"{state}10.0.2.15, ")
        assert running.ask("net ping 10.0.2.77") == "net: nobody has that address\r\n"
        assert running.ask("rng 1") == "rng: no such device\r\n"
        for wrong in ("10.0.2", "10.0.2.256", "10.0.2.2.2", "x", "", "10.0.2.2x"):
            assert running.ask(f"net ping {wrong}") == "net: an address is A.B.C.D\r\n"
        assert running.ask("net ping 10.0.2.2 0") == "net: 1 to 1000 pings\r\n"
        assert running.ask("net send 00112") == "net: a frame is 14 bytes or more, in hex\r\n"
        assert running.ask("net send ff:ff:ff:ff:ff:ff 525400000007 1234 00") == ""
        running.send("net ping 10.0.2.77 9\r\x03")
        assert "net: stopped" in running.expect(PROMPT)


def test_two_guests_ping_each_other(images: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def card(way: str, last: int) -> list[str]:
        mac = f"52:54:00:00:00:{last:02x}"
        netdev = f"socket,id=n,{way}=127.0.0.1:{port}"
        return ["-netdev", netdev, "-device", f"virtio-net-device,netdev=n,mac={mac}"]

    with guest(images, *card("listen", 1)) as one:
        one.expect(PROMPT)
        one.ask("net ip 10.0.0.1")
        with guest(images, *card("connect", 2)) as two:
            two.expect(PROMPT)
            two.ask("net ip 10.0.0.2")
            assert "5 of 5 answered" in two.ask("net ping 10.0.0.1 5")
            assert "10.0.0.1, 6 received, 6 sent" in one.ask("net"), "it answered at its prompt"
            assert "5 of 5 answered" in one.ask("net ping 10.0.0.2 5")
            assert "10.0.0.2, 11 received, 11 sent" in two.ask("net"), (
                "nobody had to ask who is there"
            )
