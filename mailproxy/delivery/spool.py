"""A message on its way: taken in whole before it goes out, so that a slow backend holds up nobody and a message that
its client never finished reaches nobody.

In: pieces.  Out: any part of it.  Line ends are made CRLF on the way in (a bare CR stays).  Limits: MEMORY_MAX bytes
in memory, the rest of a message is in an unnamed file in mail_temp_dir, so that memory does not grow with it.
"""
from __future__ import annotations

import os
import re
import tempfile

#: Most messages are smaller, and never see a disk.
MEMORY_MAX = 128 * 1024
_BARE = re.compile(rb"(?<!\r)\n")


class Spool:
    """OSError from `add` when the disk is full."""

    __slots__ = ("_directory", "_fd", "_last_cr", "_parts", "size")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._parts = bytearray()
        self._fd = -1
        self._last_cr = False
        self.size = 0

    def add(self, data: bytes) -> None:
        if b"\n" in data:
            if self._last_cr and data[0] == 10:
                data = b"\n" + _BARE.sub(b"\r\n", data[1:])
            else:
                data = _BARE.sub(b"\r\n", data)
        self._last_cr = data[-1:] == b"\r"
        if self._fd < 0:
            if self.size + len(data) <= MEMORY_MAX:
                self._parts += data
                self.size += len(data)
                return
            self._fd = _unnamed(self._directory)
            data = bytes(self._parts) + data
            self._parts = bytearray()
            self.size = 0
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self.size)
            self.size += written
            view = view[written:]

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from there on; b"" at the end."""
        if self._fd < 0:
            return bytes(self._parts[offset:offset + size])
        return os.pread(self._fd, size, offset)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._parts = bytearray()


def _unnamed(directory: str) -> int:
    """A file that is gone when it is closed."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:                     # a file system without such files
        fd, name = tempfile.mkstemp(prefix="mailproxy.lmtp.", dir=directory)
        os.unlink(name)
        return fd
