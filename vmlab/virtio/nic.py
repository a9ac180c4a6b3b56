"""The network device (virtio 1.2 §5.1): one pair of queues and a control queue, no offloads.

Frames come on the link's own thread, which keeps them until the device's thread has buffers of the
driver's. Without offloads no frame needs more than one buffer, so VIRTIO_NET_F_MRG_RXBUF would bring
nothing and is not offered.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections import deque
from typing import Any

from vmlab.core.device import command
from vmlab.errors import ConfigError
from vmlab.net.packets import MIN_FRAME, mac_bytes, mac_text
from vmlab.net.stream import MAX_FRAME, Link, Outgoing, StreamPlace, check_path
from vmlab.net.switch import Switch, shared
from vmlab.net.tap import TapPlace
from vmlab.regs.packed import Packed, array, u16
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain, split
from vmlab.virtio.registers import VERSION_1
from vmlab.virtio.rxfilter import MAC, MAC_ADDR_SET, RxFilter

__all__ = ["Nic"]

# feature bits (§5.1.3)
MTU, MAC_GIVEN, STATUS, CTRL_VQ, CTRL_RX = 1 << 3, 1 << 5, 1 << 16, 1 << 17, 1 << 18
CTRL_RX_EXTRA, CTRL_MAC_ADDR = 1 << 20, 1 << 23
RECEIVE, TRANSMIT, CONTROL = range(3)
#: of the field `status` (§5.1.4)
LINK_UP = 1
#: struct virtio_net_hdr, which is before each frame (§5.1.6); of a received one: no offload, one buffer. A
#: driver without VIRTIO_F_VERSION_1 has none of the last field (§5.1.6.1)
HEADER = bytes(10) + b"\x01\x00"
LEGACY_HEADER = HEADER[:10]
ETHERNET_HEADER = 14
#: what §5.1.4.1 allows
MIN_MTU, MAX_MTU = 68, 65535
#: frames of one `process`; each is 64 KiB at most, and a reset waits for all of them
BATCH = 64
#: pieces of one frame that are sent as they lie: 64 frames of them and their lengths are less than
#: IOV_MAX. A driver's frame has one or two.
MAX_PIECES = 8
#: frames and bytes that wait for the driver's buffers; a real card's are fewer
MAX_BACKLOG, MAX_BACKLOG_BYTES = 1024, 4 << 20
#: bytes of a control command: two tables of 1,024 addresses
MAX_COMMAND = 16 << 10
#: answers to control commands (§5.1.6.5)
OK, ERR = b"\x00", b"\x01"

_unplugged = itertools.count(1)


class NetConfig(Packed):
    """struct virtio_net_config (§5.1.4), as far as the features offered give it fields."""

    mac = array(6, "the station's address")
    status = u16("bit 0: the link is up")
    max_virtqueue_pairs = u16("only with several queues")
    mtu = u16("the largest payload of a frame, when one was given")


class Nic(VirtioDevice):
    """A network card, on exactly one of

    switch: a Switch, or the name of one that this user's processes share;
    tap: the name of a TAP interface (Linux; it is made if there is none);
    stream: the path of a Unix stream socket, such as passt's;
    nothing: no cable; the link is down.

    mac: its address. By default the switch counts its NICs, 02:56:4d:00:00:01 and on, so that a lab
    has the same addresses in each run; on a TAP or a stream it follows from its name. link: whether
    the link is up at the start; `set_link` changes it. mtu: told to the driver, 68 to 65535. legacy:
    whether its registers are the legacy interface's (virtio 1.2 §4.2.4); None: as its machine has them.
    """

    type = "virtio-net"
    device_id = 1
    queue_sizes = (256, 256, 64)
    #: §5.1.3.1
    feature_needs = {CTRL_RX: CTRL_VQ, CTRL_MAC_ADDR: CTRL_VQ}

    config: NetConfig

    def __init__(
        self,
        switch: Switch | str | None = None,
        *,
        mac: str | None = None,
        tap: str | None = None,
        stream: str | None = None,
        link: bool = True,
        mtu: int | None = None,
        notify: str = "ioeventfd",
        legacy: bool | None = None,
    ) -> None:
        if sum(one is not None for one in (switch, tap, stream)) > 1:
            raise ConfigError(
                "a Nic has one cable: give switch, tap or stream, not several of them"
            )
        if mtu is not None and not MIN_MTU <= mtu <= MAX_MTU:
            raise ConfigError(f"mtu={mtu}; {MIN_MTU} to {MAX_MTU}, or None")
        self.choose_notify(notify)
        self.choose_legacy(legacy)
        own = mac_bytes(mac) if mac is not None else None
        # held, so that a switch without a name lives as long as its cards are in hand
        self._switch = shared(switch) if isinstance(switch, str) else switch
        self._place: StreamPlace | TapPlace | None = None
        if isinstance(self._switch, Switch):
            self._place = self._switch.place()
            own = own or self._switch.new_mac()
        elif self._switch is not None:
            raise ConfigError(f"switch={switch!r} is no Switch and no name of one")
        elif tap is not None:
            self._place = TapPlace(tap)
        elif stream is not None:
            self._place = StreamPlace(check_path(stream), f"stream {stream}")
        self._mac = own or _derived_mac(self._place)
        self._mtu = mtu
        self._cable_in = link
        self._begin()

    def _begin(self) -> None:
        """What is made anew where the device arrives."""
        self.features = MAC_GIVEN | STATUS | CTRL_VQ | CTRL_RX | CTRL_RX_EXTRA | CTRL_MAC_ADDR
        if self._mtu is not None:
            self.features |= MTU
        self.config = NetConfig(mac=self._mac, mtu=self._mtu or 0)
        self._filter = RxFilter(self._mac)
        self._limit = MAX_FRAME
        self._active = False
        self._header = HEADER
        #: bytes that ever went into the backlog, and out: each is written by one thread alone
        self._bytes_in = self._bytes_out = 0
        self._backlog: deque[bytes] = deque()
        self._arriving = threading.Lock()
        self._link: Link | None = None
        self._connected = False
        self._changing = threading.Lock()
        self.rx_frames = self.rx_bytes = self.tx_frames = self.tx_bytes = 0
        #: how often the other side of the cable went
        self.link_losses = 0
        #: reason -> frames
        self.drops: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_place", "_mac", "_mtu", "_cable_in", "notify")
        return {name: vars(self)[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._switch = None
        self._begin()

    def _drop(self, why: str, count: int = 1) -> None:
        if count:
            self.drops[why] = self.drops.get(why, 0) + count

    # --- the cable ------------------------------------------------------------------------------

    def attached(self) -> None:
        if self._place is not None:
            self._link = self._place.open(self._arrive, self._on_link)

    def detached(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    @command
    def set_link(self, up: bool) -> None:
        """Pull the cable out, or put it back in; the driver is told."""
        self._set(cable_in=bool(up))

    def retire(self) -> str:
        self.set_link(False)
        return "its cable is out now (set_link(True) puts it back)"

    def _on_link(self, up: bool) -> None:
        """The other side is there, went, or is back."""
        if not up:
            self.link_losses += 1
        self._set(connected=up)

    def _set(self, connected: bool | None = None, cable_in: bool | None = None) -> None:
        with self._changing:
            if connected is not None:
                self._connected = connected
            if cable_in is not None:
                self._cable_in = cable_in
            status = LINK_UP if self._cable_in and self._connected else 0
            changed, self.config.status = status != self.config.status, status
        if changed:
            # outside of the lock: the transport takes its own
            self.transport.config_changed()

    @property
    def link_up(self) -> bool:
        return bool(self.config.status & LINK_UP)

    # --- life -----------------------------------------------------------------------------------

    def activate(self) -> None:
        features = self.transport.negotiated
        self._header = HEADER if features & VERSION_1 else LEGACY_HEADER
        asks = bool(features & CTRL_VQ and features & CTRL_RX)
        self._filter = RxFilter(self._mac, bool(features & CTRL_RX_EXTRA), every_group=not asks)
        if features & MTU and self._mtu is not None:
            # §5.1.4.1: nothing longer is passed on to the driver
            self._limit = min(self._mtu + ETHERNET_HEADER, MAX_FRAME)
        self._active = True

    def reset(self) -> None:
        """The tables are empty and the address is the first one again (§5.1.6.5.2)."""
        self._active = False
        self._limit = MAX_FRAME
        self._filter = RxFilter(self._mac)
        self.config.mac = self._mac
        with self._arriving:
            self._backlog.clear()
            self._bytes_out = self._bytes_in

    def ready(self, index: int) -> bool:
        return index != RECEIVE or bool(self._backlog)

    def process(self, index: int) -> bool:
        if index == RECEIVE:
            return self._fill()
        return self._transmit() if index == TRANSMIT else super().process(index)

    # --- frames come ----------------------------------------------------------------------------

    def _arrive(self, frames: list[bytes]) -> None:
        """On the link's thread."""
        with self._arriving:
            kept = self._keep(frames)
        if kept:
            self.transport.wake(RECEIVE)

    def _keep(self, frames: list[bytes]) -> bool:
        """Put into the backlog what the driver wants; whether there was any."""
        if not self._active or not self.link_up:
            self._drop("rx: no driver" if self.link_up else "rx: link down", len(frames))
            return False
        wants, limit, backlog, before = (
            self._filter.wants,
            self._limit,
            self._backlog,
            self._bytes_in,
        )
        for frame in frames:
            if not wants(frame[:6]):
                self._drop("rx: for others")
            elif len(frame) > limit:
                self._drop("rx: too long")
            elif (
                len(backlog) >= MAX_BACKLOG or self._bytes_in - self._bytes_out > MAX_BACKLOG_BYTES
            ):
                self._drop("rx: backlog full")
            else:
                backlog.append(frame)
                self._bytes_in += len(frame)
        return self._bytes_in != before

    def _fill(self) -> bool:
        """Put waiting frames into the driver's buffers (§5.1.6.4)."""
        queue, backlog = self.transport.queues.get(RECEIVE), self._backlog
        if queue is None:
            return False
        for _ in range(BATCH):
            if not backlog:
                return False
            chain = queue.pop()
            if chain is None:
                return False  # the driver notifies when it has buffers again
            room = chain.writable_size
            if chain.readable or room < len(self._header) + MIN_FRAME:
                self.transport.mistake(
                    f"a receive buffer of {room} bytes, or one to be read (§5.1.6.3)"
                )
                queue.push(chain, 0)
                continue
            frame = backlog.popleft()
            self._bytes_out += len(frame)
            if len(self._header) + len(frame) > room:
                self._drop("rx: buffer too small")
                # nobody has touched the buffer: it is there for the next frame
                queue.unpop(chain)
                continue
            queue.push(chain, chain.write(self._header + frame))
            self.rx_frames += 1
            self.rx_bytes += len(frame)
        return bool(backlog)

    # --- frames go ------------------------------------------------------------------------------

    def _transmit(self) -> bool:
        """Send what the driver has put into its queue, many frames at once (§5.1.6.2)."""
        queue = self.transport.queues.get(TRANSMIT)
        if queue is None:
            return False
        chains: list[Chain] = []
        frames: list[Outgoing] = []
        while len(chains) < BATCH and (chain := queue.pop()) is not None:
            chains.append(chain)
            frame = self._frame(chain)
            if frame is not None:
                frames.append(frame)
        if frames:
            self._send(frames)
        for chain in chains:
            queue.push(chain, 0)
        return len(chains) == BATCH

    def _frame(self, chain: Chain) -> Outgoing | None:
        """The frame behind the header; None when it cannot be one."""
        views = chain.readable
        header = len(self._header)
        size = chain.readable_size - header
        if chain.writable or not MIN_FRAME <= size <= MAX_FRAME:
            self.transport.mistake(
                f"a frame of {size} bytes; it has {MIN_FRAME} to {MAX_FRAME}, and nothing to be written"
            )
            self._drop("tx: bad length")
            return None
        first = views[0]
        if len(first) >= 2 and (first[0] or first[1]):
            # sent all the same: §5.1.6.2.2 has the device ignore what it does not know
            self.transport.mistake(
                "an offload in a frame's header, none was negotiated (§5.1.6.2.1)"
            )
        if len(first) > header:
            views[0] = first[header:]
        else:
            _, views = split(views, header)
        return size, views if len(views) <= MAX_PIECES else (b"".join(views),)

    def _send(self, frames: list[Outgoing]) -> None:
        link = self._link
        if link is None or not self.link_up:
            self._drop("tx: link down", len(frames))
            return
        taken = link.send(frames)
        self._drop("tx: no room", len(frames) - taken)
        self.tx_frames += taken
        self.tx_bytes += sum(size for size, _ in frames[:taken])

    # --- the control queue ----------------------------------------------------------------------

    def handle(self, index: int, chain: Chain) -> int:
        """One command (§5.1.6.5); whatever is wrong with it, the driver gets an answer."""
        length = chain.readable_size
        data = chain.read(MAX_COMMAND)
        if length > MAX_COMMAND or len(data) < 2:
            trouble = f"{length} bytes; there are 2 to {MAX_COMMAND}"
        else:
            trouble = self._filter.command(data[0], data[1], data[2:])
        if trouble:
            self.transport.mistake(f"control command: {trouble}")
        elif (data[0], data[1]) == (MAC, MAC_ADDR_SET):
            self.config.mac = self._filter.mac
        if not chain.writable_size:
            self.transport.mistake("a control command without room for the answer (§5.1.6.5)")
            return 0
        return chain.write(ERR if trouble else OK)

    # --- looking --------------------------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        return {
            "mac": mac_text(self.config.mac),
            "link": "up" if self.link_up else "down",
            "backend": self._place.label if self._place is not None else "none",
            "link_losses": self.link_losses,
            "mtu": self._mtu,
            "rx_frames": self.rx_frames,
            "rx_bytes": self.rx_bytes,
            "tx_frames": self.tx_frames,
            "tx_bytes": self.tx_bytes,
            "waiting": len(self._backlog),
            "drops": dict(self.drops),
            "receives": self._filter.inspect(),
        }


def _derived_mac(place: StreamPlace | TapPlace | None) -> bytes:
    """For a NIC that no switch counts: from where it is plugged in, else its number in this process."""
    if place is None:
        return b"\x02VM\xff" + next(_unplugged).to_bytes(2, "big")
    return b"\x02V" + zlib.crc32(place.label.encode()).to_bytes(4, "big")
