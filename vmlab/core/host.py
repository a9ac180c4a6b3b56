"""The one door to the host's kernel.

Everything that asks the operating system for something a test may want to refuse goes through a
`Host`; tests hand in another one. Linux-only calls are looked up when used, so that the package
imports anywhere.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
from collections.abc import Callable
from typing import Any

__all__ = ["HOST", "Host"]


class Host:
    """Opens, maps and controls. Errors are the OSError of the call, unchanged."""

    _libc: Any = None

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        """`argument` is an int, or a writable buffer or ctypes object passed by address.

        Not fcntl.ioctl: that one takes only a signed C int, and copies buffers over 1,024 bytes.
        """
        libc = Host._libc
        if libc is None:
            libc = Host._libc = ctypes.CDLL(None, use_errno=True)
            libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
        # `argument` stays bound during the call: the caller may hold no reference to it
        address = argument
        if not isinstance(argument, int):
            address = ctypes.addressof(
                argument
                if isinstance(argument, (ctypes.Structure, ctypes.Array, ctypes._SimpleCData))
                else (ctypes.c_char * len(argument)).from_buffer(argument)
            )
        result: int = libc.ioctl(fd, request, address)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def runner(self) -> Callable[[int, int, int], int]:
        """`ioctl` for a loop that cannot afford the checks: (fd, request, argument), each a signed C
        int; negative is failure, and `ctypes.get_errno()` says which.

        Not fcntl.ioctl: it audits every call (0.4 us), and newer Pythons repeat it on EINTR, so a
        KVM_RUN that was told to stop would never come back.
        """
        call: Callable[[int, int, int], int] = ctypes.CDLL(None, use_errno=True).ioctl
        return call

    def epoll(self) -> select.epoll:
        return select.epoll()

    def eventfd(self) -> int:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def memory_fd(self, name: str, size: int, sealed: bool = True) -> int:
        """A descriptor of `size` zero bytes that no file name leads to.

        sealed: whoever holds it can no longer change the size, where the system has such seals: what
        one process cut off, another that has it mapped would meet as SIGBUS.
        """
        if hasattr(os, "memfd_create"):
            flags = os.MFD_ALLOW_SEALING if sealed else 0
            fd = os.memfd_create(name, os.MFD_CLOEXEC | flags)
        else:
            import tempfile  # only here: it takes as long as all of this module

            fd, path = tempfile.mkstemp(prefix=name)
            os.unlink(path)
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
        if sealed:
            self._seal(fd)
        return fd

    def _seal(self, fd: int) -> None:
        seals = [getattr(fcntl, f"F_SEAL_{what}", 0) for what in ("SHRINK", "GROW", "SEAL")]
        if all(seals):
            try:
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sum(seals))
            except OSError:
                pass  # EINVAL: a file system without seals is behind it; nothing else depends on them

    def map(self, fd: int, size: int) -> mmap.mmap:
        """A shared, read-write mapping."""
        return mmap.mmap(fd, size)

    def zero(self, mapping: mmap.mmap) -> None:
        """Make a shared mapping all zeroes; where the system can, by giving its pages back."""
        if hasattr(mmap, "MADV_REMOVE"):
            try:
                mapping.madvise(mmap.MADV_REMOVE)
                return
            except OSError:
                pass
        nothing = bytes(1 << 20)
        for start in range(0, len(mapping), len(nothing)):
            end = min(start + len(nothing), len(mapping))
            mapping[start:end] = nothing[: end - start]

    def total_memory(self) -> int:
        """Bytes of RAM the host has."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


HOST = Host()
