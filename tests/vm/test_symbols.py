"""Names and lines of a guest's code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import require_program
from vmlab import VM, kernels
from vmlab.errors import ConfigError
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
    with VM(kernels.path("monitor"), engine=engine) as vm:
        with pytest.raises(ConfigError, match="no symbols are loaded"):
            vm.break_at("serial_put")
        symbols = vm.load_symbols(kernels.path("monitor"))
        vm.console.expect("vmlab> ")
        vm.break_at("serial_put")
        vm.console.send("help\n")
        stopped = vm.wait_for_break(10)
        assert symbols.function(vm.cpus[stopped.cpu].regs["rip"]) == "serial_put+0x0"
