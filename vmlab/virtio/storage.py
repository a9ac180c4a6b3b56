"""Where a disk's bytes are: a file, or memory that looks like one.

Everything goes through a `Files`, so that a test can refuse, shorten or fail any call. Buffers are
guest memory itself: the host's kernel reads and writes it without a copy in between.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shlex
import stat
import sys
from typing import Any

from vmlab.core.host import HOST
from vmlab.core.safely import named
from vmlab.errors import ConfigError
from vmlab.virtio.queue import split

__all__ = ["FILES", "Files", "Storage", "check_image"]

# modes of Linux's fallocate
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
#: what a file system answers that cannot do it
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)
#: what one that has no locks answers
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Files:
    """The host's calls on files. Errors are the OSError of the call, unchanged."""

    _libc: Any = None

    def open(self, path: str, writable: bool) -> int:
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)

    def memory(self, size: int) -> int:
        """A file of `size` zeroes that is in memory. Nobody maps it, and a disk may be resized."""
        return HOST.memory_fd("vmlab-disk", size, sealed=False)

    def close(self, fd: int) -> None:
        os.close(fd)

    def lock(self, fd: int, exclusive: bool) -> None:
        """BlockingIOError when somebody else holds it; on file systems without locks, nothing."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def size(self, fd: int) -> int:
        """Bytes, of block devices too."""
        return os.lseek(fd, 0, os.SEEK_END)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def preadv(self, fd: int, views: list[memoryview], offset: int) -> int:
        return os.preadv(fd, views, offset)

    def pwritev(self, fd: int, views: list[memoryview], offset: int) -> int:
        return os.pwritev(fd, views, offset)

    def sync(self, fd: int) -> None:
        """Back when the bytes are on the medium, its own caches included."""
        if sys.platform == "darwin":
            try:
                # fsync leaves them in the drive's cache there
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            except OSError as error:
                if error.errno not in (*_CANNOT, errno.ENOTTY):
                    raise
                os.fsync(fd)
        else:
            os.fdatasync(fd)

    def allocate(self, fd: int, mode: int, offset: int, size: int) -> None:
        """fallocate(2); OSError(EOPNOTSUPP) on hosts that have none."""
        if not sys.platform.startswith("linux"):
            raise OSError(errno.EOPNOTSUPP, "no fallocate")
        libc = Files._libc
        if libc is None:
            libc = Files._libc = ctypes.CDLL(None, use_errno=True)
            libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        while libc.fallocate(fd, mode, offset, size) < 0:
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))


FILES = Files()


def check_image(path: str, writable: bool) -> None:
    """ConfigError, in words, for what cannot be a disk's image."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        hint = (
            f"; `truncate -s 64M {shlex.quote(path)}` makes one"
            if error.errno == errno.ENOENT
            else ""
        )
        raise ConfigError(f"disk image {named(path)}: {error.strerror}{hint}") from error
    except ValueError as error:  # a NUL
        raise ConfigError(f"disk image {named(path)}: {error}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise ConfigError(f"disk image {named(path)} is neither a file nor a block device")
    if not os.access(path, os.R_OK):
        raise ConfigError(f"disk image {named(path)} cannot be read: permission denied")
    if writable and not os.access(path, os.W_OK):
        raise ConfigError(
            f"disk image {named(path)} cannot be written; readonly=True takes it as it is"
        )


class Storage:
    """An open image of `size` bytes. Offsets and sizes are the caller's to check against it."""

    def __init__(self, fd: int, files: Files = FILES) -> None:
        self._fd = fd
        self._files = files
        self.size = files.size(fd)
        #: ways of fallocate that this file system has refused
        self._refused: set[int] = set()
        #: errno of the first failure to make something durable. (The exception itself would hold the
        #: frames that it went through, and with them guest memory; raised again, more each time.)
        self._lost: int | None = None

    @classmethod
    def open(cls, path: str, writable: bool, files: Files = FILES) -> Storage:
        """Locked against other writers (and, for writing, other readers); ConfigError says why not."""
        try:
            fd = files.open(path, writable)
        except OSError as error:
            raise ConfigError(f"disk image {named(path)}: {error.strerror}") from error
        try:
            files.lock(fd, exclusive=writable)
            return cls(fd, files)
        except BlockingIOError as error:
            files.close(fd)
            raise ConfigError(
                f"disk image {named(path)} is in use by another machine;"
                " several can share it when all of them take it with readonly=True"
            ) from error
        except OSError as error:
            files.close(fd)
            raise ConfigError(f"disk image {named(path)}: {error.strerror}") from error

    @classmethod
    def memory(cls, size: int, data: bytes = b"", files: Files = FILES) -> Storage:
        """`size` bytes that begin with `data` and end with the device."""
        try:
            fd = files.memory(size)
        except OSError as error:
            raise ConfigError(f"a disk of {size:#x} bytes in memory: {error.strerror}") from error
        try:
            self = cls(fd, files)
            if data:
                self.write([memoryview(data)], len(data), 0)
        except OSError as error:
            files.close(fd)
            raise ConfigError(f"a disk of {size:#x} bytes in memory: {error.strerror}") from error
        return self

    def close(self) -> None:
        self._files.close(self._fd)

    # --- moving bytes ---------------------------------------------------------------------------

    def read(self, views: list[memoryview], size: int, offset: int) -> None:
        """Fill `views`, `size` bytes together. Behind the end of the image, less than a sector of
        zeroes."""
        done = self._files.preadv(self._fd, views, offset)
        while done < size:
            rest = split(views, done)[1]
            got = self._files.preadv(self._fd, rest, offset + done)
            if not got:
                if offset + done < self.size:
                    raise OSError(errno.EIO, "the image has become shorter under the disk")
                for view in rest:
                    view[:] = bytes(len(view))
                return
            done += got

    def write(self, views: list[memoryview], size: int, offset: int) -> None:
        done = self._files.pwritev(self._fd, views, offset)
        while done < size:
            got = self._files.pwritev(self._fd, split(views, done)[1], offset + done)
            if not got:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += got

    def sync(self) -> None:
        """What was written before is durable when this returns.

        After one failure none succeeds any more: the host's kernel reports lost pages once and then
        calls them clean, so that a later success would be a lie about them.
        """
        if self._lost is not None:
            raise OSError(self._lost, os.strerror(self._lost))
        try:
            self._files.sync(self._fd)
        except OSError as error:
            self._lost = error.errno or errno.EIO
            raise

    def discard(self, offset: int, size: int) -> None:
        """Give the range back to the host, where it takes it."""
        self._allocate(PUNCH_HOLE | KEEP_SIZE, offset, size)

    def zero(self, offset: int, size: int, unmap: bool) -> bool:
        """Make the range zeroes; False: this file system cannot, and the caller has to write them."""
        if unmap and self._allocate(PUNCH_HOLE | KEEP_SIZE, offset, size):
            return True
        return self._allocate(ZERO_RANGE | KEEP_SIZE, offset, size)

    def _allocate(self, mode: int, offset: int, size: int) -> bool:
        if mode in self._refused:
            return False
        try:
            self._files.allocate(self._fd, mode, offset, size)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._refused.add(mode)
            return False
        return True

    # --- its size -------------------------------------------------------------------------------

    def resize(self, size: int) -> None:
        self._files.truncate(self._fd, size)
        self.size = size

    def look(self) -> None:
        """Take the size that the image has now; somebody else may have changed it."""
        self.size = self._files.size(self._fd)
