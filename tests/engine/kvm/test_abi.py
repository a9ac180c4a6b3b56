"""The numbers, sizes and offsets of abi.py are those of the host's <linux/kvm.h>."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from tests.support import require_program
from vmlab.engine.kvm import abi

#: our class -> C type, and our field -> C field where they differ
STRUCTURES: dict[type[ctypes.Structure], str] = {
    abi.UserspaceMemoryRegion: "struct kvm_userspace_memory_region",
    abi.Regs: "struct kvm_regs",
    abi.Segment: "struct kvm_segment",
    abi.Dtable: "struct kvm_dtable",
    abi.Sregs: "struct kvm_sregs",
    abi.ClockData: "struct kvm_clock_data",
    abi.CpuidEntry2: "struct kvm_cpuid_entry2",
    abi.Irqfd: "struct kvm_irqfd",
    abi.Ioeventfd: "struct kvm_ioeventfd",
    abi.IrqLevel: "struct kvm_irq_level",
    abi.MpState: "struct kvm_mp_state",
    abi.PitConfig: "struct kvm_pit_config",
    abi.Translation: "struct kvm_translation",
    abi.GuestDebug: "struct kvm_guest_debug",
    abi.VcpuEvents: "struct kvm_vcpu_events",
}
RENAMED: dict[tuple[type, str], str] = {
    (abi.GuestDebug, "debugreg"): "arch.debugreg",
    (abi.VcpuEvents, "rest"): "smi",
    **{
        (abi.VcpuEvents, f"interrupt_{name}"): f"interrupt.{name}"
        for name in ("injected", "nr", "soft", "shadow")
    },
}
RUN = {
    "immediate_exit": abi.Run.immediate_exit.offset,
    "exit_reason": abi.Run.exit_reason.offset,
    "cr8": abi.Run.cr8.offset,
    "apic_base": abi.Run.apic_base.offset,
}
UNION: dict[str, type[ctypes.Structure]] = {
    "hw": abi._RunHw,
    "io": abi._RunIo,
    "mmio": abi._RunMmio,
    "fail_entry": abi._RunFailEntry,
    "internal": abi._RunInternal,
    "system_event": abi._RunSystemEvent,
}


def expectations() -> dict[str, int]:
    """C expression -> what abi.py says."""
    found = {
        name: value
        for name, value in vars(abi).items()
        if name.startswith("KVM_") and isinstance(value, int)
    }
    for ours, theirs in STRUCTURES.items():
        found[f"sizeof({theirs})"] = ctypes.sizeof(ours)
        for name, *_ in ours._fields_:
            if "pad" not in name:
                field = RENAMED.get((ours, name), name)
                found[f"offsetof({theirs}, {field})"] = getattr(ours, name).offset
    for name, offset in RUN.items():
        found[f"offsetof(struct kvm_run, {name})"] = offset
    for part, ours in UNION.items():
        for name, *_ in ours._fields_:
            at = abi.Run.u.offset + getattr(ours, name).offset
            found[f"offsetof(struct kvm_run, {part}.{name})"] = at
    found["offsetof(struct kvm_cpuid2, entries)"] = abi.Cpuid2.HEADER
    found["offsetof(struct kvm_signal_mask, sigset)"] = abi.SignalMask.HEADER
    return found


def test_the_header_agrees(tmp_path: Path) -> None:
    cc = require_program("cc")
    if not Path("/usr/include/linux/kvm.h").exists():
        pytest.skip("<linux/kvm.h> is not installed (Debian: apt-get install linux-libc-dev)")
    expected = expectations()
    body = "\n".join(
        f'printf("%llu %s\\n", (unsigned long long)({expression}), "{expression}");'
        for expression in expected
    )
    source = tmp_path / "numbers.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\n"
        f"int main(void) {{\n{body}\nreturn 0; }}\n"
    )
    program = tmp_path / "numbers"
    subprocess.run([cc, str(source), "-o", str(program)], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    actual = {name: int(value) for value, _, name in (x.partition(" ") for x in lines.splitlines())}
    assert actual == expected
    assert len(actual) > 150
