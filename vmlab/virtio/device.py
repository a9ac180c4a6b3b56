"""What a virtio device is, whatever carries it (virtio 1.2 §2, §5).

    class Rng(VirtioDevice):
        type, device_id, queue_sizes = "virtio-rng", 4, (256,)
        def handle(self, index, chain):
            return chain.write(os.urandom(...))

A device never sees registers, addresses or lines: it has queues, a configuration space and a transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index as as_number
from typing import Any, ClassVar, Protocol

from vmlab.core.clock import Clock
from vmlab.core.handlers import check_methods, no_number
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError
from vmlab.regs.packed import Packed
from vmlab.renamed import Renamed
from vmlab.virtio.queue import Chain, Virtqueue

__all__ = ["Transport", "VirtioDevice"]


#: what the methods are given that a device may define
_GIVEN = {
    **dict.fromkeys(("activate", "reset", "attached", "detached", "retire", "inspect"), ("self",)),
    **dict.fromkeys(("process", "ready", "queue_reset"), ("self", "index")),
    "handle": ("self", "index", "chain"),
    "read_config": ("self", "offset", "size"),
    "write_config": ("self", "offset", "size", "value"),
}


class Transport(Protocol):
    """The transport, as its device sees it."""

    memory: GuestMemory | None
    clock: Clock
    #: the queues that the driver made ready, by index
    queues: dict[int, Virtqueue]
    #: the features that both sides agreed on
    negotiated: int

    def wake(self, index: int) -> None:
        """Look at queue `index` soon, on the device's own thread. Any thread may call."""
        ...

    def wake_in(self, seconds: float, index: int) -> None:
        """The same after some of the machine's time; of several such wishes the soonest holds."""
        ...

    def config_changed(self) -> None:
        """Tell the driver that the configuration space has changed (§2.5); call it afterwards."""
        ...

    def output(self, data: bytes, port: int = 0) -> None:
        """Bytes for whoever holds the machine, from one of the device's `consoles`."""
        ...

    def mistake(self, text: str) -> None:
        """The driver did what it must not; counted and shown."""
        ...

    def needs_reset(self, why: str) -> None:
        """The device cannot go on until it is reset (§2.1.2). A `handle` that raises ends here too."""
        ...


class VirtioDevice:
    """Subclasses set the class attributes and define `handle`, or `process` for queues that the
    device fills of its own accord.

    notify: "ioeventfd" takes notifications out of the trap path (they are counted as kicks); "trap"
    leaves them in, to be watched one by one.

    Threads: `handle`, `process` and `ready` run on the device's own thread, one at a time; the others on
    a vCPU's, and keep that waiting. What raises here makes the device ask for a reset; the traceback is
    printed, and other devices go on. A chain is given back in the call that took it, or on the same
    thread later; one that is kept longer must be dropped in `reset` and `queue_reset`.
    """

    type: ClassVar[str] = "virtio"
    #: §5 numbers the device types
    device_id: ClassVar[int] = 0
    #: the largest size of each queue
    queue_sizes: ClassVar[tuple[int, ...]] = ()

    notify: str = "ioeventfd"
    #: whether the registers are the legacy interface's (virtio 1.2 §4.2.4); None: as its machine has them
    legacy: bool | None = None
    #: device-specific feature bits that are offered (bits 0 to 23 and 50 on)
    features: int = 0
    #: streams of bytes, as of `core.device.Device`
    consoles: int = 0
    #: feature bit -> the bits that it needs; a driver that takes it without them is refused (§2.2.1)
    feature_needs: ClassVar[Mapping[int, int]] = {}
    #: the configuration space. Change its fields on any thread, then call `transport.config_changed()`
    config: Packed | None = None
    transport: Transport
    #: what it was called
    carrier = Renamed("transport")

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        check_methods(cls, _GIVEN)

    def choose_notify(self, notify: str) -> None:
        """For constructors: check and keep the way of notification."""
        if notify not in ("ioeventfd", "trap"):
            raise ConfigError(f"notify={notify!r}; there are 'ioeventfd' and 'trap'")
        self.notify = notify

    def choose_legacy(self, legacy: bool | None) -> None:
        """For constructors: check and keep which registers it has; None: as its class and machine say."""
        if legacy is not None and type(legacy) is not bool:
            raise ConfigError(
                f"legacy={legacy!r:.40}; True is virtio-mmio's version 1, False version 2, None as the"
                " machine has it"
            )
        if legacy is not None:
            self.legacy = legacy

    # --- what a device defines ------------------------------------------------------------------

    def handle(self, index: int, chain: Chain) -> int:
        """Serve one request of queue `index`; returns the bytes written to it."""
        raise NotImplementedError

    def process(self, index: int) -> bool:
        """Serve what waits in queue `index`, some of it; True when more may wait. Must come back soon:
        a reset and the device's other queues wait for it.

        After False the device is asked `ready`, and then left alone until the driver notifies or
        something calls `transport.wake`; so whatever made this stop has to do that when it is over."""
        queue = self.transport.queues.get(index)
        if queue is None:
            return False
        chain = queue.pop()
        if chain is None:
            return False
        written = self.handle(index, chain)
        try:
            count = as_number(written)
        except TypeError:
            raise no_number(self.handle, "request", f"queue {index}", written) from None
        queue.push(chain, count)
        return True

    def ready(self, index: int) -> bool:
        """Whether a request in queue `index` could be served now; False for a queue that waits for the
        world (a frame, a key) when the world has nothing."""
        return True

    def activate(self) -> None:
        """The driver is ready: DRIVER_OK."""

    def reset(self) -> None:
        """Back to power-on; no request is under way, and the queues are gone."""

    def queue_reset(self, index: int) -> None:
        """The driver has stopped queue `index`: chains taken from it are void (§2.6.1)."""

    def attached(self) -> None:
        """The carrier is there; open what the device needs of the host. May raise: then the device is
        not plugged in."""

    def detached(self) -> None:
        """The device goes; close it again."""

    def retire(self) -> str:
        """The device is to go and its driver keeps it: do what makes it useless, and undone again, without
        the driver's help. What was done, in words; "" for nothing."""
        return ""

    def read_config(self, offset: int, size: int) -> int:
        """Bytes of the configuration space; what lies behind it reads as zero."""
        if self.config is None:
            return 0
        data = bytes(self.config)[offset : offset + size]
        return int.from_bytes(data, "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Most devices have nothing to write there."""
        self.transport.mistake(f"{size} bytes written to the configuration space at {offset:#x}")

    def inspect(self) -> dict[str, Any]:
        """What `peek` shows beside the registers: plain values by name."""
        return self.config.to_dict() if self.config is not None else {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "carrier"}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type}>"
