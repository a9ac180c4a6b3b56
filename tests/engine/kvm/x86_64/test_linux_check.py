"""The probe that says whether this host's KVM runs Linux."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmlab.engine.kvm.x86_64 import linux_check as suits

pytestmark = pytest.mark.kvm


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    suits.runs_linux.cache_clear()
    yield tmp_path / "vmlab" / "kvm-runs-linux.json"
    suits.runs_linux.cache_clear()


def test_the_answer_is_one_and_is_kept(cache: Path) -> None:
    works, why = suits.runs_linux()
    assert works or "cannot execute" in why
    assert json.loads(cache.read_text())["works"] is works


def test_a_kept_answer_holds_until_the_next_boot(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suits._keep((False, "kept"))
    assert suits.runs_linux() == (False, "kept")
    suits.runs_linux.cache_clear()
    suits._keep((False, "kept"))
    monkeypatch.setattr(suits, "_boot", lambda: "another")
    assert suits.runs_linux() != (False, "kept")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": 1}'])
def test_a_broken_answer_is_asked_anew(cache: Path, text: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text)
    assert suits.runs_linux() == suits._try()


def test_a_cpu_that_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the instructions that some KVMs lack, the guest comes to its end."""
    plain = suits._PROGRAM.replace(bytes.fromhex("480fae07480fae0ff0480fc70f"), b"")
    monkeypatch.setattr(suits, "_PROGRAM", plain)
    assert suits.runs_linux() == (True, "")
