"""The console device (virtio 1.2 §5.3): streams of bytes between the guest and the notebook."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from vmlab.core.device import command
from vmlab.errors import ConfigError
from vmlab.virtio import ports as spec
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.ports import BACKLOG, Port
from vmlab.virtio.queue import Chain

__all__ = ["Console"]

QUEUE_SIZE = 128
#: two queues a port and two for control; a transport has 64 at most
MOST_PORTS = 31
#: the queues of control messages, to the driver and from it
CONTROL_IN, CONTROL_OUT = 2, 3
#: control messages that wait for the driver; a driver that asks and never listens must not fill the host
MOST_WAITING = 1024
#: bytes that a control message of the driver's has; what follows them is ignored
CONTROL_SIZE = spec.CONTROL.size


class Console(VirtioDevice):
    """Consoles, `ports` of them.

        vm.hot_add(Console())
        vm.consoles["console0"].send("hello\\n")
        vm.devices["console0"].resize(132, 43)

    With several ports the others are `vm.consoles["console0/1"]` and so on; each has a size and can be
    opened and closed, taken out and put back. cols, rows: the size that the guest is told first.
    legacy: whether its registers are the legacy interface's (virtio 1.2 §4.2.4); None: as its machine has it.
    """

    type = "virtio-console"
    device_id = 3

    def __init__(
        self,
        ports: int = 1,
        cols: int = 80,
        rows: int = 25,
        notify: str = "ioeventfd",
        legacy: bool | None = None,
    ) -> None:
        if not 1 <= ports <= MOST_PORTS:
            raise ConfigError(f"ports={ports}; a console has 1 to {MOST_PORTS}")
        _check_size(cols, rows)
        self.choose_notify(notify)
        self.choose_legacy(legacy)
        #: `consoles` is how many streams the machine offers
        self.ports = self.consoles = ports
        # an instance has as many queues as its ports need
        queues = 2 if ports == 1 else 2 + 2 * ports
        self.queue_sizes = (QUEUE_SIZE,) * queues  # type: ignore[misc]
        self.features = spec.F_SIZE | spec.F_EMERG_WRITE | (spec.F_MULTIPORT if ports > 1 else 0)
        self.config: spec.Config = spec.Config(cols=cols, rows=rows, max_nr_ports=ports)
        self._ports = [Port(number, cols, rows) for number in range(ports)]
        self._start()

    def _start(self) -> None:
        self._ready = False
        #: messages for the driver
        self._control: deque[bytes] = deque()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_lock"}

    def attached(self) -> None:
        #: guards input and control messages; nothing else is taken inside it
        self._lock = threading.Lock()

    def reset(self) -> None:
        self._start()
        for port in self._ports:
            port.reset()

    def queue_reset(self, index: int) -> None:
        port = self._port_of(index)
        if port is not None:
            port.queue_reset()

    # --- what the notebook does -----------------------------------------------------------------

    @command
    def send(self, data: str | bytes, port: int = 0) -> int:
        """Type `data`; returns how many bytes there was room for. 1 MiB waits for a guest that does not
        read."""
        one = self._known(port)
        raw = data.encode() if isinstance(data, str) else bytes(data)
        with self._lock:
            count = one.put(raw)
        self.transport.wake(_input_queue(port))
        return count

    @command
    def resize(self, cols: int, rows: int, port: int = 0) -> None:
        """Tell the guest that the window is so large now (§5.3.6.2)."""
        _check_size(cols, rows)
        one = self._known(port)
        one.cols, one.rows = cols, rows
        if self._multiport and one.plugged:
            self._tell(port, spec.RESIZE, 0, spec.SIZE.pack(cols, rows))
        if port == 0:
            self.config.cols, self.config.rows = cols, rows
            self.transport.config_changed()

    @command
    def connect(self, port: int = 0, connected: bool = True) -> None:
        """Tell the guest that somebody is, or is no longer, at this end of a port (PORT_OPEN)."""
        one = self._known(port)
        self._need_multiport()
        one.host_open = connected
        if one.plugged:
            self._tell(port, spec.PORT_OPEN, int(connected))

    @command
    def remove_port(self, port: int) -> None:
        """Take a port out of the device (DEVICE_REMOVE); input that waits for it is dropped."""
        one = self._known(port)
        self._need_multiport()
        if one.plugged:
            fresh = Port(port, one.cols, one.rows)
            fresh.plugged = False
            with self._lock:
                self._ports[port] = fresh
            self._tell(port, spec.DEVICE_REMOVE)

    @command
    def add_port(self, port: int) -> None:
        """Put a port back that was taken out (DEVICE_ADD)."""
        one = self._known(port)
        self._need_multiport()
        if not one.plugged:
            one.plugged = True
            self._tell(port, spec.DEVICE_ADD)

    def _known(self, port: int) -> Port:
        if not 0 <= port < self.ports:
            raise ConfigError(f"no port {port}; there are 0 to {self.ports - 1}")
        return self._ports[port]

    def _need_multiport(self) -> None:
        if self.ports == 1:
            raise ConfigError("a console of one port has no control messages; make it with ports=2")

    # --- the configuration space ----------------------------------------------------------------

    def write_config(self, offset: int, size: int, value: int) -> None:
        """§5.3.4: a character for port 0, at any moment, before there is a driver too."""
        if offset == spec.EMERG_WR_OFFSET and size in (1, 2, 4):
            self.transport.output(bytes([value & 0xFF]), 0)
        else:
            super().write_config(offset, size, value)

    # --- queues ---------------------------------------------------------------------------------

    @property
    def _multiport(self) -> bool:
        return bool(self.transport.negotiated & spec.F_MULTIPORT)

    def _port_of(self, index: int) -> Port | None:
        """The port that a queue belongs to; None: it is for control."""
        if index in (CONTROL_IN, CONTROL_OUT):
            return None
        return self._ports[index // 2 - (index > CONTROL_OUT)]

    def process(self, index: int) -> bool:
        queue = self.transport.queues.get(index)
        if queue is None:
            return False
        if index > 1 and not self._multiport:
            # without the feature these queues do not exist (§5.3.2)
            chain = queue.pop()
            if chain is not None:
                self.transport.mistake(
                    f"a request in queue {index} without VIRTIO_CONSOLE_F_MULTIPORT"
                )
                queue.push(chain, 0)
            return chain is not None
        if index == CONTROL_OUT:
            return super().process(index)
        if index % 2:
            port = self._port_of(index)
            assert port is not None
            return port.drain(queue, lambda data: self._output(port, data))
        if not self.ready(index):
            return False
        chain = queue.pop()
        if chain is None:
            return False
        queue.push(chain, self._fill(index, chain))
        return True

    def ready(self, index: int) -> bool:
        if index % 2:
            return True
        if index == CONTROL_IN:
            return bool(self._control)
        port = self._port_of(index)
        # §5.3.6.1: into a port of several only when the guest has opened it
        return bool(port and port.waiting and (port.guest_open or not self._multiport))

    def _fill(self, index: int, chain: Chain) -> int:
        """Put input, or a control message, into the driver's buffer."""
        if not any(map(len, chain.writable)):
            self.transport.mistake(f"queue {index}: a buffer for input without room")
            return 0
        port = self._port_of(index)
        with self._lock:
            if port is not None:
                return port.fill(chain)
            message = self._control.popleft() if self._control else b""
        count = chain.write(message)
        if count < len(message):
            self.transport.mistake(
                f"a control message of {len(message)} bytes in a buffer of {count}"
            )
        return count

    def _output(self, port: Port, data: bytes) -> None:
        if port.plugged:
            self.transport.output(data, port.number)
        else:
            self.transport.mistake(f"output to port {port.number}, which was removed")

    # --- control messages (§5.3.6.2) ------------------------------------------------------------

    def handle(self, index: int, chain: Chain) -> int:
        """A control message of the driver's."""
        data = chain.read(CONTROL_SIZE)
        if len(data) < CONTROL_SIZE:
            self.transport.mistake(f"a control message of {len(data)} bytes")
            return 0
        number, event, value = spec.CONTROL.unpack(data)
        if event == spec.DEVICE_READY:
            self._device_ready(value)
        elif number >= self.ports or not self._ports[number].plugged:
            self.transport.mistake(f"control event {event} for port {number}, which does not exist")
        elif event == spec.PORT_READY:
            self._port_ready(self._ports[number], value)
        elif event == spec.PORT_OPEN:
            self._ports[number].guest_open = bool(value)
            if value:
                self.transport.wake(_input_queue(number))
        else:
            self.transport.mistake(f"control event {event}, which is none of a driver's")
        return 0

    def _device_ready(self, value: int) -> None:
        self._ready = value == 1
        if not self._ready:
            self.transport.mistake("the driver could not set the device up (DEVICE_READY 0)")
            return
        for port in self._ports:
            if port.plugged:
                self._tell(port.number, spec.DEVICE_ADD)

    def _port_ready(self, port: Port, value: int) -> None:
        if value != 1:
            self.transport.mistake(f"the driver could not set port {port.number} up (PORT_READY 0)")
            return
        number = port.number
        self._tell(number, spec.CONSOLE_PORT, 1)
        self._tell(number, spec.RESIZE, 0, spec.SIZE.pack(port.cols, port.rows))
        self._tell(number, spec.PORT_NAME, 1, b"vmlab.%d" % number)
        self._tell(number, spec.PORT_OPEN, int(port.host_open))

    def _tell(self, port: int, event: int, value: int = 0, more: bytes = b"") -> None:
        """A control message for the driver, once it has said that it is there."""
        if not self._ready:
            return
        with self._lock:
            full = len(self._control) >= MOST_WAITING
            if not full:
                self._control.append(spec.CONTROL.pack(port, event, value) + more)
        if full:
            self.transport.mistake("the driver does not take its control messages; one is dropped")
        self.transport.wake(CONTROL_IN)

    def inspect(self) -> dict[str, Any]:
        return {
            "ports": [
                {
                    "cols": port.cols,
                    "rows": port.rows,
                    "plugged": port.plugged,
                    "host_open": port.host_open,
                    "guest_open": port.guest_open,
                    "waiting": port.waiting,
                    "bytes_in": port.bytes_in,
                    "bytes_out": port.bytes_out,
                }
                for port in self._ports
            ],
            "backlog": BACKLOG,
        }


def _input_queue(port: int) -> int:
    """§5.3.2: 0, 4, 6, 8, ..."""
    return 0 if port == 0 else 2 * port + 2


def _check_size(cols: int, rows: int) -> None:
    for name, value in (("cols", cols), ("rows", rows)):
        if not 0 <= value <= 0xFFFF:
            raise ConfigError(f"{name}={value}; 0 to 65535")
