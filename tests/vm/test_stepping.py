"""Steps larger than an instruction, and who called whom."""

from __future__ import annotations

import pytest

from tests.support import require_module
from vmlab import VM, kernels
from vmlab.errors import ConfigError, ExpectTimeout, StateError
from vmlab.vm.backtrace import backtrace
from vmlab.vm.stepping import call_length


@pytest.mark.parametrize(
    ("arch", "code", "length"),
    [
        ("x86_64", "e800000000", 5),
        ("x86_64", "ffd0 9090", 2),  # call rax
        ("x86_64", "41ffd3 9090", 3),  # call r11
        ("x86_64", "ff9078560000", 6),  # call [rax+0x5678]
        ("x86_64", "ff1425 00100000", 7),  # call [0x1000]
        ("x86_64", "ff5308 9090", 3),  # call [rbx+8]
        ("x86_64", "e900000000", 0),
        ("x86_64", "ffe0 9090", 0),  # jmp rax
        ("x86_64", "ff", 0),
        ("x86_64", "", 0),
        ("arm64", "00000094", 4),  # bl .
        ("arm64", "00023fd6", 4),  # blr x16
        ("arm64", "00000014", 0),  # b .
        ("riscv64", "ef000000", 4),  # jal ra, .
        ("riscv64", "e7800500", 4),  # jalr ra, a1
        ("riscv64", "0295 0000".replace(" ", ""), 2),  # c.jalr a0
        ("riscv64", "67800000", 0),  # ret
        ("riscv32", "0120", 2),  # c.jal .
    ],
)
def test_calls_are_known(arch: str, code: str, length: int) -> None:
    assert call_length(arch, bytes.fromhex(code)) == length


def test_frames_of_a_hostile_stack_are_bounded() -> None:
    def read(address: int, size: int) -> bytes:
        # each frame is 16 above the one before, for ever
        return ((address + 16).to_bytes(8, "little") + (0x1000).to_bytes(8, "little"))[:size]

    regs = {"pc": 0x1000, "x29": 0x8000, "x30": 0}
    assert len(backtrace("arm64", regs, read, 64)) == 64
    assert len(backtrace("arm64", regs | {"x29": 0x8001}, read, 64)) == 1
    assert len(backtrace("arm64", regs, lambda address, size: b"", 64)) == 1
    # a frame that is its own caller's
    itself = backtrace("arm64", regs, lambda at, size: (0x8000).to_bytes(8, "little") * 2, 64)
    assert len(itself) == 2


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_over_a_call_and_out_again(arch: str) -> None:
    require_module("unicorn")
    counter = "rip" if arch == "x86_64" else "pc"
    with VM("monitor", engine="soft", arch=arch) as vm:
        vm.console.expect("vmlab> ")
        device = "com1.THR" if arch == "x86_64" else "serial.DR"
        vm.break_on(device, once=True)
        vm.console.send("help\n")
        vm.wait_for_break()
        lengths = []
        for _ in range(60):
            at = vm.cpus[0].regs[counter]
            length = call_length(arch, vm.cpus[0].read(at, 16))
            vm.step_over()
            if length:
                assert vm.cpus[0].regs[counter] == at + length
                lengths.append(length)
        assert lengths
        assert len(vm.breakpoints) == 0
        with pytest.raises(ExpectTimeout, match="was not reached"):
            vm.run_to(vm.memory.regions[0].base + 0x3F_0000, timeout=0.1)
        assert vm.state == "paused"
        with pytest.raises(ConfigError, match="a whole number"):
            vm.run_to(1.5)  # type: ignore[arg-type]
        vm.resume()
        with pytest.raises(StateError, match="pause it"):
            vm.step_over()


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "riscv64"])
def test_out_of_a_function_that_symbols_say_has_just_begun(arch: str) -> None:
    """Whatever its first instruction is: compilers put the saving of registers off."""
    require_module("unicorn")
    require_module("elftools")
    image = kernels.path("irqlab", arch)
    with VM(image, engine="soft", arch=arch, cmdline="ticks=50 period=20000") as vm:
        symbols = vm.load_symbols(image)
        vm.break_at("tick")
        vm.wait_for_break(timeout=20)
        caller = vm.cpus[0].backtrace(2)[1].pc
        assert symbols.function(caller)
        vm.step_out()
        assert vm.cpus[0].regs["rip" if arch == "x86_64" else "pc"] == caller
