"""The one table of architectures' names."""

from __future__ import annotations

import pytest

from vmlab import arch
from vmlab.errors import ConfigError


@pytest.mark.parametrize(
    ("said", "name"), [("AMD64", "x86_64"), ("aarch64", "arm64"), ("riscv64", "riscv64")]
)
def test_one_name_each(said: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert arch.canonical(said) == arch.canonical(name) == name
    monkeypatch.setattr("platform.machine", lambda: said)
    assert arch.host() == name


def test_a_host_that_no_guest_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    assert arch.host() == "s390x"
    with pytest.raises(ConfigError, match="no architecture 's390x'; there are arm64, riscv32"):
        arch.canonical("s390x")
