"""A learning Ethernet switch that joins VMs, and whose every frame can be watched.

    switch = Switch()
    a, b = VM(devices=[Nic(switch)]), VM(devices=[Nic(switch)])
    switch.log()                        # the last frames, a line each
    with switch.capture("x.pcap"): ...  # for tcpdump and Wireshark

It lives in this process, on one thread; VMs connect from theirs over a Unix stream socket, each frame
after its length. QEMU (`-netdev stream`) and passt speak that too and may be plugged in at `path`.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Self

from vmlab.errors import ConfigError, StateError
from vmlab.net.hub import Hub
from vmlab.net.observers import Capture, Lines, Port, PortRow, Ports, Watch
from vmlab.net.packets import mac_text
from vmlab.net.pcap import Frame, PcapWriter
from vmlab.net.rendezvous import Claim, PrivateHome, listen
from vmlab.net.stream import StreamPlace, connect, widen

__all__ = ["Capture", "Frame", "Port", "PortRow", "Switch", "Watch", "shared"]

log = logging.getLogger(__name__)

#: seconds between two looks whether the host of a shared switch is gone
TAKE_OVER = 0.2
#: locally administered addresses "VM", then the switch's count
_MAC_PREFIX = b"\x02VM"


class Switch:
    """See the module's docstring.

    name: shared by this user's processes (`--device net,switch=lab`): the first one hosts it, the
    others connect, and when the host goes another takes its place. pcap: capture from the beginning.
    """

    def __init__(
        self, name: str | None = None, *, pcap: str | os.PathLike[str] | None = None
    ) -> None:
        self.name = name
        self._seat = _Seat(Claim(name) if name is not None else PrivateHome())
        self._finalizer = weakref.finalize(self, self._seat.close)
        if pcap is not None:
            try:
                self.capture(pcap)
            except BaseException:
                self.close()
                raise

    @property
    def path(self) -> str:
        """The socket; for QEMU: -netdev stream,id=n,addr.type=unix,addr.path=..."""
        return self._seat.home.path

    @property
    def hosting(self) -> bool:
        """Whether the frames pass through this process."""
        return self._seat.hub is not None

    @property
    def label(self) -> str:
        return f"switch {self.name}" if self.name is not None else "switch"

    def place(self) -> StreamPlace:
        """Where a Nic finds the switch. StateError once it is closed."""
        self._seat.check()
        return StreamPlace(self.path, self.label)

    def new_mac(self) -> bytes:
        """02:56:4d:00:00:01, then :02, ...: the same in each run, and unique in the lab."""
        self._seat.check()
        return _MAC_PREFIX + self._seat.home.number().to_bytes(3, "big")

    # --- looking --------------------------------------------------------------------------------

    @property
    def frames(self) -> deque[Frame]:
        """The last frames, as they came in: (time, port, data)."""
        return self._hub.frames

    @property
    def refused(self) -> int:
        """Connections that were one too many, or closed because they broke the format."""
        return self._hub.refused

    @property
    def ports(self) -> Ports:
        hub = self._hub
        behind: dict[int, list[str]] = {}
        for mac, number in hub.addresses.items():
            behind.setdefault(number, []).append(mac_text(mac))
        return Ports(
            PortRow(
                one.number,
                one.name,
                tuple(behind.get(one.number, ())),
                one.frames_in,
                one.bytes_in,
                one.frames_out,
                one.bytes_out,
                one.drops,
            )
            for one in hub.ports
        )

    def log(self, last: int = 20) -> Lines:
        """The last frames, a line each: seconds since the first of them, port, what it says."""
        frames = list(self._hub.frames)[-last:] if last > 0 else []
        start = frames[0].time if frames else 0
        return Lines(f"{(one.time - start) / 1e9:10.6f}  {one.port:>2}  {one}" for one in frames)

    def watch(self, callback: Callable[[Frame], object]) -> Watch:
        """`callback(frame)` for each frame from now on, on a thread of its own. When it raises, it is
        taken off; when it is slow, it misses frames."""
        hub = self._hub
        watch = Watch(hub, callback)
        self._seat.observers.add(watch)
        return watch

    def capture(self, path: str | os.PathLike[str]) -> Capture:
        """Write every frame from now on to `path`, until the end of the `with`, `close`, or the
        switch's end. pcap with nanoseconds."""
        hub = self._hub
        capture = Capture(hub, path)
        self._seat.observers.add(capture)
        return capture

    def pcap(self, path: str | os.PathLike[str]) -> int:
        """Write the frames that `frames` holds to `path`; returns how many."""
        with PcapWriter(path) as writer:
            writer.write(list(self._hub.frames))
            return writer.frames

    def attach(self, callback: Callable[[bytes], object], name: str = "python") -> Port:
        """A port of one's own: `callback(frame)` gets the frames that a NIC there would, on a thread of
        its own; `port.send(frame)` answers."""
        return Port(self._seat.join(name), callback, self.new_mac())

    @property
    def _hub(self) -> Hub:
        self._seat.check()
        hub = self._seat.hub
        if hub is None:
            home = self._seat.home
            who = home.host() if isinstance(home, Claim) else None
            raise StateError(
                f"the frames of switch {self.name!r} pass through process {who}, which hosts it; look there"
            )
        return hub

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Every link goes down; the socket and the captures are closed. Idempotent."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> None:
        raise ConfigError("a Switch stays in its process; what travels is Nic(switch)")

    def __repr__(self) -> str:
        what = f"<Switch {self.name or self.path}: "
        if self._seat.closed:
            return f"{what}closed>"
        hub = self._seat.hub
        return f"{what}{len(hub.ports)} ports>" if hub is not None else f"{what}hosted elsewhere>"


