"""Which station was last heard on which port of a switch."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["AddressTable"]

#: addresses that are remembered, of all ports and of one: a guest that invents senders loses its own
MAX_ADDRESSES, MAX_OF_PORT = 1024, 128
#: seconds after which an address that was not heard of is forgotten (IEEE 802.1D's default)
AGE = 300.0


class AddressTable:
    """address -> port number. One thread changes it; others may take a `snapshot`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: address -> (port, when it was heard last)
        self._places: dict[bytes, tuple[int, float]] = {}
        self._of_port: dict[int, int] = {}

    def heard(self, source: bytes, port: int) -> None:
        """A frame from `source` came in at `port`. A full table learns nothing: such frames are flooded."""
        now = self._clock()
        before, _ = self._places.get(source, (None, 0.0))
        if before != port:
            full = self._is_full(port, before is None)
            if full:
                self._forget(now)
                if self._is_full(port, before is None):
                    return
            if before is not None:
                self._of_port[before] -= 1  # the station has moved
            self._of_port[port] = self._of_port.get(port, 0) + 1
        self._places[source] = (port, now)

    def find(self, target: bytes) -> int | None:
        port, seen = self._places.get(target, (None, 0.0))
        return port if port is not None and self._clock() - seen <= AGE else None

    def leave(self, port: int) -> None:
        """The port is gone."""
        self._places = {mac: one for mac, one in self._places.items() if one[0] != port}
        self._of_port.pop(port, None)

    def snapshot(self) -> dict[bytes, int]:
        now = self._clock()
        return {mac: port for mac, (port, at) in self._places.copy().items() if now - at <= AGE}

    def _is_full(self, port: int, fresh: bool) -> bool:
        return self._of_port.get(port, 0) >= MAX_OF_PORT or (
            fresh and len(self._places) >= MAX_ADDRESSES
        )

    def _forget(self, now: float) -> None:
        for mac, (port, seen) in list(self._places.items()):
            if now - seen > AGE:
                self._of_port[port] -= 1
                del self._places[mac]
