"""Cards on a switch: drivers in one process, machines in theirs, guests that ping."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import qemu
from tests.net.frames import BROADCAST, HEADER, TX, buffers, frame, mac, nic_of, received, soon
from tests.support import ROOT, kernel_image
from tests.vms import PATIENCE, command, monitor
from vmlab import VM
from vmlab.testing import Driver
from vmlab.virtio import Nic, Switch

pytestmark = pytest.mark.usefixtures("no_leaks")

A, B = mac(1), mac(2)


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch() as one:
        yield one


def test_two_drivers(switch: Switch) -> None:
    with Driver(Nic(switch)) as a, Driver(Nic(switch)) as b:
        soon(lambda: len(switch.ports) == 2)
        buffers(a)
        buffers(b)
        ping = frame(BROADCAST, A, b"ping", 60)
        a.request(TX, out=HEADER + ping)
        assert received(b) == [ping]
        pong = frame(A, B, b"pong", 60)
        b.request(TX, out=HEADER + pong)
        assert received(a) == [pong]
        assert [one.data for one in switch.frames] == [ping, pong]


def test_event_index_and_indirect_descriptors(switch: Switch) -> None:
    nics = Nic(switch), Nic(switch)
    with Driver(nics[0], event_idx=True, indirect=True) as a, Driver(nics[1], event_idx=True) as b:
        soon(lambda: len(switch.ports) == 2)
        buffers(b, 200)
        sent = [frame(B, A, n.to_bytes(2, "big"), 1514) for n in range(200)]
        for at in range(0, 200, 50):
            for one in sent[at : at + 50]:
                a.submit(TX, out=HEADER + one, kick=False)
            a.kick(TX)
        a.collect(TX, 200)
        assert received(b, 200) == sent


def test_the_switch_goes(switch: Switch) -> None:
    with Driver(Nic(switch)) as driver:
        soon(lambda: switch.ports)
        switch.close()
        soon(lambda: driver.read_config(6, 2) == 0)
        driver.request(TX, out=HEADER + frame(B, A, size=60))
        shown = nic_of(driver).inspect()
        assert shown["link"] == "down"
        assert shown["link_losses"] == 1
        assert not driver.needs_reset()


OTHER = """
import sys
from vmlab.testing import Driver
from vmlab.virtio import Nic
driver = Driver(Nic(stream=sys.argv[1], mac="02:56:4d:00:00:02"))
for _ in range(16):
    driver.submit(0, in_=2000, kick=False)
driver.kick(0)
print("ready", flush=True)
for _ in range(100):
    data = driver.collect(0)[0].result[12:]
    driver.submit(0, in_=2000)
    driver.request(1, out=bytes(12) + data[6:12] + data[:6] + data[12:])