class _Seat:
    """A switch's place in this process; without a reference to the Switch, whose end ends it."""

    def __init__(self, home: Claim | PrivateHome) -> None:
        self.home = home
        self.hub: Hub | None = None
        #: those under way, to be closed with the switch; the hub holds them
        self.observers: weakref.WeakSet[Capture | Watch] = weakref.WeakSet()
        self._pid = os.getpid()
        self._over = threading.Event()
        self._heir: threading.Thread | None = None
        try:
            if home.acquire():
                self.hub = Hub(listen(home.path))
        except BaseException:
            home.release()
            raise
        if self.hub is None:
            self._heir = threading.Thread(target=self._inherit, name="vmlab-heir", daemon=True)
            self._heir.start()

    def _inherit(self) -> None:
        """Wait for the host to go, then host."""
        while not self._over.wait(TAKE_OVER):
            try:
                if self.home.acquire():
                    self.hub = Hub(listen(self.home.path))
                    return
            except (ConfigError, OSError):
                log.exception("the switch has lost its host, and cannot be hosted here")
                self.home.release()
                return

    @property
    def closed(self) -> bool:
        return self._over.is_set()

    def check(self) -> None:
        if self.closed:
            raise StateError("the switch is closed")

    def join(self, name: str) -> socket.socket:
        """A connection to the switch, wherever it is hosted."""
        self.check()
        if self.hub is None:
            try:
                return connect(self.home.path)
            except OSError as error:
                raise StateError(
                    f"nobody hosts the switch at {self.home.path} just now: {error.strerror}"
                ) from error
        mine, theirs = socket.socketpair()
        self.hub.attach(theirs, name)
        return widen(mine)

    def close(self) -> None:
        if self._pid != os.getpid() or self.closed:
            return  # a fork has copies, and no thread
        self._over.set()
        if self._heir is not None:
            self._heir.join()
        if self.hub is not None:
            self.hub.close()
        for observer in list(self.observers):
            observer.close()
        self.home.release()


_shared: dict[str, Switch] = {}
_sharing = threading.Lock()


def shared(name: str) -> Switch:
    """This process's Switch(name), kept until the process ends."""
    with _sharing:
        known = _shared.get(name)
        if known is None or known._seat.closed:
            known = _shared[name] = Switch(name)
        return known
