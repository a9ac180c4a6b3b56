"""A sample device with its driver; a network card and the peer at the other end of its cable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.frames import OWN, Peer, Plug
from tests.virtio.sample import Sample
from vmlab.testing import Driver
from vmlab.virtio import Nic


@pytest.fixture
def raw() -> Iterator[Driver]:
    """A driver that has done nothing yet."""
    with Driver(Sample(), initialise=False) as driver:
        yield driver


@pytest.fixture
def driver() -> Iterator[Driver]:
    with Driver(Sample()) as driver:
        yield driver


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    one = Peer(tmp_path / "s")
    yield one
    one.close()


@pytest.fixture
def plug(peer: Peer) -> Iterator[Plug]:
    """plug(**options) drives a card that is connected to `peer`."""
    drivers: list[Driver] = []

    def make_driver(features: int | None = None, **options: object) -> Driver:
        nic = Nic(stream=peer.path, **{"mac": OWN, **options})  # type: ignore[arg-type]
        drivers.append(Driver(nic, features=features))
        peer.accept()
        return drivers[-1]

    yield make_driver
    for one in drivers:
        one.close()
