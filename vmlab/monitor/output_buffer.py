"""What the guest's consoles say, gathered until it is sent."""

from __future__ import annotations

import threading

from vmlab.monitor.wire import Output

__all__ = ["MAX_WAITING", "Gathered"]

#: bytes that wait for a notebook which does not read; of a console that says more, older ones go
MAX_WAITING = 8 << 20


class Gathered:
    """Any thread adds; one takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[tuple[str, int], bytearray] = {}
        self._lost: dict[tuple[str, int], int] = {}
        self._total = 0

    def add(self, output: Output) -> None:
        key = (output.device, output.port)
        with self._lock:
            stream = self._streams.get(key)
            if stream is None:
                stream = self._streams[key] = bytearray()
            stream += output.data
            self._total += len(output.data)
            # a share each: one console that shouts does not cost the others their words
            excess = len(stream) - MAX_WAITING // len(self._streams)
            if self._total > 2 * MAX_WAITING and excess > 0:
                del stream[:excess]
                self._total -= excess
                self._lost[key] = self._lost.get(key, 0) + excess

    def take(self) -> list[Output]:
        """All of it, in messages of MAX_WAITING bytes at most."""
        with self._lock:
            streams, self._streams = self._streams, {}
            lost, self._lost = self._lost, {}
            self._total = 0
        outputs = []
        for key, stream in streams.items():
            if key in lost:
                outputs.append(Output(f"\r\n[{lost[key]} bytes lost]\r\n".encode(), *key))
            outputs += [
                Output(bytes(stream[at : at + MAX_WAITING]), *key)
                for at in range(0, len(stream), MAX_WAITING)
            ]
        return outputs
