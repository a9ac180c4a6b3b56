"""The switch itself: ports, addresses, queues, one thread. What people hold is `Switch`.

Whoever is connected may send anything. Each port is read and written without ever waiting for it:
a slow one loses its own frames, a broken one its own connection.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from vmlab.net.addresses import AddressTable
from vmlab.net.packets import MIN_FRAME
from vmlab.net.pcap import Frame
from vmlab.net.stream import BUFFER, LENGTH, MAX_FRAME, BadPeer, widen

__all__ = ["Hub", "HubPort"]

log = logging.getLogger(__name__)

#: connections; one more is refused
MAX_PORTS = 64
#: bytes that wait for one port, beside what its socket holds; more is dropped
QUEUE = 1 << 20
#: frames that `frames` remembers
KEEP = 1000
#: buffers of one system call; IOV_MAX is 1024 where it is smallest
MAX_PIECES = 1000
#: IEEE 802.1D reserves these destinations for one link: a bridge does not pass them on
_LINK_LOCAL = b"\x01\x80\xc2\x00\x00"

Observer = Callable[[list[Frame]], None]


class HubPort:
    """One connection. Counters are as the switch sees them: `in` is what came from the port."""

    def __init__(self, number: int, name: str, connected: socket.socket) -> None:
        self.number, self.name, self.socket = number, name, connected
        self.frames_in = self.bytes_in = self.frames_out = self.bytes_out = self.drops = 0
        #: the beginning of a frame whose end has not come yet
        self.rest = b""
        #: whole frames of the batch at hand, and what did not fit into the socket
        self.out: list[memoryview] = []
        self.out_size = 0
        self.queue = bytearray()


class Hub:
    """Forwards between its ports until it is closed. listener: new ports come from there."""

    def __init__(self, listener: socket.socket) -> None:
        self._pid = os.getpid()
        self._listener = listener
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._view = memoryview(bytearray(BUFFER))
        self._ports: dict[int, HubPort] = {}
        self._others: dict[HubPort, tuple[HubPort, ...]] = {}
        self._addresses = AddressTable()
        self._numbers = 0
        self._newcomers: deque[HubPort] = deque()
        self._lock = threading.Lock()
        self._closing = False
        #: connections that were refused, or closed because they broke the format
        self.refused = 0
        self.frames: deque[Frame] = deque(maxlen=KEEP)
        #: replaced as a whole: the hub's thread may be in the middle of it
        self._observers: list[Observer] = [self.frames.extend]
        for one in (listener, self._wake, self._waker):
            one.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._awake)
        self._thread = threading.Thread(target=self._run, name="vmlab-switch", daemon=True)
        self._thread.start()
        _hubs.add(self)

    # --- called by other threads ----------------------------------------------------------------

    def attach(self, connected: socket.socket, name: str) -> HubPort:
        """A port for this end of a connection."""
        with self._lock:
            self._numbers += 1
            port = HubPort(self._numbers, name, connected)
        self._newcomers.append(port)
        self._nudge()
        return port

    def observe(self, observer: Observer) -> None:
        """Called with each batch of frames, on the hub's thread; it must be quick."""
        with self._lock:
            self._observers = [*self._observers, observer]

    def ignore(self, observer: Observer) -> None:
        with self._lock:
            self._observers = [one for one in self._observers if one != observer]

    @property
    def ports(self) -> list[HubPort]:
        return list(self._ports.values())

    @property
    def addresses(self) -> dict[bytes, int]:
        """address -> the number of the port that it is behind."""
        return self._addresses.snapshot()

    def close(self) -> None:
        """Every connection ends. Idempotent; nothing in a fork, where there is no thread."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._nudge()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _nudge(self) -> None:
        try:
            self._waker.send(b"x")
        except OSError:
            pass  # it is full: the thread will wake anyway; or closed: there is none

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, events in self._selector.select():
                    if isinstance(key.data, HubPort):
                        self._serve(key.data, events)
                    else:
                        key.data()
        finally:
            for port in [*self._ports.values(), *self._newcomers]:
                port.socket.close()
            self._selector.close()
            for one in (self._listener, self._wake, self._waker):
                one.close()
            self._ports.clear()

    def _awake(self) -> None:
        try:
            self._wake.recv(4096)
        except BlockingIOError:
            pass
        while self._newcomers:
            self._enter(self._newcomers.popleft())

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(
                    0.01
                )  # it stays in the queue; asking without a pause would take the core
            return
        with self._lock:
            self._numbers += 1
            number = self._numbers
        self._enter(HubPort(number, "", connected))

    def _enter(self, port: HubPort) -> None:
        if len(self._ports) >= MAX_PORTS:
            self.refused += 1
            port.socket.close()
            return
        port.socket.setblocking(False)
        widen(port.socket)
        self._selector.register(port.socket, selectors.EVENT_READ, port)
        self._ports[port.number] = port
        self._arrange()

    def _leave(self, port: HubPort) -> None:
        if self._ports.pop(port.number, None) is None:
            return
        self._selector.unregister(port.socket)
        port.socket.close()
        self._addresses.leave(port.number)
        self._arrange()

    def _arrange(self) -> None:
        everyone = tuple(self._ports.values())
        self._others = {one: tuple(two for two in everyone if two is not one) for one in everyone}

    def _serve(self, port: HubPort, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._drain(port)
        if events & selectors.EVENT_READ and port.number in self._ports:
            self._receive(port)

    # --- frames come ----------------------------------------------------------------------------

    def _receive(self, port: HubPort) -> None:
        view, kept = self._view, len(port.rest)
        view[:kept] = port.rest
        try:
            got = port.socket.recv_into(view[kept:])
        except BlockingIOError:
            return
        except OSError:
            got = 0
        if not got:
            self._leave(port)
            return
        data = bytes(view[: kept + got])
        try:
            port.rest = data[self._walk(port, data) :]
        except BadPeer as error:
            log.warning("switch port %d is closed: %s", port.number, error)
            self.refused += 1
            self._leave(port)
        for one in self.ports:
            if one.out:
                self._flush(one)

    def _walk(self, port: HubPort, data: bytes) -> int:
        """Forward each whole frame; returns where the first incomplete one begins.

        Frames that follow one another between the same two addresses go on as one piece, lengths
        included: nothing is copied for each of them."""
        unpack, end, now, number = LENGTH.unpack_from, len(data), time.time_ns(), port.number
        seen: list[Frame] = []
        at = begin = count = 0
        previous = b""
        targets: tuple[HubPort, ...] = ()
        try:
            while at + 4 <= end:
                (size,) = unpack(data, at)
                if not 0 < size <= MAX_FRAME:
                    raise BadPeer(f"it announced a frame of {size} bytes")
                after = at + 4 + size
                if after > end:
                    break
                # a runt has no addresses; the address of nobody leads nowhere
                addresses = data[at + 4 : at + 16] if size >= MIN_FRAME else b""
                if addresses != previous or not addresses:
                    self._forward(port, targets, data, begin, at, count)
                    targets = self._route(port, addresses) if addresses else ()
                    previous, begin, count = addresses, at, 0
                if addresses:
                    seen.append(Frame(now, number, data[at + 4 : after]))
                    count += 1
                else:
                    port.drops += 1
                    begin = after
                at = after
        finally:
            self._forward(port, targets, data, begin, at, count)
            self._show(seen)
        return at

    def _route(self, port: HubPort, addresses: bytes) -> tuple[HubPort, ...]:
        """Where frames with these two addresses go; never back to where they came from."""
        target, source = addresses[:6], addresses[6:]
        if not source[0] & 1:
            self._addresses.heard(source, port.number)
        if target[0] & 1:
            if target[:5] == _LINK_LOCAL and target[5] < 16:
                return ()
            return self._others[port]
        number = self._addresses.find(target)
        if number is None:
            return self._others[port]
        return () if number == port.number else (self._ports[number],)

    def _show(self, frames: list[Frame]) -> None:
        if not frames:
            return
        for observer in self._observers:
            try:
                observer(frames)
            except BaseException:  # an observer that fails is taken off, the network goes on
                log.exception("an observer of the switch failed and is taken off")
                self.ignore(observer)

    # --- frames go ------------------------------------------------------------------------------

    def _forward(
        self,
        port: HubPort,
        targets: Iterable[HubPort],
        data: bytes,
        begin: int,
        end: int,
        count: int,
    ) -> None:
        """`count` frames with their lengths: data[begin:end]."""
        if not count:
            return
        size = end - begin
        port.frames_in += count
        port.bytes_in += size - 4 * count
        for target in targets:
            target.out.append(memoryview(data)[begin:end])
            target.out_size += size
            target.frames_out += count
            target.bytes_out += size - 4 * count

    def _flush(self, port: HubPort) -> None:
        """Send the batch at hand; what does not fit is queued or dropped."""
        pieces, total = port.out, port.out_size
        port.out, port.out_size = [], 0
        sent = 0
        if not port.queue:
            if len(pieces) > MAX_PIECES:
                pieces = [memoryview(b"".join(pieces))]
            try:
                sent = port.socket.sendmsg(pieces)
            except BlockingIOError:
                pass
            except OSError:
                self._leave(port)
                return
        if sent < total:
            self._park(port, b"".join(pieces), sent)

    def _park(self, port: HubPort, data: bytes, sent: int) -> None:
        """Queue what was not sent, as whole frames, as far as there is room."""
        at, unpack, waiting = 0, LENGTH.unpack_from, len(port.queue)
        while at < len(data):
            (size,) = unpack(data, at)
            # a frame that is half out must go on, whatever the room
            if at >= sent and waiting + at + 4 + size - sent > QUEUE:
                break
            at += 4 + size
        kept, dropped, dropped_bytes = at, 0, 0
        while at < len(data):
            (size,) = unpack(data, at)
            at, dropped, dropped_bytes = at + 4 + size, dropped + 1, dropped_bytes + size
        port.drops += dropped
        port.frames_out -= dropped
        port.bytes_out -= dropped_bytes
        if kept > sent:
            port.queue += memoryview(data)[sent:kept]
            if not waiting:
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(port.socket, both, port)

    def _drain(self, port: HubPort) -> None:
        """The port has room again."""
        try:
            with memoryview(port.queue) as whole:
                sent = port.socket.send(whole)
        except BlockingIOError:
            return
        except OSError:
            self._leave(port)
            return
        del port.queue[:sent]
        if not port.queue:
            self._selector.modify(port.socket, selectors.EVENT_READ, port)

    # --- forks ----------------------------------------------------------------------------------

    def forsake(self) -> None:
        """In a fork: let go of the copies, else its peers would not see the switch's end."""
        sockets: list[Any] = [port.socket for port in self._ports.values()]
        for one in (self._listener, self._wake, self._waker, self._selector, *sockets):
            one.close()


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


def _forked() -> None:
    for hub in list(_hubs):
        hub.forsake()


os.register_at_fork(after_in_child=_forked)
