"""A byte stream over a connected, non-blocking socket: plain or TLS behind one interface.

`recv` answers bytes, b"" at the end of the stream, or None when it would block; `wants` then says which event to
wait for.  `send` answers how many bytes went out, 0 when it would block.  Failures are `Broken`, whose text is
fit for a log.  It must not know who reads what.  A TLS transport may hold bytes that epoll will not announce: read
until None.
"""
from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from mailproxy.errors import MailproxyError
from mailproxy.net.loop import IN, OUT


class Broken(MailproxyError):
    """The connection is unusable; the text is the system's or OpenSSL's reason."""


@contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A descriptor as a socket object, for the calls that need one; the descriptor stays open."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


class Plain:
    """TCP as it is.  Works on the bare descriptor: a socket object costs two system calls to make and 200 bytes to
    keep, and closes through three Python frames.  (SIGPIPE is ignored in every Python process.)"""

    __slots__ = ("fd",)
    wants = IN
    tls = False
    splices = True                      # the kernel may move its bytes without showing them to us

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def secure(self, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> Tls:
        """TLS from now on; Broken."""
        return Tls(self, context, server_side=server_side, name=name)

    def recv(self, size: int) -> bytes | None:
        try:
            return os.read(self.fd, size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Broken(f"read(size={size}) failed: {error.strerror}") from error

    def recv_into(self, view: memoryview) -> int:
        """Bytes read; 0 at the end of the stream; -1 when it would block."""
        try:
            return os.readv(self.fd, (view,))
        except BlockingIOError:
            return -1
        except OSError as error:
            raise Broken(f"read(size={len(view)}) failed: {error.strerror}") from error

    def send(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Broken(f"write() failed: {error.strerror}") from error

    def at_end(self) -> bool:
        """The peer has ended its stream (or the connection), and nothing is left to be read."""
        with borrowed(self.fd) as sock:
            try:
                return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True

    def shut(self) -> None:
        """No more data from us (half-close)."""
        with borrowed(self.fd) as sock:
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:             # already gone: the reading side will notice
                return

    def close(self) -> None:
        if self.fd < 0:
            return
        try:
            os.close(self.fd)
        except ConnectionResetError:    # the descriptor is closed all the same
            return


def reason(error: ssl.SSLError | OSError) -> str:
    """OpenSSL's words for a failed handshake, without Python's source position."""
    words = getattr(error, "reason", None)          # not every SSLError has one
    if words:
        return str(words).replace("_", " ").lower()
    return (error.strerror or type(error).__name__).partition(" (_ssl.c:")[0]


def ended_rudely(error: BaseException | None) -> bool:
    """The end of a stream without close_notify; older Pythons have no class of their own for it."""
    return isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"


class Tls:
    """TLS over a connection that belongs to it from now on.  Call `handshake()` until it answers True."""

    __slots__ = ("_ended", "failure", "fd", "sock", "wants")
    tls = True
    splices = False

    def __init__(self, plain: Plain, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, plain.fd)   # the family does not matter any more
        sock.setblocking(False)
        try:
            self.sock = context.wrap_socket(sock, server_side=server_side, do_handshake_on_connect=False,
                                            suppress_ragged_eofs=False, server_hostname=name)
        except (OSError, ValueError) as error:
            plain.fd = sock.detach()    # -1 if the wrapper took it, and closes it: nobody else may
            raise Broken(f"TLS initialization failed: {error}") from error
        self.fd = self.sock.fileno()
        self.wants = IN
        self.failure = ""               # what ended the peer's stream, unless it was close_notify
        self._ended = False             # both sides have said close_notify: what follows is not TLS

    def handshake(self) -> bool:
        """True when done; False: wait for `wants`; Broken with the reason when it failed."""
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.wants = IN
            return False
        except ssl.SSLWantWriteError:
            self.wants = OUT
            return False
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, ValueError) as error:
            raise Broken(reason(error) if isinstance(error, OSError) else str(error)) from error
        self.wants = IN
        return True

    def recv(self, size: int) -> bytes | None:
        if self._ended:
            return b""
        try:
            return self.sock.recv(size)
        except OSError as error:
            return b"" if self._at_end(error, size) else None

    def recv_into(self, view: memoryview) -> int:
        if self._ended:
            return 0
        try:
            return self.sock.recv_into(view)
        except OSError as error:
            return 0 if self._at_end(error, len(view)) else -1

    def _at_end(self, error: OSError, size: int) -> bool:
        """What a read that gave nothing means: the end, or (False) that it would block; Broken for anything else."""
        if isinstance(error, ssl.SSLWantReadError):
            self.wants = IN
            return False
        if isinstance(error, ssl.SSLWantWriteError):
            self.wants = OUT
            return False
        if ended_rudely(error):
            self.failure = "Connection closed"
            return True
        self.failure = f"read(size={size}) failed: {reason(error)}"
        raise Broken(self.failure) from error

    def send(self, data: bytes | memoryview) -> int:
        if self._ended:
            raise Broken("write() failed: Broken pipe")
        try:
            return self.sock.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            raise Broken(f"write() failed: {reason(error)}") from error

    def pending(self) -> int:
        return self.sock.pending()

    def shut(self) -> None:
        """Our close_notify; the peer may still send."""
        if self._ended:
            return
        try:
            self.sock.unwrap()
            self._ended = True
        except (OSError, ValueError):   # it wants the peer's answer, for which we do not wait; or the peer is gone
            return

    def close(self) -> None:
        self.shut()
        try:
            self.sock.close()
        except OSError:
            return
