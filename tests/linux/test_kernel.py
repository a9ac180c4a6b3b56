"""What a `LinuxKernel` gives a machine. Any image does: nothing boots here."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmlab import VM, kernels
from vmlab.linux.kernel import LinuxKernel


@pytest.fixture
def kernel(tmp_path: Path) -> LinuxKernel:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"initrd")
    return LinuxKernel(kernels.find("hello"), initrd, "console=ttyS0", memory="96M", slots=3)


def test_it_brings_its_initrd_command_line_memory_and_slots(kernel: LinuxKernel) -> None:
    config = VM(kernel, cmdline="quiet").config
    assert config.kernel == str(kernel.kernel)
    assert config.initrd == str(kernel.initrd)
    assert config.cmdline == "console=ttyS0 quiet"
    assert config.memory == 96 << 20
    assert config.slots == 3


def test_what_is_said_to_the_machine_goes_before(kernel: LinuxKernel, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_bytes(b"own")
    config = VM(kernel, initrd=own, memory="128M").config
    assert config.initrd == str(own)
    assert config.memory == 128 << 20


def test_as_a_path_it_is_its_image(kernel: LinuxKernel) -> None:
    assert Path(kernel) == kernel.kernel


def test_its_name_is_its_folders(kernel: LinuxKernel, tmp_path: Path) -> None:
    image = tmp_path / "debian" / "kernel"
    image.parent.mkdir()
    image.write_bytes(kernel.kernel.read_bytes())
    vm = VM(image)
    assert vm.config.name == "debian"
    assert repr(vm).startswith("<VM debian: created")
    assert VM("hello").config.name == "hello"
