"""A short part of `make fuzz`: the same seeds each time, every device that there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.fuzz.guarded import GUARD, Guarded
from tests.fuzz.guest import Broken, episode
from tests.fuzz.subjects import FACTORIES, Subject, names
from vmlab import virtio
from vmlab.catalogue import CATALOGUE
from vmlab.testing import Driver
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain


@pytest.fixture(autouse=True)
def quick_turns() -> Iterator[None]:
    """The device's thread need not wait 5 ms for a busy guest."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def test_every_device_has_a_factory() -> None:
    listed = {CATALOGUE[name].rpartition(":")[2] for name in names()}
    assert set(virtio.__all__) - {"Switch"} == listed


@pytest.mark.parametrize("seed", range(1, 21))
@pytest.mark.parametrize("name", names())
def test_random_guests(name: str, seed: int) -> None:
    assert episode(name, 7000 + seed, 20_000, Guarded()) >= 20_000


class Careless(VirtioDevice):
    """Raises when a request looks at it in a funny way."""

    type, device_id, queue_sizes = "careless", 63, (16,)

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(bytes(1)) if chain.writable_size % 2 else 1 // 0


def test_a_broken_device_is_found(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from contextlib import contextmanager

    @contextmanager
    def careless() -> Iterator[Subject]:
        yield Subject(Careless(), lambda driver: driver.request(0, in_=1) and None)

    monkeypatch.setitem(FACTORIES, "Careless", careless)
    with pytest.raises(
        Broken, match=r"the device failed: ZeroDivisionError.*--device Careless --seed 1"
    ):
        episode("Careless", 1, 20_000, Guarded())
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("where", [GUARD - 1, -GUARD])
def test_a_byte_outside_of_ram_is_found(where: int) -> None:
    guarded = Guarded()
    guarded.check()
    guarded._whole[where] ^= 1
    with pytest.raises(AssertionError, match="guest RAM were written"):
        guarded.check()


def test_guarded_memory_is_memory() -> None:
    with Driver(virtio.Rng(seed=1), Guarded().memory) as driver:
        assert len(driver.request(0, in_=100)) == 100
