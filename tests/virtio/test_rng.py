"""The entropy device: virtio 1.2 §5.4."""

from __future__ import annotations

import pickle
import time

import pytest

from vmlab.errors import ConfigError
from vmlab.testing import Driver
from vmlab.testing.rings import WRITE
from vmlab.virtio import Rng
from vmlab.virtio.rate_limit import TokenBucket
from vmlab.virtio.rng import MOST

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_random_bytes_from_the_host() -> None:
    """§5.4.6.2: the device MUST place one or more random bytes into the buffer."""
    with Driver(Rng()) as driver:
        assert driver.read("DeviceID") == 4
        first, second = driver.request(0, in_=64), driver.request(0, in_=[1, 31, 32])
        assert len(first) == len(second) == 64
        assert first != second
        assert driver.mistakes == []


def test_a_seed_gives_one_stream_however_it_is_asked_for() -> None:
    with Driver(Rng(seed=7)) as driver:
        whole = driver.request(0, in_=1000)
    with Driver(Rng(seed=7)) as driver:
        parts = [driver.request(0, in_=size) for size in (1, 2, 3, 94, 400, 500)]
    assert b"".join(parts) == whole
    with Driver(Rng(seed=8)) as driver:
        assert driver.request(0, in_=1000) != whole


def test_a_refill_of_64_kib_is_one_notification_and_one_interrupt() -> None:
    with Driver(Rng()) as driver:
        for count in range(1, 6):
            assert len(driver.request(0, in_=65536)) == 65536
            counts = driver.counts
            assert counts.kicks + counts.registers["QueueNotify"].writes == count
            assert driver.irq_count == count


def test_a_request_gets_a_bounded_amount() -> None:
    with Driver(Rng(), "4M") as driver:
        assert len(driver.request(0, in_=MOST + 4096)) == MOST


def test_readable_buffers_are_a_mistake_and_ignored() -> None:
    """§5.4.6.1: the driver MUST NOT place device-readable buffers."""
    with Driver(Rng()) as driver:
        assert len(driver.request(0, out=b"please", in_=8)) == 8
        assert "readable buffer" in driver.mistakes[0]
        assert driver.request(0, out=b"please") == b""


def test_a_buffer_of_no_bytes() -> None:
    with Driver(Rng()) as driver:
        ring = driver.rings[0]
        ring.write_descriptor(0, 0, 0, WRITE)
        ring.avail_idx = 1
        driver.write("QueueNotify", 0)
        driver.wait_for(lambda: ring.used_idx == 1)
        assert ring.used_entry(0) == (0, 0)


def test_a_rate_holds() -> None:
    with Driver(Rng(seed=1, rate=10_000), timeout=10) as driver:
        began, got = time.monotonic(), 0
        while got < 13_000:
            got += len(driver.request(0, in_=4000))
        took = time.monotonic() - began
        assert 0.29 < took < 3
        # what is left of the bucket is given at once: no request takes more than there is
        assert got <= 10_000 + took * 10_000 + 1
        assert driver.transport.inspect()["bytes_given"] == got


def test_a_huge_request_does_not_borrow_from_the_future() -> None:
    with Driver(Rng(rate=100)) as driver:
        assert len(driver.request(0, in_=65536)) == 100
        assert 1 <= len(driver.request(0, in_=65536)) <= 100


def test_a_reset_does_not_fill_the_bucket() -> None:
    with Driver(Rng(rate=1), timeout=0.2) as driver:
        assert len(driver.request(0, in_=10)) == 1
        driver.initialise()
        driver.submit(0, in_=10)
        time.sleep(0.05)
        assert driver.poll(0) == 0


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_is_larger_than_zero(rate: int) -> None:
    with pytest.raises(ConfigError, match="bytes a second, larger than zero"):
        Rng(rate=rate)
    with pytest.raises(ConfigError, match="notify='never'"):
        Rng(notify="never")


def test_it_travels() -> None:
    device = pickle.loads(pickle.dumps(Rng(seed=3, rate=1 << 20, notify="trap")))
    assert (device.seed, device.rate, device.notify) == (3, 1 << 20, "trap")
    with Driver(device) as driver:
        assert len(driver.request(0, in_=8)) == 8


def test_limits() -> None:
    free = TokenBucket(None)
    free.spend(1 << 40, 0)
    assert (free.wait(0), free.allowance(0)) == (0.0, None)
    limit = TokenBucket(1000)
    assert (limit.wait(0), limit.allowance(0)) == (0.0, 1000)
    limit.spend(1500, 0)
    assert limit.wait(0) == pytest.approx(0.501)
    assert limit.wait(250_000_000) == pytest.approx(0.251)
    assert limit.wait(600_000_000) == 0.0
    assert limit.allowance(600_000_000) == 100
    assert limit.allowance(60_000_000_000) == 1000
    limit.spend(1000, 60_000_000_000)
    assert limit.allowance(60_000_000_000) == 1
    # another machine's clock begins at zero again: no time has passed, none goes back
    assert limit.wait(0) > 0
    assert limit.wait(1_000_000_000) == 0.0
