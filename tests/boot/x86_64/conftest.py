"""Memory to load kernels into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmlab.core.memory import GuestMemory


@pytest.fixture(scope="module")
def memory() -> Iterator[GuestMemory]:
    made = GuestMemory.allocate(16 << 20)
    yield made
    made.close()
