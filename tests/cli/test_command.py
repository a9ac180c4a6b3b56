"""The command: what it says and how it ends, with streams that are no terminal."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.boot.images import elf64
from tests.support import ROOT, kernel_image
from tests.vms import command, run
from tests.waiting import alive, until
from vmlab import __version__, kernels


def said(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    """The one line on stderr."""
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert text.startswith("vmlab: "), text
    assert text.count("\n") == 1, text
    return text


def test_the_guests_status_and_output(engine: str) -> None:
    done = run("run", "hello", "--engine", engine, "--cmdline", "exit=21")
    assert done.stdout.replace(b"\r", b"").startswith(b"Hello from the guest!\n")
    assert f"the guest exited with status 43 ({engine}," in said(done, 43)


def test_piped_input(engine: str) -> None:
    typed = b"poke 0x300000 0x1234\npeek 0x300000\nexit 5\n"
    done = run("run", "monitor", "--engine", engine, stdin=typed)
    said(done, 11)
    assert b"0x00300000: 0x00001234" in done.stdout


def test_the_drivers_checklists_at_the_end(engine: str) -> None:
    done = run(
        *("run", "monitor", "--engine", engine, "--device", "rng,id=r", "--checklist"),
        stdin=b"rng 8\nexit 5\n",
    )
    lines = done.stderr.decode().splitlines()
    assert lines[1].startswith("r: virtio-rng, virtio-mmio version 2, Status ACKNOWLEDGE|DRIVER|")
    assert sum("    done     " in line for line in lines) == 16, lines
    assert done.returncode == 11
    done = run("run", "hello", "--engine", engine, "--checklist")
    assert "no virtio device has a checklist" in done.stderr.decode()


@pytest.mark.parametrize(
    "kernel", ["hello", "kernels/hello", "./kernels/hello/", "kernels/images/hello.elf"]
)
def test_ways_to_name_a_bundled_kernel(kernel: str) -> None:
    assert "the guest switched itself off" in said(run("run", kernel, "--timeout", "20"), 0)


def test_a_kernel_of_ones_own_has_the_port_when_asked(tmp_path: Path) -> None:
    # mov al, 3; out 0xf4, al; cli; 1: hlt; jmp 1b
    image = tmp_path / "own.elf"
    image.write_bytes(elf64(bytes.fromhex("b003 e6f4 fa f4 ebfd")))
    said(run("run", image, "--debug-exit"), 7)
    assert "timeout" in said(run("run", image, "--timeout", "0.5"), 124)


def test_a_crash(engine: str) -> None:
    done = run("run", "monitor", "--engine", engine, stdin=b"fault triple\n")
    assert "rip" in said(done, 3).lower()


def test_a_timeout(engine: str) -> None:
    began = time.monotonic()
    done = run("run", "monitor", "--engine", engine, "--timeout", "0.4")
    assert "timeout: the guest still ran after 0.4 s" in said(done, 124)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required"),
        (["fly"], "invalid choice"),
        (["run"], "required"),
        (["run", "nothing"], "no such file; bundled kernels: hello"),
        (["run", "./nothing"], "no such file"),
        (["run", ""], "folder"),
        (["run", "~nobody-there/x"], "~nobody-there"),
        (["run", "x" * 5000], "name too long"),
        (["run", "/etc/passwd/x"], "kernel"),
        (["run", "tests"], "is a folder"),
        (["run", "README.md"], "not an ELF"),
        (["run", "/dev/null"], "empty"),
        (["run", "hello", "--engine", "qemu"], "invalid choice"),
        (["run", "hello", "--memory", "0"], "larger than zero"),
        (["run", "hello", "--memory", "lots"], "no size"),
        (["run", "hello", "--memory", "-5"], "expected one argument|no size|larger than zero"),
        (["run", "hello", "--memory", "900T"], "more than this host"),
        (["run", "hello", "--memory", "1M"], "does not fit"),
        (["run", "hello", "--cpus", "0"], "1 to 8"),
        (["run", "hello", "--cpus", "two"], "invalid int"),
        (["run", "hello", "--cpus", "99"], "1 to 8"),
        (["run", "hello", "--initrd", "nothing"], "initrd"),
        (["run", "hello", "--initrd", "."], "directory"),
        (["run", "hello", "--cmdline", "a\nb"], "non-printable"),
        (["run", "hello", "--cmdline", "x" * 5000], "too long"),
        (["run", "hello", "--device", "toaster"], "no device 'toaster'; there are"),
        (["run", "hello", "--device", ""], "no device"),
        (["run", "hello", "--device", "timer,colour=red"], "no option 'colour'"),
        (["run", "hello", "--device", "timer,id="], "must not be empty"),
        (["run", "hello", "--device", "timer,id=com1"], "com1"),
        (["run", "hello", "--timeout", "soon"], "number of seconds"),
        (["run", "hello", "--timeout", "0"], "number of seconds"),
        (["run", "hello", "--timeout", "nan"], "number of seconds"),
        (["run", "hello", "--timeout", "-1"], "expected one argument|number of seconds"),
        (["run", "hello", "--stats", "/no/such/folder/x"], "--stats"),
        (["run", "hello", "--stats", "/"], "--stats"),
        (["run", "hello", "--stats", ""], "--stats"),
        (["run", "hello", "extra"], "unrecognized"),
        (["demo", "--seconds", "x"], "number of seconds"),
        (["demo", "--engine", "x"], "invalid choice"),
        (["kernels", "extra"], "unrecognized"),
        (["kernels", "two\nlines"], r"two lines.*--help"),
        (["run", "no\nfile"], r"no\\nfile"),
        (["run", "hello", "--stats", "/no/such\nfolder/x"], r"such\\nfolder.*No such file"),
        (["run", "hello", "--device", "disk,path=/no/such\nfile"], r"such\\nfile.*No such file"),
    ],
)
def test_wrong_inputs(arguments: list[str], words: str) -> None:
    import re

    text = said(run(*arguments), 2)
    assert re.search(words, text), text


@pytest.mark.parametrize("content", [b"hello", b"\x7fELF", b"\x1f\x8b\x08\0hello"])
def test_a_name_of_two_lines_does_not_hide_what_is_wrong(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "a\nb.elf"
    image.write_bytes(content)
    text = said(run("run", str(image)), 2)
    assert "a\\nb.elf': " in text
    assert len(text.partition("b.elf': ")[2]) > 10, text


def test_statistics_to_a_file_and_to_stdout(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    done = run("run", "hello", "--engine", engine, "--stats", file)
    said(done, 0)
    stats = json.loads(file.read_text())
    assert stats["engine"] == engine
    assert (stats["exit"]["reason"], stats["exit"]["code"]) == ("poweroff", 0)
    assert stats["devices"]["com1"]["registers"]["THR"]["writes"] == len(done.stdout)
    assert stats["devices"]["power"]["registers"]["SLEEP_CONTROL"]["writes"] == 1
    assert stats["devices"]["debug-exit"]["writes"] == 0
    done = run("run", "hello", "--engine", engine, "--stats", "-")
    said(done, 0)
    text = done.stdout.decode()
    shown = json.loads(text[text.index("{") :])
    assert shown["devices"] == stats["devices"]


def test_a_refused_run_leaves_no_statistics_behind(tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    said(run("run", "nothing", "--stats", file), 2)
    assert not file.exists()


def test_devices(engine: str) -> None:
    typed = b"peek 0xd0000000 4 2\nexit 0\n"
    arguments = ["--device", "timer", "--device", "timer,id=t", "--stats", "-"]
    done = run("run", "monitor", "--engine", engine, *arguments, stdin=typed)
    said(done, 0)
    text = done.stdout.decode()
    devices = json.loads(text[text.index("{\n") :])["devices"]
    assert devices["t"]["base"] == 0xD000_1000
    assert (
        sum(one["base"] == 0xD000_0000 and one["type"] == "timer" for one in devices.values()) == 1
    )


def test_the_small_commands() -> None:
    done = run("kernels")
    assert done.returncode == 0
    assert b"hello" in done.stdout
    assert str(kernel_image("monitor")).encode() in done.stdout
    for arch in ("arm64", "riscv64"):
        assert str(kernels.path("monitor", arch)).encode() in run("kernels", "--arch", arch).stdout
    done = run("doctor")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert any(line.startswith("a guest") and "yes" in line for line in lines)
    assert {"engine kvm", "engine soft", "engine auto"} <= {line[:14].strip() for line in lines}
    assert run("--version").stdout.decode().split() == ["vmlab", __version__]
    for arguments in (["--help"], ["run", "--help"], ["demo", "--help"]):
        done = run(*arguments)
        assert done.returncode == 0
        assert b"vmlab" in done.stdout


def test_the_demo_without_a_terminal(engine: str) -> None:
    done = run("demo", "--seconds", "1.5", "--engine", engine)
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    for word in ("monitor on " + engine, "vmlab> ", "com1", "THR", "dice0", "irq lines", "hole"):
        assert word in text, word
    assert "\x1b" not in text


def test_live_without_a_terminal(engine: str) -> None:
    done = run("run", "irqlab", "--engine", engine, "--live", "--cmdline", "ticks=3")
    said(done, 0)
    text = done.stdout.decode()
    assert "tick 3" in text
    assert "timer0" in text


# --- streams ------------------------------------------------------------------------------------------


def test_closed_pipes() -> None:
    for line in (
        "run irqlab --cmdline 'ticks=4000 period=1000' | head -1",
        "run irqlab --cmdline 'ticks=4000 period=1000' --live </dev/null | head -1",
        "kernels | true",
        "doctor | head -1",
        "demo --seconds 1 | head -1",
        "run hello --stats - | head -c 1",
    ):
        began = time.monotonic()
        text = shlex.join(command()) + " " + line
        done = subprocess.run(
            ["bash", "-c", text], capture_output=True, cwd=ROOT, timeout=30, check=False
        )
        assert b"Traceback" not in done.stderr, done.stderr
        assert b"Exception" not in done.stderr, done.stderr
        assert done.stderr.count(b"\n") <= 1
        assert time.monotonic() - began < 4.5, line


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_are_closed_or_full(streams: str) -> None:
    line = f"{shlex.join(command('run', 'hello', '--timeout', '5', '--stats', '-'))} {streams}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, cwd=ROOT, timeout=30, check=False
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == (3 if "full" in streams else 0)
    assert done.stderr.count(b"\n") <= 1


@pytest.mark.parametrize("more", [[], ["--live"]], ids=["plain", "live"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_leave_no_process_behind(engine: str, number: int, more: list[str]) -> None:
    process = subprocess.Popen(
        command("run", "monitor", "--engine", engine, *more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    shown = b""
    while b"vmlab> " not in shown:
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, "it ended before its prompt"
        shown += piece
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == bool(more)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    expected = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGKILL: -9}
    assert process.returncode == expected[signal.Signals(number)]
    assert b"Traceback" not in errors
    until(lambda: not any(alive(child.pid) for child in children), "its processes' end", 2)
