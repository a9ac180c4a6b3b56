"""What the transport's threads owe each other: resets, removals and floods while requests run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from vmlab.testing import Driver
from vmlab.testing.rings import WRITE
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain
from vmlab.virtio.registers import DRIVER_OK, FEATURES_OK, NEEDS_RESET
from vmlab.virtio.transport import TURN

pytestmark = pytest.mark.usefixtures("no_leaks")

OK = 1 | 2 | FEATURES_OK | DRIVER_OK
#: long enough for another thread to do what it must not
A_WHILE = 0.05


class Gate(VirtioDevice):
    """Its requests wait until the gate is open."""

    type, device_id, queue_sizes = "gate", 42, (16, 16)

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.calls: list[str] = []

    def handle(self, index: int, chain: Chain) -> int:
        self.calls.append(f"handle {index}")
        self.entered.set()
        self.open.wait(10)
        self.calls.append(f"done {index}")
        return chain.write(b"late")

    def reset(self) -> None:
        self.calls.append("reset")

    def queue_reset(self, index: int) -> None:
        self.calls.append(f"queue {index}")

    def detached(self) -> None:
        self.calls.append("detached")


@contextmanager
def waiting_request() -> Iterator[tuple[Driver, Gate]]:
    """A driver whose request in queue 0 is being handled."""
    device = Gate()
    with Driver(device) as driver:
        driver.submit(0, b"abc", 4)
        assert device.entered.wait(5)
        try:
            yield driver, device
        finally:
            device.open.set()


@contextmanager
def meanwhile(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """`call` on another thread; it has to be over in the end."""
    thread = threading.Thread(target=call)
    thread.start()
    yield thread
    thread.join(5)
    assert not thread.is_alive()


def test_a_reset_waits_for_the_request_under_way() -> None:
    """§2.4.1: after the reset the device MUST NOT interact with the queues."""
    with waiting_request() as (driver, device):
        with meanwhile(lambda: driver.write("Status", 0)) as thread:
            time.sleep(A_WHILE)
            assert thread.is_alive()
            # another vCPU is not held up, and sees that the reset goes on
            assert driver.status == OK
            driver.status = OK | 128
            assert "during a reset" in driver.mistakes[-1]
            assert driver.read("MagicValue")
            device.open.set()
        assert driver.status == 0
        assert device.calls == ["reset", "handle 0", "done 0", "reset"]
        assert driver.irq_count == 0
        after = driver.memory.read(0, 0x20000)
        time.sleep(A_WHILE)
        assert driver.memory.read(0, 0x20000) == after
        driver.initialise()
        assert driver.request(0, b"abc", 4) == b"late"


def test_resets_of_two_vcpus_and_of_the_machine() -> None:
    with waiting_request() as (driver, device):
        with (
            meanwhile(lambda: driver.write("Status", 0)),
            meanwhile(lambda: driver.write("Status", 0)),
            meanwhile(driver.transport.reset),
        ):
            time.sleep(A_WHILE)
            device.open.set()
        assert driver.status == 0
        driver.initialise()
        assert driver.request(1, b"abc", 4) == b"late"


@pytest.mark.parametrize(("register", "value"), [("QueueReset", 1), ("QueueReady", 0)])
def test_stopping_a_queue_waits_for_its_request(register: str, value: int) -> None:
    """§4.2.2.1: QueueReset reads 1 as long as it goes on. §4.2.2.2: QueueReady reads 0 when the queue
    is no longer used, not before."""
    with waiting_request() as (driver, device):
        driver.write("QueueSel", 0)
        with meanwhile(lambda: driver.write(register, value)) as thread:
            time.sleep(A_WHILE)
            assert thread.is_alive()
            assert driver.read("QueueReady") == 1
            assert driver.read("QueueReset") == (register == "QueueReset")
            driver.write("QueueReady", 1)
            assert "while it is being stopped" in driver.mistakes[-1]
            device.open.set()
        assert (driver.read("QueueReady"), driver.read("QueueReset")) == (0, 0)
        assert device.calls == ["reset", "handle 0", "done 0", "queue 0"]
        # §2.6.1.1: after it the device MUST NOT notify the driver for the queue
        assert driver.irq_count == 0
        assert driver.request(1, b"abc", 4) == b"late"


def test_a_reset_of_the_device_ends_a_reset_of_a_queue() -> None:
    with waiting_request() as (driver, device):
        driver.write("QueueSel", 0)
        with (
            meanwhile(lambda: driver.write("QueueReset", 1)),
            meanwhile(lambda: driver.write("Status", 0)),
        ):
            time.sleep(A_WHILE)
            device.open.set()
        driver.initialise()
        assert driver.request(0, b"abc", 4) == b"late"


def test_stopping_another_queue_does_not_wait() -> None:
    with waiting_request() as (driver, _):
        driver.write("QueueSel", 1)
        driver.write("QueueReady", 0)
        assert driver.read("QueueReady") == 0


def test_unplugging_waits_for_the_request_under_way() -> None:
    with waiting_request() as (driver, device):
        with meanwhile(driver.socket.close) as thread:
            time.sleep(A_WHILE)
            assert thread.is_alive()
            device.open.set()
        assert device.calls[-2:] == ["done 0", "detached"]
        assert driver.transport.queues == {}


def test_needs_reset_from_elsewhere_while_a_request_runs() -> None:
    with waiting_request() as (driver, device):
        device.transport.needs_reset("the cable is out")
        device.open.set()
        driver.transport.rest(0)
        assert driver.status == OK | NEEDS_RESET
        assert driver.read("InterruptStatus") == 2
        driver.initialise()
        assert driver.request(0, b"abc", 4) == b"late"


def test_a_notification_while_a_request_runs_is_not_lost() -> None:
    with waiting_request() as (driver, device):
        driver.submit(1, b"abc", 4)
        driver.submit(0, b"abc", 4)
        device.open.set()
        driver.collect(1)
        driver.collect(0, 2)


def test_a_thousand_resets_in_the_middle_of_things() -> None:
    class Quick(VirtioDevice):
        type, device_id, queue_sizes = "quick", 42, (16,)

        def handle(self, index: int, chain: Chain) -> int:
            return chain.write(b"x")

    with Driver(Quick()) as driver:
        for round in range(1000):
            for _ in range(round % 5):
                driver.submit(0, in_=1)
            driver.initialise()
        assert driver.request(0, in_=1) == b"x"
        assert driver.mistakes == []


# --- floods and fairness ------------------------------------------------------------------------


class Endless(VirtioDevice):
    """Queue 0 always has something; the others are as others are."""

    type, device_id, queue_sizes = "endless", 42, (16, 16, 16)

    def __init__(self) -> None:
        self.turns = 0

    def process(self, index: int) -> bool:
        if index == 0:
            self.turns += 1
            return True
        return super().process(index)

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(b"x")


def test_a_full_queue_starves_no_other() -> None:
    device = Endless()
    with Driver(device) as driver:
        driver.write("QueueNotify", 0)
        for index in (1, 2, 1, 2):
            assert driver.request(index, in_=1) == b"x"
        assert device.turns > TURN


def test_a_full_queue_starves_no_reset_and_no_removal() -> None:
    with Driver(Endless()) as driver:
        driver.write("QueueNotify", 0)
        for _ in range(5):
            began = time.monotonic()
            driver.initialise()
            assert time.monotonic() - began < 2
            driver.write("QueueNotify", 0)
            driver.write("QueueSel", 0)
            driver.write("QueueReset", 1)


def test_a_full_queue_starves_no_other_device() -> None:
    with Driver(Endless()) as flood, Driver(Endless()) as other:
        flood.write("QueueNotify", 0)
        for _ in range(5):
            assert other.request(1, in_=1) == b"x"


def test_a_full_queue_does_not_hold_up_traps() -> None:
    """Without a turn for others a register access took 5 ms and more, now and then 30."""
    with Driver(Endless()) as flood, Driver(Endless()) as other:
        flood.write("QueueNotify", 0)
        took = []
        for _ in range(100):
            time.sleep(
                0.0005
            )  # as a vCPU comes back from the guest: without the interpreter's lock
            began = time.perf_counter()
            other.read("Status")
            took.append(time.perf_counter() - began)
        assert sorted(took)[50] < 0.004


def test_nothing_but_notifications() -> None:
    device = Endless()
    with Driver(device, notify="trap") as driver:
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                driver.write("QueueNotify", 2)

        with meanwhile(flood):
            for _ in range(20):
                assert driver.request(1, in_=1) == b"x"
            driver.initialise()
            assert driver.request(1, in_=1) == b"x"
            stop.set()


def test_interrupts_come_at_least_once_a_turn() -> None:
    class Slow(Endless):
        def handle(self, index: int, chain: Chain) -> int:
            time.sleep(0.001)
            return super().handle(index, chain)

    device = Slow()
    device.queue_sizes = (16, 256, 16)  # type: ignore[misc]
    with Driver(device) as driver:
        requests = [driver.submit(1, in_=1, kick=False) for _ in range(3 * TURN)]
        driver.write("QueueNotify", 1)
        driver.wait(1, requests[0])
        assert driver.poll(1) < 2 * TURN
        driver.collect(1, 3 * TURN - 1)


# --- queues that the device fills of its own accord ---------------------------------------------


class Inbox(VirtioDevice):
    """Queue 0 gets what arrives in the world."""

    type, device_id, queue_sizes = "inbox", 42, (64,)

    def __init__(self) -> None:
        self.mail: list[bytes] = []
        self.asked = 0

    def arrive(self, letter: bytes) -> None:
        self.mail.append(letter)
        self.transport.wake(0)

    def process(self, index: int) -> bool:
        self.asked += 1
        return bool(self.mail) and super().process(index)

    def ready(self, index: int) -> bool:
        return bool(self.mail)

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(self.mail.pop(0))


@pytest.mark.parametrize("event_idx", [False, True])
def test_buffers_wait_for_the_world_without_spinning(event_idx: bool) -> None:
    device = Inbox()
    with Driver(device, event_idx=event_idx) as driver:
        for _ in range(4):
            driver.submit(0, in_=8)
        time.sleep(A_WHILE)
        assert device.asked < 10
        device.arrive(b"one")
        assert driver.collect(0)[0].result == b"one"
        for letter in (b"two", b"three", b"four", b"five"):
            device.arrive(letter)
        assert [one.result for one in driver.collect(0, 3)] == [b"two", b"three", b"four"]
        # the fifth had no buffer: the next one that comes takes it, notified
        assert driver.request(0, in_=8) == b"five"


@pytest.mark.parametrize("event_idx", [False, True])
def test_no_letter_and_no_notification_is_lost(event_idx: bool) -> None:
    """Letters and buffers come from two threads at once."""
    device = Inbox()
    count = 3000
    with Driver(device, event_idx=event_idx) as driver:

        def post() -> None:
            for number in range(count):
                device.arrive(b"%d" % number)

        with meanwhile(post):
            got = [driver.request(0, in_=8) for _ in range(count)]
        assert got == [b"%d" % number for number in range(count)]


class Liar(Inbox):
    """Says that it is ready, and takes nothing."""

    def process(self, index: int) -> bool:
        self.asked += 1
        return False

    def ready(self, index: int) -> bool:
        return True


def test_a_device_that_is_ready_and_takes_nothing_does_not_spin() -> None:
    device = Liar()
    with Driver(device) as driver:
        driver.submit(0, in_=8)
        time.sleep(A_WHILE)
        assert device.asked < 10
        driver.submit(0, in_=8)
        time.sleep(A_WHILE)
        assert device.asked < 20


# --- timers -------------------------------------------------------------------------------------


class Tomorrow(VirtioDevice):
    type, device_id, queue_sizes = "tomorrow", 42, (16,)
    wait = 1000.0
    asked = 0

    def process(self, index: int) -> bool:
        self.asked += 1
        if self.wait:
            self.transport.wake_in(self.wait, index)
            return False
        return super().process(index)

    def ready(self, index: int) -> bool:
        return not self.wait

    def handle(self, index: int, chain: Chain) -> int:
        return chain.write(b"x")


def test_one_timer_a_queue_however_often_the_guest_notifies() -> None:
    device = Tomorrow()
    with Driver(device) as driver:

        def pending() -> int:
            return sum(not one[2].cancelled for one in driver.socket.clock._queue)

        driver.submit(0, in_=1)
        for count in range(1, 50):
            driver.write("QueueNotify", 0)
            driver.wait_for(lambda count=count: device.asked >= count)  # type: ignore[misc]
        assert pending() == 1
        device.wait = 0.0
        device.transport.wake_in(0.01, 0)  # sooner: this one counts
        driver.collect(0)
        device.transport.wake_in(1000.0, 0)
        assert pending() == 1
        driver.status = 0
        assert pending() == 0


def test_a_timer_of_before_the_reset_does_no_harm() -> None:
    device = Tomorrow()
    device.wait = 0.02
    with Driver(device) as driver:
        driver.submit(0, in_=1)
        driver.initialise()
        device.wait = 0.0
        assert driver.request(0, in_=1) == b"x"
        device.transport.wake_in(-5.0, 0)
        time.sleep(A_WHILE)
        assert driver.request(0, in_=1) == b"x"


def test_a_chain_that_names_all_memory_many_times() -> None:
    """Lengths may add up to gigabytes of the same RAM; the chain is views, nothing is copied."""

    class Sizes(VirtioDevice):
        type, device_id, queue_sizes = "sizes", 42, (1024,)
        size = 0

        def handle(self, index: int, chain: Chain) -> int:
            self.size = chain.writable_size
            return 0

    device = Sizes()
    with Driver(device, "4M", queue_size=1024) as driver:
        ring = driver.rings[0]
        for index in range(1023):
            ring.write_descriptor(index, 0, 4 << 20, WRITE | (index < 1022), index + 1)
        ring.avail_idx = 1
        driver.write("QueueNotify", 0)
        driver.wait_for(lambda: ring.used_idx == 1)
        assert device.size == 1023 * (4 << 20)
