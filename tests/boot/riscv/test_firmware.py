"""Firmware below a kernel, and which mode a kernel starts in when it is said."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.boot.images import elf64
from tests.support import require_module
from vmlab import VM
from vmlab.arch.riscv64 import platform
from vmlab.boot.riscv import firmware
from vmlab.errors import ConfigError, KernelError

RAM, SBI = platform.RAM_BASE, platform.SBI_ENTRY
#: where OpenSBI lies: QEMU's own, Debian's package opensbi
OPENSBI = [
    Path("/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin"),
    Path("/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.elf"),
    *(
        Path(f"/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_{kind}")
        for kind in ("dynamic.bin", "dynamic.elf", "jump.bin", "jump.elf")
    ),
]
#: a7 = legacy console_putchar, a0 = 'K', ecall; a7 = legacy shutdown, ecall
SAYS_K = (0x0010_0893, 0x04B0_0513, 0x0000_0073, 0x0080_0893, 0x0000_0073, 0x0000_006F)
#: j .
STAY = (0x0000_006F,)


def image(path: Path, words: tuple[int, ...], at: int) -> Path:
    code = struct.pack(f"<{len(words)}I", *words)
    path.write_bytes(elf64(code, note=b"", machine=243, address=at, entry=at))
    return path


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    return image(tmp_path / "kernel.elf", SAYS_K, SBI)


@pytest.mark.parametrize("machine", ["virt", "krun"])
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("path", OPENSBI, ids=lambda path: f"{path.parts[-2]}-{path.name}")
def test_opensbi_starts_a_kernel(kernel: Path, path: Path, cpus: int, machine: str) -> None:
    require_module("unicorn")
    if not path.exists():
        pytest.skip(f"there is no {path}")
    with VM(kernel, firmware=path, machine=machine, memory="64M", cpus=cpus) as vm:
        vm.console.expect("OpenSBI", timeout=20)
        vm.console.expect(f"HART Count *: {cpus}", timeout=20)
        ended = vm.wait(20)
        assert ended is not None
        assert (ended.reason, vm.console.text[-1]) == ("poweroff", "K")


def priv(path: Path, said: str | None, cpus: int = 1) -> int:
    with VM(path, firmware=said, memory="16M", cpus=cpus) as vm:
        vm.pause()
        return vm.cpus[0].regs["priv"]


@pytest.mark.parametrize(("at", "usual"), [(RAM, 3), (SBI, 1)])
def test_the_mode_is_the_images_or_what_is_said(tmp_path: Path, at: int, usual: int) -> None:
    require_module("unicorn")
    path = image(tmp_path / "k.elf", STAY, at)
    assert (priv(path, None), priv(path, "none"), priv(path, "sbi")) == (usual, 3, 1)


def test_fw_dynamics_struct(tmp_path: Path) -> None:
    """The firmware finds it by a2, and a0 and a1 as ever."""
    require_module("unicorn")
    raw = tmp_path / "fw.bin"
    raw.write_bytes(struct.pack("<I", *STAY))
    with VM(image(tmp_path / "k.elf", STAY, SBI + 0x1000), firmware=raw, memory="16M") as vm:
        vm.pause()
        regs = vm.cpus[0].regs
        assert (regs["priv"], regs["pc"], regs["x10"]) == (3, RAM, 0)
        assert bytes(vm.memory.read(regs["x11"], 4)) == b"\xd0\x0d\xfe\xed"
        info = struct.unpack("<6Q", bytes(vm.memory.read(regs["x12"], 48)))
        assert info == (0x4942_534F, 2, SBI + 0x1000, 1, 0, (1 << 64) - 1)


def test_a_reset_starts_the_firmware_again(tmp_path: Path) -> None:
    require_module("unicorn")
    raw = tmp_path / "fw.bin"
    raw.write_bytes(struct.pack("<I", *STAY))
    with VM(image(tmp_path / "k.elf", STAY, SBI), firmware=raw, memory="16M") as vm:
        vm.reset()
        vm.pause()
        assert vm.cpus[0].regs["pc"] == RAM


def test_what_cannot_be(tmp_path: Path, kernel: Path) -> None:
    with pytest.raises(KernelError, match=r"firmware .*absent.bin: no such file"):
        VM(kernel, firmware=tmp_path / "absent.bin")
    with pytest.raises(KernelError, match="no such file"):
        VM(kernel, firmware=tmp_path)
    with pytest.raises(ConfigError, match="firmware: RISC-V machines have one; x86_64"):
        VM("hello", firmware="none")
    with pytest.raises(ConfigError, match="firmware: RISC-V machines have one; arm64"):
        VM("hello", arch="arm64", firmware="none")
    with pytest.raises(ConfigError, match="firmware"):
        VM(kernel, firmware=5)  # type: ignore[arg-type]
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(KernelError, match=r"firmware .*empty: the file is empty"):
        VM(kernel, firmware=empty)
    large = tmp_path / "large"
    large.write_bytes(bytes(0x20_0001))
    with pytest.raises(
        KernelError, match=r"takes 0x80000000-0x80200000; a firmware has .*801fffff"
    ):
        VM(kernel, firmware=large)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(KernelError, match=r"bytes; there is room for 0x200000"):
        VM(kernel, firmware=huge)
    with pytest.raises(KernelError, match="riscv"):
        VM(kernel, firmware="/bin/true")


def test_a_kernel_where_the_firmware_is(tmp_path: Path) -> None:
    raw = tmp_path / "fw.bin"
    raw.write_bytes(bytes(16))
    kernel = image(tmp_path / "k.elf", STAY, RAM)
    with pytest.raises(
        KernelError, match=r"0x80000000, where the firmware .*fw.bin is; link it to 0x8020"
    ):
        VM(kernel, firmware=raw).start()


@given(st.binary(max_size=300))
def test_any_file_is_a_firmware_or_refused(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        for start in (b"", b"\x7fELF\x02\x01\x01" + bytes(9)):
            file.seek(0)
            file.truncate()
            file.write(start + data)
            file.flush()
            try:
                found = firmware.read(file.name, 64)
            except KernelError:
                continue
            assert all(RAM <= one.address <= one.end <= SBI for one in found.pieces)
