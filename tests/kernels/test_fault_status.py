"""A run that a fault ends is no success, whatever the fault's number is: 0 is one of them."""

from __future__ import annotations

import pytest

from tests.support import require_module
from vmlab import VM

#: what raises exception 0: a division by zero (xor ecx, ecx; div ecx); UDF, of exception class 0. RISC-V's
#: cause 0 is a misaligned jump, which compressed code does not have: an illegal instruction
FAULTS = {
    "x86_64": ("rip", "31c9f7f1", "divide error, vector 0", 64 << 1 | 1),
    "arm64": ("pc", "00000000", "undefined instruction", 64 << 1 | 1),
    "riscv64": ("pc", "00000000", "illegal instruction, scause 2", 128 + 2),
}


@pytest.mark.parametrize("arch", FAULTS)
def test_exception_zero(arch: str) -> None:
    require_module("unicorn")
    counter, code, words, status = FAULTS[arch]
    with VM("irqlab", engine="soft", arch=arch, cmdline="ticks=50 period=20000") as vm:
        vm.break_at("tick")
        vm.wait_for_break(timeout=20)
        # it is mapped where it lies
        vm.memory.write(vm.cpus[0].regs[counter], bytes.fromhex(code))
        vm.breakpoints.clear()
        vm.resume()
        vm.wait(timeout=20)
        assert words in vm.console.text
        assert vm.exit is not None
        assert vm.exit.code == status
