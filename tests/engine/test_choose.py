"""Which engine runs a machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmlab import engine
from vmlab.arch import host
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig
from vmlab.errors import ConfigError, EngineUnavailable


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A host where every engine works, and nothing in the environment."""
    monkeypatch.delenv("VMLAB_ENGINE", raising=False)
    monkeypatch.setattr(engine, "available", lambda name, arch="": (True, ""))
    return monkeypatch


def test_auto_is_kvm_where_it_works(both: pytest.MonkeyPatch) -> None:
    assert engine.choose() == ("kvm", "/dev/kvm works")


def test_the_environment_stands_in_for_auto(both: pytest.MonkeyPatch) -> None:
    both.setenv("VMLAB_ENGINE", "soft")
    assert engine.choose("auto") == ("soft", "VMLAB_ENGINE says so")


@pytest.mark.parametrize("nothing", ["", "auto"])
def test_an_environment_that_says_nothing(both: pytest.MonkeyPatch, nothing: str) -> None:
    both.setenv("VMLAB_ENGINE", nothing)
    assert engine.choose()[0] == "kvm"


def test_an_engine_that_is_asked_for_stays(both: pytest.MonkeyPatch) -> None:
    both.setenv("VMLAB_ENGINE", "soft")
    assert engine.choose("kvm") == ("kvm", "asked for")


def test_an_unknown_engine_in_the_environment(both: pytest.MonkeyPatch) -> None:
    both.setenv("VMLAB_ENGINE", "xen")
    with pytest.raises(ConfigError, match="VMLAB_ENGINE=xen: no such engine"):
        engine.choose()


def test_an_engine_from_the_environment_that_cannot_run(both: pytest.MonkeyPatch) -> None:
    both.setenv("VMLAB_ENGINE", "kvm")
    both.setattr(engine, "available", lambda name, arch="": (name == "soft", "no /dev/kvm"))
    with pytest.raises(EngineUnavailable, match="'kvm' cannot run here: no /dev/kvm"):
        engine.choose()


@pytest.fixture
def bare_kvm(both: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A KVM that runs bare-metal guests and no Linux."""
    both.setattr(
        engine,
        "runs_linux",
        lambda name, arch="": (name == "soft", "it cannot execute what Linux needs"),
    )
    return both


@pytest.mark.usefixtures("bare_kvm")
def test_linux_goes_where_it_can_run() -> None:
    assert engine.choose() == ("kvm", "/dev/kvm works")
    name, why = engine.choose(linux=True)
    assert name == "soft"
    assert why == "no KVM for Linux: it cannot execute what Linux needs"


@pytest.mark.usefixtures("bare_kvm")
def test_linux_on_a_kvm_that_cannot_is_refused_in_words() -> None:
    with pytest.raises(
        EngineUnavailable, match=r"'kvm' cannot run Linux here: .*engine='soft' can"
    ):
        engine.choose("kvm", linux=True)


def test_linux_takes_a_kvm_that_can(both: pytest.MonkeyPatch) -> None:
    both.setattr(engine, "runs_linux", lambda name, arch="": (True, ""))
    assert engine.choose(linux=True) == ("kvm", "/dev/kvm works")


@pytest.mark.parametrize(("arch", "cls"), [("x86_64", "X86Engine"), ("arm64", "ArmEngine")])
def test_the_guests_architecture_picks_the_engine(arch: str, cls: str) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")
    with _config(arch) as config:
        made = engine.create("soft", config)
        try:
            assert type(made).__name__ == cls
        finally:
            made.close()


@pytest.mark.parametrize(("name", "arch"), [("kvm", "riscv64"), ("kvm", "riscv32")])
def test_architectures_that_an_engine_has_not(name: str, arch: str) -> None:
    with _config(arch) as config, pytest.raises(EngineUnavailable, match=f"no {arch} guests"):
        engine.create(name, config)


def test_the_environment_speaks_of_guests_that_an_engine_can_run(both: pytest.MonkeyPatch) -> None:
    """KVM runs the host's architecture alone: of another one it is as if nothing was said."""
    other = "arm64" if host() == "x86_64" else "x86_64"
    both.setattr(
        engine, "available", lambda name, arch="": (name == "soft" or arch == host(), "no")
    )
    both.setenv("VMLAB_ENGINE", "kvm")
    assert engine.choose("auto", arch=host())[0] == "kvm"
    assert engine.choose("auto", arch=other)[0] == "soft"
    with pytest.raises(EngineUnavailable, match="'kvm' cannot run here: no"):
        engine.choose("kvm", arch=other)


def test_kvm_of_another_architecture() -> None:
    other = "arm64" if host() == "x86_64" else "x86_64"
    works, why = engine.available("kvm", other)
    assert not works
    assert "KVM runs guests of the host's architecture" in why or "a part of Linux" in why


@contextmanager
def _config(arch: str) -> Iterator[EngineConfig]:
    memory = GuestMemory.allocate(1 << 20)
    bus = Bus()
    yield EngineConfig(memory, bus, bus, arch=arch)
    memory.close()


class Bus:
    def read(self, _address: int, _size: int) -> int:
        return 0

    def write(self, _address: int, _size: int, _value: int) -> None:
        return
