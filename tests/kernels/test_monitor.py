"""The monitor's shell, typed at under QEMU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels.qemu import PROMPT, Guest

pytestmark = pytest.mark.qemu

COMMANDS = ["blk", "clock", "cmdline", "con", "devices", "dump", "exit", "fault", "fill", "halt"]
COMMANDS += ["help", "in", "irqs", "net", "out", "peek", "poke", "regions", "regs", "reset", "rng"]
COMMANDS += ["smp", "spin", "timer"]


@pytest.fixture(params=["tcg", pytest.param("kvm", marks=pytest.mark.kvm)])
def monitor(images: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    with Guest(images / "monitor.elf", accel=request.param, cpus=2, cmdline="a=1 b") as guest:
        guest.expect(PROMPT)
        yield guest


def test_help(monitor: Guest) -> None:
    lines = monitor.ask("help").splitlines()
    assert [line.split()[0] for line in lines[:-1]] == COMMANDS
    assert max(map(len, lines)) < 80
    assert monitor.ask("help peek").startswith("peek ADDR [1|2|4|8] [COUNT]\r\n  ")
    assert monitor.ask("help nothing") == "unknown command 'nothing'; try help\r\n"


def test_memory_at_every_width(monitor: Guest) -> None:
    assert monitor.ask("poke 0x300000 0x1122334455667788 8") == ""
    assert monitor.ask("peek 0x300000 8") == "0x00300000: 0x1122334455667788\r\n"
    assert monitor.ask("peek 0x300000 4 2") == "0x00300000: 0x55667788 0x11223344\r\n"
    assert monitor.ask("peek 0x300002 2") == "0x00300002: 0x5566\r\n"
    assert monitor.ask("poke 0x300001 255 1") == ""
    assert monitor.ask("peek 0x300000 1 9").splitlines() == [
        "0x00300000: 0x88 0xff 0x66 0x55 0x44 0x33 0x22 0x11",
        "0x00300008: 0x00",
    ]
    assert monitor.ask("fill 0x300004 3 0x2a") == ""
    assert monitor.ask("dump 0x300000 18").splitlines() == [
        "0x00300000: 88 ff 66 55 2a 2a 2a 11 00 00 00 00 00 00 00 00  ..fU***.........",
        f"0x00300010: 00 00{' ' * 42}  ..",
    ]


def test_mistakes_are_answered_in_plain_words(monitor: Guest) -> None:
    for command, answer in {
        "bogus": "unknown command 'bogus'; try help",
        "peek": "peek: address?",
        "peek 12z": "peek: address '12z' is not a number",
        "peek 0x10000000000000000": "peek: address '0x10000000000000000' is not a number",
        "peek 0 3": "peek: width is 1, 2, 4 or 8 bytes",
        "peek 0 8 0x2001": "peek: at most 0x10000 bytes at once",
        "poke 0": "poke: value?",
        "poke 0x300000 256 1": "poke: 0x100 does not fit in 1 byte",
        "dump 0 65537": "dump: at most 0x10000 bytes at once",
        "fill 0 0xffffffff 0": "fill: at most 0x10000 bytes at once",
        "in 0x10000": "in: 0x10000 does not fit in 2 bytes",
        "in 0x3fd 8": "in: width is 1, 2 or 4 bytes",
        "fault": "fault: divide, page, undefined or triple?",
        "smp 33": "smp: at most 32 cpus",
        "help a b c d e f g h": "help: too many words",
    }.items():
        assert monitor.ask(command) == answer + "\r\n"
    assert monitor.ask("") == ""
    assert monitor.ask("   ") == ""


def test_faults_return_to_the_prompt(monitor: Guest) -> None:
    rip = "rip 0x10[0-9a-f]{4}"
    for command, fault in {
        "fault divide": f"divide error, vector 0, error 0x0, {rip}",
        "fault undefined": f"undefined opcode, vector 6, error 0x0, {rip}",
        "fault page": f"page fault, vector 14, error 0x0, {rip}, cr2 0x123456789000",
        "peek 0x100000000": f"page fault, vector 14, error 0x0, {rip}, cr2 0x100000000",
        "poke 0x100000000 1": f"page fault, vector 14, error 0x2, {rip}, cr2 0x100000000",
        "dump 0x8000000000000000": f"general protection, vector 13, error 0x0, {rip}",
    }.items():
        assert re.fullmatch(f"fault: {fault}\r\n", monitor.ask(command))
    assert monitor.ask("timer 1000").startswith("timer: "), "interrupts are on again"


def test_machine(monitor: Guest) -> None:
    assert monitor.ask("cmdline") == "a=1 b\r\n"
    assert re.search(r"0x00100000-0x03ffffff  ram\r\n", monitor.ask("regions"))
    devices = monitor.ask("devices")
    assert "com1\r\n" in devices
    assert "teaching timer: none\r\n" in devices
    assert "hot-plug controller: none\r\n" in devices
    assert "ioapic, 24 pins\r\n" in devices
    assert devices.endswith("11 of 11 device windows empty\r\n")
    assert monitor.ask("in 0x3fd") == "0x03fd: 0x60\r\n"
    assert monitor.ask("out 0x3ff 0xa5") == monitor.ask("spin 0") == ""
    assert monitor.ask("in 0x3ff") == "0x03ff: 0xa5\r\n"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\r\n", monitor.ask("clock"))
    assert "cr0 0x80000011" in monitor.ask("regs")


def test_interrupts_are_counted(monitor: Guest) -> None:
    def count(line: int) -> int:
        match = re.search(rf"(?m)^ *{line} +(\d+) ", monitor.ask("irqs"))
        assert match
        return int(match[1])

    before = count(2)
    assert monitor.ask("timer 120000") == "timer: 8254 timer, tick after 120000 us\r\n"
    assert count(2) > before
    assert count(4) > 0
    assert [count(line) for line in range(5, 16)] == [0] * 11


def test_waiting_ends_at_a_key(monitor: Guest) -> None:
    for command, says in {"halt": "halted", "spin": "spinning"}.items():
        monitor.send(command + "\r")
        monitor.expect(f"{says} until a key\r\n")
        monitor.send("x")
        assert monitor.expect(PROMPT) == PROMPT
    monitor.send("timer 60000000\r")
    monitor.expect("\r\n")
    monitor.send("\x03")
    assert monitor.expect(PROMPT).startswith("timer: stopped\r\n")
    monitor.send("spin 1000000\r")
    monitor.expect("\r\n")
    monitor.send("\x03")
    assert monitor.expect(PROMPT) == PROMPT


def test_second_cpu_starts_again_and_again(monitor: Guest) -> None:
    for command in ("smp 2", "smp 2", "smp"):
        assert monitor.ask(command).splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus"]
    assert monitor.ask("smp 1").splitlines() == ["cpu 0 up", "smp: 1 cpu"]


def test_line_editing(monitor: Guest) -> None:
    monitor.send("bogus\x15helx\x7fp\b\b\b\b\b\bcmdl\x1b[Aine\r")
    assert monitor.expect(PROMPT).endswith("\r\na=1 b\r\n" + PROMPT)
    monitor.send("cmdline\x03")
    assert monitor.expect(PROMPT) == "cmdline^C\r\n" + PROMPT
    monitor.send("cmdline\r\n")
    assert monitor.expect(PROMPT) == "cmdline\r\na=1 b\r\n" + PROMPT
    assert monitor.ask("cmdline") == "a=1 b\r\n", "\\r\\n is one line end"
    assert monitor.ask("x" * 300) == f"unknown command '{'x' * 255}'; try help\r\n"


def test_what_is_typed_ahead_is_not_lost(images: Path) -> None:
    with Guest(images / "monitor.elf") as guest:
        guest.send("".join(f"poke {0x300000 + 4 * n} {n}\r" for n in range(20)))
        guest.send("peek 0x300000 4 20\rexit 3\r")
        status, output = guest.finish()
    words = re.findall(r"0x([0-9a-f]{8})(?!:)", output)
    assert [int(word, 16) for word in words] == list(range(20))
    assert status == 7


@pytest.mark.parametrize("command", ["reset", "fault triple"])
def test_ends_by_reset(monitor: Guest, command: str) -> None:
    monitor.send(command + "\r")
    status, _ = monitor.finish()
    assert status == 0


def test_exit_status_is_the_guests(monitor: Guest) -> None:
    monitor.send("exit 3\r")
    status, _ = monitor.finish()
    assert status == 7