sys.stdin.read()
driver.close()
"""


def test_two_processes(switch: Switch) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, switch.path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with Driver(Nic(switch, mac="02:56:4d:00:00:01")) as driver:
            soon(lambda: len(switch.ports) == 2)
            buffers(driver, 100)
            for number in range(100):
                driver.request(TX, out=HEADER + frame(B, A, number.to_bytes(2, "big"), 60))
                assert received(driver) == [frame(A, B, number.to_bytes(2, "big"), 60)]
        process.communicate(timeout=10)
    assert process.returncode == 0


# --- guests ---------------------------------------------------------------------------------------


def run(vm: VM, line: str) -> str:
    return vm.console.run(line, timeout=PATIENCE)


def test_guests_ping(engine: str, switch: Switch) -> None:
    with (
        monitor(engine, devices=[Nic(switch)]) as a,
        monitor(engine, devices=[Nic(switch)]) as b,
    ):
        run(a, "net ip 10.0.0.1")
        run(b, "net ip 10.0.0.2")
        assert "link up" in run(a, "net")
        assert "3 of 3 answered" in run(a, "net ping 10.0.0.2 3")
        log = "\n".join(switch.log())
        assert "ARP who has 10.0.0.2? tell 10.0.0.1" in log
        assert "10.0.0.2 > 10.0.0.1 ICMP echo reply" in log
        row = {macs: one for one in switch.ports for macs in one.macs}["02:56:4d:00:00:01"]
        shown = a.devices["nic0"].peek()
        assert shown["tx_frames"] == row.frames_in
        assert shown["rx_frames"] == row.frames_out


def test_the_cable_of_a_guest(engine: str, switch: Switch) -> None:
    with monitor(engine, devices=[Nic(switch)]) as vm:
        net = vm.devices["nic0"]
        net.set_link(False)
        vm.console.expect("net.*link down", timeout=PATIENCE)
        assert net.peek("link") == "down"
        net.set_link(True)
        vm.console.expect("net.*link up", timeout=PATIENCE)


def test_a_card_for_a_running_guest(engine: str, switch: Switch) -> None:
    """And a cell that answers its ARP."""
    with monitor(engine) as vm:
        view = vm.hot_add(Nic(switch))
        soon(lambda: view.state == "driver_ok", PATIENCE)
        asked: list[bytes] = []
        with switch.attach(asked.append):
            run(vm, "net ip 10.0.0.1")
            run(vm, "net ping 10.0.0.9 1")
            soon(lambda: any(one[12:14] == b"\x08\x06" for one in asked))
        vm.hot_remove(view.id)
        soon(lambda: not switch.ports, PATIENCE)


def test_the_switch_of_a_guest_goes(engine: str, switch: Switch) -> None:
    with monitor(engine, devices=[Nic(switch)]) as vm:
        switch.close()
        vm.console.expect("net.*link down", timeout=PATIENCE)
        assert vm.state == "running"


def test_a_machine_in_this_process(engine: str, switch: Switch) -> None:
    with monitor(engine, devices=[Nic(switch)], isolate=False) as vm:
        run(vm, "net ip 10.0.0.1")
        run(vm, "net ping 10.0.0.9 1")
        soon(switch.log)
        assert "ARP who has 10.0.0.9? tell 10.0.0.1" in switch.log()[0]


def test_a_guest_of_qemu_joins(engine: str, switch: Switch) -> None:
    """Its `-netdev stream` speaks as our cards do."""
    cable = f"stream,id=n,server=off,addr.type=unix,addr.path={switch.path}"
    card = "virtio-net-device,netdev=n,mac=02:00:00:00:00:77"
    with (
        qemu.Guest(kernel_image("monitor"), devices=["-netdev", cable, "-device", card]) as theirs,
        monitor(engine, devices=[Nic(switch)]) as ours,
    ):
        theirs.expect(qemu.PROMPT)
        theirs.ask("net ip 10.0.0.2")
        run(ours, "net ip 10.0.0.1")
        assert "3 of 3 answered" in run(ours, "net ping 10.0.0.2 3")
        assert "2 of 2 answered" in theirs.ask("net ping 10.0.0.1 2")


def test_from_two_command_lines(tmp_path: Path) -> None:
    """`--device net,switch=lab` in two processes: the first one hosts, and may end first."""
    directory = tmp_path / "run"
    directory.mkdir(0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    words = command("run", "monitor", "--device", "net,switch=lab", "--timeout", "60")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    guests = []
    try:
        for number in (1, 2):
            guest = subprocess.Popen(words, cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]
            guests.append(guest)
            # the second one starts when the first one is at its prompt
            typed(guest, b"", rb"vmlab> $")
            typed(guest, b"net ip 10.0.0.%d\r" % number, rb"vmlab> $")
        said = typed(guests[1], b"net ping 10.0.0.1 3\r", rb"answered\r\n.*vmlab> $")
        assert b"3 of 3 answered" in said
        guests[0].kill()
        # the second one hosts the switch now, and its own card finds it
        typed(guests[1], b"", rb"net: link down[^$]*net: link up")
    finally:
        for guest in guests:
            guest.kill()
            guest.communicate()


def typed(guest: subprocess.Popen[bytes], text: bytes, pattern: bytes) -> bytes:
    """What the guest says from then on, up to `pattern`."""
    assert guest.stdin is not None
    assert guest.stdout is not None
    guest.stdin.write(text)
    guest.stdin.flush()
    said, deadline = b"", time.monotonic() + PATIENCE
    while not re.search(pattern, said, re.DOTALL):
        assert select.select([guest.stdout], [], [], max(deadline - time.monotonic(), 0))[0], said
        fresh = os.read(guest.stdout.fileno(), 65536)
        assert fresh, said
        said += fresh
    return said
