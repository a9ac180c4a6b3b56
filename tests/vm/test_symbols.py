"""Names and lines of a guest's code."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import require_program
from vmlab import VM, kernels
from vmlab.errors import ConfigError
from vmlab.vm.lines import MAX_DEBUG, MAX_LINES, Lines, read_lines
from vmlab.vm.symbols import Symbols

SOURCE = """\
int other(int a) {
    return a + 1;
}
int start(int a) {
    return other(a) * 3;
}
"""


@pytest.fixture(scope="module", params=[2, 3, 4, 5])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("symbols")
    (folder / "blk.c").write_text(SOURCE)
    command = (
        f"-O0 -gdwarf-{request.param} -nostdlib -static -fno-pie -no-pie -Wl,-e,start blk.c -o k"
    )
    subprocess.run([require_program("gcc"), *command.split()], cwd=folder, check=True)
    return folder / "k"


def address_of(program: Path, name: str) -> int:
    listed = subprocess.run(
        [require_program("nm"), program], check=True, capture_output=True, text=True
    ).stdout
    return next(int(row.split()[0], 16) for row in listed.splitlines() if row.endswith(f" {name}"))


def test_function_and_line(program: Path) -> None:
    symbols, at = Symbols(program), address_of(program, "start")
    assert symbols.function(at) == "start+0x0"
    assert symbols.function(at + 2) == "start+0x2"
    assert symbols.source(at) == "blk.c:4"
    assert symbols.source(address_of(program, "other")) == "blk.c:1"
    assert symbols.function(0x10) == symbols.source(0x10) == symbols.function(None) == ""
    assert symbols.function((1 << 64) - 1) == symbols.source((1 << 64) - 1) == ""


def test_a_program_that_lies_elsewhere(program: Path) -> None:
    plain = Symbols(program)
    moved = Symbols(program, at=0xFFFF_8000_0000_0000)
    at = address_of(program, "start")
    shift = moved._shift
    assert moved.function(at + shift) == plain.function(at)
    assert moved.source(at + shift) == plain.source(at)
    assert moved.function(at) == ""


def test_stripped(program: Path) -> None:
    bare = program.with_name("bare")
    subprocess.run([require_program("strip"), program, "-o", bare], check=True)
    with pytest.raises(ConfigError, match="no symbols: it is stripped"):
        Symbols(bare)


def test_a_system_map(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text("ffffffff81000000 T _text\nffffffff81000100 t probe\nffffffff82000000 D data\n")
    symbols = Symbols(path)
    assert symbols.function(0xFFFF_FFFF_8100_0104) == "probe+0x4"
    assert symbols.source(0xFFFF_FFFF_8100_0104) == ""


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x7fELF", b"\x7fELF" + bytes(100)])
def test_no_symbol_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="odd"):
        Symbols(path)
    with pytest.raises(ConfigError, match="No such file"):
        Symbols(tmp_path / "nothing")


@given(
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=20),
    st.integers(0, 9),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_file_that_lies(program: Path, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(program.read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path = program.with_name("lies")
    path.write_bytes(data[: len(data) - cut * len(data) // 10])
    try:
        symbols = Symbols(path)
    except ConfigError:
        return
    symbols.function(0x401000)
    symbols.source(0x401000)


def test_a_symbol_names_an_address(program: Path) -> None:
    symbols = Symbols(program)
    assert symbols.address_of("other") == address_of(program, "other")
    with pytest.raises(ConfigError, match="no symbol 'othre'; did you mean 'other'"):
        symbols.address_of("othre")


def test_a_breakpoint_by_its_function(engine: str) -> None:
    symbols = Symbols(kernels.path("monitor"))
    with VM(kernels.path("monitor"), engine=engine) as vm:
        vm.console.expect("vmlab> ")
        vm.break_at("serial_put")
        vm.console.send("help\n")
        stopped = vm.wait_for_break(10)
        assert symbols.function(vm.cpus[stopped.cpu].regs["rip"]) == "serial_put+0x0"
        assert repr(vm.cpus[0].backtrace()).splitlines()[0].endswith(" serial_put+0x0")


def stripped_monitor(folder: Path) -> Path:
    bare = folder / "bare.elf"
    monitor = kernels.path("monitor")
    subprocess.run([require_program("strip"), monitor, "-o", bare], check=True)
    return bare


def test_an_image_without_symbols(tmp_path: Path) -> None:
    with VM(stripped_monitor(tmp_path), engine="soft") as vm:
        vm.console.expect("vmlab> ")
        with vm.trace() as log:
            vm.console.run("peek 0xd0000000")
        assert {event.function for event in log} == {""}
        with pytest.raises(ConfigError, match=r"the image has no symbols; vm\.load_symbols"):
            vm.break_at("serial_put")
        with pytest.raises(ConfigError, match="no symbols: it is stripped"):
            vm.load_symbols(vm.config.kernel)
        vm.load_symbols(kernels.path("monitor"))
        assert any(event.function.startswith("serial_put+") for event in log)
        vm.pause()
        assert re.search(r"#0   0x[0-9a-f]+ \w+\+0x", repr(vm.cpus[0].backtrace()))


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_the_images_own_symbols(arch: str) -> None:
    with VM("hello", arch=arch, engine="soft").start(paused=True) as vm:
        log = vm.trace(kinds="write")
        vm.resume()
        vm.wait(30)
        named = [event.function for event in log]
    assert named
    assert all(named)


def test_symbols_are_not_read_before_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Symbols, path: object, at: int | None = None) -> None:
        pytest.fail("too early")

    monkeypatch.setattr(Symbols, "__init__", read)
    with VM("monitor", engine="soft") as vm:
        vm.console.expect("vmlab> ")
        with vm.trace() as log:
            vm.console.run("peek 0xd0000000")
        assert len(log.events) > 10


# --- lines: a process of its own reads them ---------------------------------------------------------------


def test_why_there_are_no_lines(program: Path, tmp_path: Path) -> None:
    assert Symbols(program).lines.note == ""
    assert Symbols(kernels.path("monitor")).lines.note == "it has no line table"
    assert read_lines(tmp_path / "nothing").rows == []
    late = read_lines(program, seconds=0.001)
    assert late == Lines(note="its line table was not read within 0.001 s")


def with_section(program: Path, name: str, size: int, folder: Path) -> Path:
    """It, and a section of so many bytes."""
    data, made = folder / "data", folder / "made"
    with data.open("wb") as file:
        file.truncate(size)
    objcopy = require_program("objcopy")
    subprocess.run([objcopy, "--add-section", f"{name}={data}", program, made], check=True)
    return made


def test_debugging_data_of_any_size(program: Path, tmp_path: Path) -> None:
    huge = Symbols(with_section(program, ".debug_junk", MAX_DEBUG + 1, tmp_path))
    at = address_of(program, "start")
    assert huge.function(at) == "start+0x0"
    assert huge.source(at) == ""
    assert huge.lines.note.startswith("its debugging data has 64 MiB, and 64 at most")
    assert "64 at most are read" in repr(huge)
    long = Symbols(with_section(program, ".debug_line_too", MAX_LINES + 1, tmp_path))
    assert long.lines.note.startswith("its line table has 4 MiB, and 4 at most")


def test_a_line_table_without_end(program: Path, tmp_path: Path) -> None:
    """DWARF 5 §6.2.4: directories without a format, 2^62 of them."""
    from elftools.elf.elffile import ELFFile

    data = bytearray(program.read_bytes())
    with program.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".debug_line")
        assert section is not None
        at = section["sh_offset"]
    if data[at + 4] != 5:
        pytest.skip("needs DWARF 5")
    first = at + 18 + data[at + 17] - 1
    data[first : first + 10] = b"\0" + b"\xff" * 8 + b"\x3f"
    lying = tmp_path / "lying"
    lying.write_bytes(data)
    began = time.monotonic()
    found = read_lines(lying, seconds=3)
    assert found.rows == []
    assert found.note
    assert time.monotonic() - began < 20
