"""The entropy device (virtio 1.2 §5.4)."""

from __future__ import annotations

import os
import random

from vmlab.errors import ConfigError
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain
from vmlab.virtio.rate_limit import TokenBucket

__all__ = ["Rng"]

#: bytes that one request gets; the rest of a larger buffer is left, as §5.4.6.2 allows. A reset waits
#: for a request: this many take some milliseconds
MOST = 1 << 20


class Rng(VirtioDevice):
    """Random bytes for the guest.

    seed: the same bytes at each run; None: the host's entropy. rate: bytes a second, None: no limit.
    legacy: whether its registers are the legacy interface's (virtio 1.2 §4.2.4); None: as its machine has it.
    """

    type = "virtio-rng"
    device_id = 4
    queue_sizes = (256,)

    def __init__(
        self,
        seed: int | None = None,
        rate: int | None = None,
        notify: str = "ioeventfd",
        legacy: bool | None = None,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ConfigError(f"rate={rate}; bytes a second, larger than zero, or None")
        self.seed = seed
        self.rate = rate
        self.choose_notify(notify)
        self.choose_legacy(legacy)
        self.bytes_given = 0
        self._random = random.Random(seed) if seed is not None else None
        self._spare = b""
        self._limit = TokenBucket(rate)

    def process(self, index: int) -> bool:
        """One request, when the rate allows it."""
        wait = self._limit.wait(self.transport.clock.now())
        if wait:
            self.transport.wake_in(wait, index)
            return False
        return super().process(index)

    def ready(self, index: int) -> bool:
        return not self._limit.wait(self.transport.clock.now())

    def handle(self, index: int, chain: Chain) -> int:
        if chain.readable:
            self.transport.mistake("a request for entropy with a readable buffer (§5.4.6)")
        now = self.transport.clock.now()
        allowed = self._limit.allowance(now)
        size = min(chain.writable_size, MOST if allowed is None else min(allowed, MOST))
        data = os.urandom(size) if self._random is None else self._seeded(size)
        self._limit.spend(size, now)
        self.bytes_given += size
        return chain.write(data)

    def _seeded(self, size: int) -> bytes:
        """The next bytes of the seed's one stream, however it is cut into requests."""
        assert self._random is not None
        missing = size - len(self._spare)
        # whole words: that is what the generator makes, and what it has left over it throws away
        stream = self._spare + self._random.randbytes(max(missing + 3, 0) & ~3)
        self._spare = stream[size:]
        return stream[:size]

    def inspect(self) -> dict[str, object]:
        return {"seed": self.seed, "rate": self.rate, "bytes_given": self.bytes_given}
