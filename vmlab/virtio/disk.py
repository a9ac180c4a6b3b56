"""The block device (virtio 1.2 §5.2): a raw image file, or memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from vmlab.core.device import command
from vmlab.core.host import HOST
from vmlab.core.units import parse_path, parse_size, show_span
from vmlab.errors import ConfigError
from vmlab.virtio import blk
from vmlab.virtio.blk import Request
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain
from vmlab.virtio.rate_limit import TokenBucket
from vmlab.virtio.storage import FILES, Files, Storage, check_image

__all__ = ["Disk"]

#: disks end here at the latest: offsets in files are signed
MOST = 1 << 62

_ZEROES = bytes(1 << 20)


class Disk(VirtioDevice):
    """A disk.

    path: a raw image, a file or a block device; it is locked, so that two machines cannot write it.
    size: instead, so many zeroes in memory, "16M". data: instead, these bytes in memory (less than
    16 MiB, since they travel to the monitor process). serial: up to 20 ASCII characters. rate: bytes
    a second; iops: requests a second; None: no limit. legacy: whether its registers are the legacy
    interface's (virtio 1.2 §4.2.4); None: as its machine has them.

    What the guest has flushed is on the medium; a guest that cannot flush has every write there.
    """

    type = "virtio-blk"
    device_id = 2
    queue_sizes = (blk.QUEUE_SIZE,)

    #: the host's calls; tests put others in
    files: Files = FILES
    _storage: Storage | None = None
    _request: Request | None = None

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        size: int | str | None = None,
        data: bytes | None = None,
        readonly: bool = False,
        serial: str = "",
        rate: int | str | None = None,
        iops: int | None = None,
        notify: str = "ioeventfd",
        legacy: bool | None = None,
    ) -> None:
        if sum(one is not None for one in (path, size, data)) != 1:
            raise ConfigError("a disk is a file (path=), memory of a size (size=) or bytes (data=)")
        self.path = None if path is None else os.path.abspath(parse_path("path", path))
        self.readonly = readonly
        self._data = b"" if data is None else bytes(data)
        self._size = _memory_size(len(self._data) if size is None else _asked(size))
        if self.path is not None:
            check_image(self.path, writable=not readonly)
        if not serial.isascii() or not serial.isprintable() or len(serial) > blk.ID_SIZE:
            raise ConfigError(
                f"serial={serial!r}; it is {blk.ID_SIZE} printable ASCII characters at most"
            )
        self.serial = serial
        self.rate, self.iops = _limit("rate", rate), _limit("iops", iops)
        self._limits = (TokenBucket(self.rate), TokenBucket(self.iops))
        self._limited = self.rate is not None or self.iops is not None
        self.choose_notify(notify)
        self.choose_legacy(legacy)
        self.features = blk.F_SEG_MAX | blk.F_BLK_SIZE | blk.F_FLUSH | blk.F_TOPOLOGY
        self.features |= (
            blk.F_RO if readonly else blk.F_CONFIG_WCE | blk.F_DISCARD | blk.F_WRITE_ZEROES
        )
        self.config: blk.Config = blk.layout(readonly)
        self.reads = self.writes = self.flushes = self.discards = self.zeroes = self.errors = 0
        self.bytes_read = self.bytes_written = 0
        self.last_error = ""
        self._writeback: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in super().__getstate__().items()
            if name not in ("_storage", "_request", "_lock")
        }

    # --- the image ------------------------------------------------------------------------------

    def attached(self) -> None:
        #: held while an image is worked on or changes its size; nothing else is taken inside it
        self._lock = threading.Lock()
        if self.path is None:
            self._storage = Storage.memory(self._size, self._data, self.files)
        else:
            self._storage = Storage.open(self.path, not self.readonly, self.files)
        self.config.capacity = _sectors(self._storage.size)

    def detached(self) -> None:
        self._request = None
        storage, self._storage = self._storage, None
        if storage is not None:
            storage.close()

    def reset(self) -> None:
        self._request = None
        self._writeback = None

    def queue_reset(self, index: int) -> None:
        self._request = None

    @command
    def resize(self, size: int | str | None = None) -> int:
        """Make the disk `size` bytes long ("2M") and tell the guest; None: as long as the image is now,
        after somebody else has changed it. What a shorter disk has no room for is lost. Returns the
        size."""
        wanted = None if size is None else parse_size(size)
        if wanted is not None and self.readonly:
            raise ConfigError(
                "a read-only disk keeps its size; resize() takes the image's as it is"
            )
        if wanted is not None and (wanted % blk.SECTOR or not 0 <= wanted <= MOST):
            raise ConfigError(f"{size!r} is no size of a disk: bytes, a multiple of {blk.SECTOR}")
        if wanted is not None and self.path is None:
            _memory_size(wanted)
        storage = self._open
        with self._lock:
            try:
                storage.look() if wanted is None else storage.resize(wanted)
            except OSError as error:
                raise ConfigError(f"the image cannot be resized: {error.strerror}") from error
            self.config.capacity = _sectors(storage.size)
        self.transport.config_changed()
        return self.capacity

    def retire(self) -> str:
        """The driver sees a disk without sectors; the image stays as it is, and `resize()` shows it."""
        self.config.capacity = 0
        self.transport.config_changed()
        return "it has no sectors now (resize() gives them back)"

    @property
    def capacity(self) -> int:
        """Bytes, in whole sectors."""
        return int(self.config.capacity) * blk.SECTOR

    @property
    def _open(self) -> Storage:
        if self._storage is None:
            raise ConfigError("the disk is in no machine")
        return self._storage

    # --- the configuration space ----------------------------------------------------------------

    @property
    def write_through(self) -> bool:
        """Whether a write is durable when it is done (§5.2.6.2)."""
        return not self._cached

    @property
    def _cached(self) -> int:
        negotiated = self.transport.negotiated
        if negotiated & blk.F_CONFIG_WCE and self._writeback is not None:
            return self._writeback
        return int(bool(negotiated & blk.F_FLUSH))

    def read_config(self, offset: int, size: int) -> int:
        self.config.writeback = self._cached
        return super().read_config(offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        wce = self.transport.negotiated & blk.F_CONFIG_WCE
        if wce and (offset, size) == (blk.WRITEBACK_OFFSET, 1) and value in (0, 1):
            self._writeback = self.config.writeback = value
        else:
            super().write_config(offset, size, value)

    # --- requests -------------------------------------------------------------------------------

    def process(self, index: int) -> bool:
        """One step of one request; most have but one."""
        queue = self.transport.queues.get(index)
        request, self._request = self._request, None
        if queue is None:
            return False
        # a request of a queue that was reset meanwhile is forgotten
        if request is None or request.queue is not queue:
            if self._limited and (wait := self._wait()):
                self.transport.wake_in(wait, index)
                return False
            chain = queue.pop()
            if chain is None:
                return False
            request = Request(queue, chain)
        status = self._step(request)
        if status is None:
            self._request = request
        else:
            queue.push(request.chain, self._finish(request, status))
        return True

    def handle(self, index: int, chain: Chain) -> int:
        """The whole request at once."""
        request = Request(self.transport.queues[index], chain)
        while (status := self._step(request)) is None:
            pass
        return self._finish(request, status)

    def ready(self, index: int) -> bool:
        return self._request is not None or not (self._limited and self._wait())

    def _wait(self) -> float:
        now = self.transport.clock.now()
        return max(limit.wait(now) for limit in self._limits)

    def _step(self, request: Request) -> bytes | None:
        """The status; None when there is more to do."""
        action = ACTIONS.get(request.kind)
        if action is None:
            if request.kind == blk.NONE:
                return self._refuse("a request shorter than its header")
            return blk.UNSUPP
        try:
            with self._lock:
                return action(self, request)
        except OSError as error:
            self.last_error = (
                f"{blk.NAMES[request.kind]} at sector {request.sector}: {error.strerror}"
            )
            return blk.IOERR

    def _finish(self, request: Request, status: bytes) -> int:
        if status is not blk.OK:
            self.errors += 1
        if self._limited:
            now = self.transport.clock.now()
            self._limits[0].spend(request.done, now)
            self._limits[1].spend(1, now)
        return request.finish(status)

    def _refuse(self, why: str) -> bytes:
        """The driver asked for what it must not."""
        self.transport.mistake(why)
        return blk.IOERR

    def _misplaced(self, request: Request) -> bytes | None:
        """Refused, when the data is not whole sectors inside the disk. Asked before each step: the
        disk may have become shorter."""
        sectors, odd = divmod(request.size, blk.SECTOR)
        if odd:
            return self._refuse(f"{request.size} bytes of data are no whole sectors (§5.2.6)")
        # numbers have no width here: a sector near 2^64 does not wrap to one inside
        if request.sector + sectors > self.config.capacity:
            return self._refuse(
                f"sectors {request.sector} to {request.sector + sectors - 1} of {self.config.capacity}"
            )
        return None

    def _in(self, request: Request) -> bytes | None:
        if (refused := self._misplaced(request)) is not None:
            return refused
        views, size = request.next()
        self._open.read(views, size, request.sector * blk.SECTOR + request.done)
        self.bytes_read += size
        request.done += size
        if request.done < request.size:
            return None
        self.reads += 1
        return blk.OK

    def _out(self, request: Request) -> bytes | None:
        if self.readonly:
            return self._refuse("a write to a read-only disk (§5.2.6.2)")
        if (refused := self._misplaced(request)) is not None:
            return refused
        views, size = request.next()
        self._open.write(views, size, request.sector * blk.SECTOR + request.done)
        self.bytes_written += size
        request.done += size
        if request.done < request.size:
            return None
        self.writes += 1
        return self._settle()

    def _settle(self) -> bytes:
        """OK, once a write is as durable as it has to be."""
        if not self._cached:
            self._open.sync()
        return blk.OK

    def _flush(self, request: Request) -> bytes:
        self._open.sync()
        self.flushes += 1
        return blk.OK

    def _get_id(self, request: Request) -> bytes:
        request.done = request.chain.write(self.serial.encode().ljust(blk.ID_SIZE, b"\0"))
        return blk.OK

    # --- discard and write zeroes ---------------------------------------------------------------

    def _discard(self, request: Request) -> bytes | None:
        ranges = self._ranges(request, blk.F_DISCARD, 0)
        if isinstance(ranges, bytes):
            return ranges
        for offset, size, _ in ranges:
            self._open.discard(offset, size)
        self.discards += 1
        return self._settle()

    def _write_zeroes(self, request: Request) -> bytes | None:
        if request.ranges is None:
            ranges = self._ranges(request, blk.F_WRITE_ZEROES, blk.UNMAP)
            if isinstance(ranges, bytes):
                return ranges
            request.ranges = ranges
        offset, size, unmap = request.ranges.pop(0)
        if offset + size > self.capacity:
            return self._refuse("the disk has become shorter under a request")
        if not self._open.zero(offset, size, unmap):
            part = min(size, len(_ZEROES))
            self._open.write([memoryview(_ZEROES)[:part]], part, offset)
            request.done += part
            if part < size:
                request.ranges.insert(0, (offset + part, size - part, unmap))
        if request.ranges:
            return None
        self.zeroes += 1
        return self._settle()

    def _ranges(
        self, request: Request, feature: int, flags: int
    ) -> list[tuple[int, int, bool]] | bytes:
        """(offset, size, unmap) of each range, all checked before anything is done; or the status of
        a refusal."""
        if self.readonly:
            return self._refuse(f"{blk.NAMES[request.kind]} on a read-only disk (§5.2.6.2)")
        if not self.transport.negotiated & feature:
            return blk.UNSUPP
        if (
            not request.size
            or request.size % blk.RANGE.size
            or request.size > blk.RANGES * blk.RANGE.size
        ):
            return self._refuse(f"{blk.NAMES[request.kind]}: {request.size} bytes of ranges")
        found = []
        for sector, count, given in blk.RANGE.iter_unpack(b"".join(request.data)):
            if given & ~flags:
                return blk.UNSUPP
            if count > blk.RANGE_SECTORS or sector + count > self.config.capacity:
                return self._refuse(
                    f"{blk.NAMES[request.kind]}: {count} sectors from {sector} on, of {self.config.capacity}"
                )
            found.append((sector * blk.SECTOR, count * blk.SECTOR, bool(given & blk.UNMAP)))
        return found

    def inspect(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "capacity": self.capacity,
            "readonly": self.readonly,
            "serial": self.serial,
            "write_through": self.write_through,
            "reads": self.reads,
            "writes": self.writes,
            "flushes": self.flushes,
            "discards": self.discards,
            "zeroes": self.zeroes,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "errors": self.errors,
            "last_error": self.last_error,
            "rate": self.rate,
            "iops": self.iops,
        }


#: what serves each request type
ACTIONS: dict[int, Callable[[Disk, Request], bytes | None]] = {
    blk.IN: Disk._in,
    blk.OUT: Disk._out,
    blk.FLUSH: Disk._flush,
    blk.GET_ID: Disk._get_id,
    blk.DISCARD: Disk._discard,
    blk.WRITE_ZEROES: Disk._write_zeroes,
}


def _sectors(size: int) -> int:
    """The last one may be a part of a sector; what it lacks reads as zeroes."""
    return -(-size // blk.SECTOR)


def _asked(size: int | str) -> int:
    """Bytes; a number that lacks its unit is asked for it."""
    wanted = parse_size(size)
    if wanted < blk.SECTOR:
        word = str(size).strip()
        hint = f'; did you mean "{word}M"?' if word.isdigit() and wanted else ', such as "16M"'
        raise ConfigError(
            f"size={size!r} is {wanted} bytes: a disk has one sector, {blk.SECTOR} bytes, or more{hint}"
        )
    return wanted


def _memory_size(size: int | str) -> int:
    """In whole sectors, and not more than the host has."""
    wanted = _sectors(parse_size(size)) * blk.SECTOR
    most = HOST.total_memory()
    if not 0 <= wanted <= most:
        raise ConfigError(f"a disk of {wanted} bytes in memory; this host has {show_span(most)}")
    return wanted


def _limit(name: str, value: int | str | None) -> int | None:
    if value is None:
        return None
    limit = parse_size(value)
    if limit <= 0:
        raise ConfigError(f"{name}={value!r}; so many a second, more than 0, or None for no limit")
    return limit
