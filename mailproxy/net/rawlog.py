"""Copies of what two programs say to each other, in files: for the administrator who must see what really happens.

In: a directory, a connection's transport.  Out: the transport again, and two files a connection, named after the time,
the process and a number: NAME.in has what the peer said, NAME.out what it was told.  Each line begins with the time of
its first byte.  What goes through TLS is written as it is before and after encryption.  The files hold passwords:
nobody but the process's user may read them.  A directory that is not there, or full, is said once, and costs nothing
but the copies.
"""
from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable

from mailproxy.net.transport import Plain, Tls

_MODE = 0o600
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Rawlog:
    """One for each process and directory.  `complain` gets what is wrong with the directory."""

    __slots__ = ("_complain", "_complained", "_directory", "_number")

    def __init__(self, directory: str, complain: Callable[[str], None]) -> None:
        self._directory = directory
        self._complain = complain
        self._complained = False
        self._number = 0

    def record(self, plain: Plain) -> Plain:
        """In the place of a transport; the same one if nothing can be written."""
        self._number += 1
        name = f"{time.strftime('%Y%m%d-%H%M%S')}.{os.getpid()}.{self._number}"
        path = os.path.join(self._directory, name)
        said: File | None = None
        try:
            said = File(path + ".in", self.fails)
            return RecordedPlain(plain.fd, said, File(path + ".out", self.fails))
        except OSError as error:
            if said is not None:
                said.close()
            self.fails(f"open({path}.*) failed: {error.strerror}")
            return plain

    def fails(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            self._complain(f"rawlog: {why}")


class File:
    """One direction."""

    __slots__ = ("_complain", "_fd", "_inside")

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self._fd = os.open(path, _FLAGS, _MODE)
        self._complain = complain
        self._inside = False            # of a line

    def write(self, data: bytes | memoryview) -> None:
        if self._fd < 0:
            return
        now = time.time_ns() // 1000
        stamp = b"%d.%06d " % divmod(now, 1_000_000)
        raw = bytes(data)
        open_ended = not raw.endswith(b"\n")
        text = (raw if open_ended else raw[:-1]).replace(b"\n", b"\n" + stamp)
        text = (b"" if self._inside else stamp) + text + (b"" if open_ended else b"\n")
        self._inside = open_ended
        try:
            os.write(self._fd, text)
        except OSError as error:
            self._complain(f"write() failed: {error.strerror}")
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RecordedPlain(Plain):
    __slots__ = ("_said", "_told")
    splices = False

    def __init__(self, fd: int, said: File, told: File) -> None:
        super().__init__(fd)
        self._said = said
        self._told = told

    def secure(self, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> Tls:
        return RecordedTls(self, context, self._said, self._told, server_side=server_side, name=name)

    def recv(self, size: int) -> bytes | None:
        data = super().recv(size)
        if data:
            self._said.write(data)
        return data

    def recv_into(self, view: memoryview) -> int:
        count = super().recv_into(view)
        if count > 0:
            self._said.write(view[:count])
        return count

    def send(self, data: bytes | memoryview) -> int:
        sent = super().send(data)
        if sent:
            self._told.write(data[:sent])
        return sent

    def close(self) -> None:
        super().close()
        self._said.close()
        self._told.close()


class RecordedTls(Tls):
    __slots__ = ("_said", "_told")

    def __init__(self, plain: Plain, context: ssl.SSLContext, said: File, told: File, *, server_side: bool,
                 name: str | None) -> None:
        super().__init__(plain, context, server_side=server_side, name=name)
        self._said = said
        self._told = told

    def recv(self, size: int) -> bytes | None:
        data = super().recv(size)
        if data:
            self._said.write(data)
        return data

    def recv_into(self, view: memoryview) -> int:
        count = super().recv_into(view)
        if count > 0:
            self._said.write(view[:count])
        return count

    def send(self, data: bytes | memoryview) -> int:
        sent = super().send(data)
        if sent:
            self._told.write(data[:sent])
        return sent

    def close(self) -> None:
        super().close()
        self._said.close()
        self._told.close()
