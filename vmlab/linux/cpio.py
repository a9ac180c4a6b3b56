"""A writer of cpio archives in the "newc" form, which Linux unpacks as an initramfs.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. The same files give the same
bytes: owners and inode numbers are fixed, and so are times, unless a file's is given.
"""

from __future__ import annotations

import stat

__all__ = ["Archive"]

_TRAILER = "TRAILER!!!"


class Archive:
    """Files are added in any order; their folders come by themselves, before them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._folders: set[str] = set()
        self._count = 0

    def folder(self, path: str, mode: int = 0o755) -> None:
        """And the folders above it. Nothing happens when it is there already."""
        path = path.strip("/")
        if not path or path in self._folders:
            return
        self.folder(path.rpartition("/")[0])
        self._folders.add(path)
        self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644, time: int = 0) -> None:
        """time: when it was changed, in seconds since 1970."""
        self.folder(path.strip("/").rpartition("/")[0])
        self._entry(path.strip("/"), stat.S_IFREG | mode, data, time=time)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.folder(path.strip("/").rpartition("/")[0])
        self._entry(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def node(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device."""
        self.folder(path.strip("/").rpartition("/")[0])
        self._entry(path.strip("/"), stat.S_IFCHR | mode, b"", (major, minor))

    def _entry(
        self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0), time: int = 0
    ) -> None:
        if len(data) >> 32:
            raise ValueError(f"{path}: {len(data):#x} bytes do not fit the format")
        self._count += 1
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # inode, mode, owner, group, links, time, size, device, the node's device, name, checksum
        fields = (self._count, mode, 0, 0, links, time, len(data), 0, 0, *device, len(name), 0)
        self._data += b"070701" + b"".join(b"%08X" % one for one in fields)
        for part in (name, data):
            self._data += part
            self._data += bytes(-len(self._data) % 4)

    def finish(self) -> bytes:
        """The archive; nothing can be added afterwards."""
        self._entry(_TRAILER, 0, b"")
        return bytes(self._data)
