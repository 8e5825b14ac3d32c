"""Starting an outgoing TCP connection without waiting for it.

In: destination and optional source address.  Out: a socket that epoll reports readable, writable or in error.
"""
from __future__ import annotations

import os
import socket

from mailproxy.errors import MailproxyError
from mailproxy.net.transport import borrowed


class ConnectFailed(MailproxyError):
    """The kernel refused at once; `text` is the reason, `bind` whether binding the source address failed."""

    def __init__(self, text: str, *, bind: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.bind = bind


_NONBLOCKING = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_INET, _INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_TCP, _NODELAY = int(socket.IPPROTO_TCP), int(socket.TCP_NODELAY)
_IP_BIND_ADDRESS_NO_PORT = 24       # Linux: choose the source port at connect time, so that it is unique per 4-tuple
_CONNECTING = (0, 115)              # EINPROGRESS


def start(ip: str, port: int, source: str | None) -> int:
    """A non-blocking descriptor on its way to (ip, port).  Raises ConnectFailed."""
    try:
        # the type under socket.socket, and plain numbers: the Python layers cost more than the system call
        sock = socket.SocketType(_INET6 if ":" in ip else _INET, _NONBLOCKING)
    except OSError as error:
        raise ConnectFailed(f"socket() failed: {error.strerror}") from error
    if source is not None:
        try:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        except OSError as error:
            sock.close()
            raise ConnectFailed(error.strerror or str(error), bind=True) from error
    sock.setsockopt(_TCP, _NODELAY, 1)
    code = sock.connect_ex((ip, port))
    if code not in _CONNECTING:
        sock.close()
        raise ConnectFailed(os.strerror(code))
    return sock.detach()


def outcome(fd: int) -> str:
    """Why a connecting socket failed; "" if it did not."""
    with borrowed(fd) as sock:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(code) if code else ""


def connected(fd: int) -> bool:
    with borrowed(fd) as sock:
        try:
            sock.getpeername()
        except OSError:
            return False
    return True


def local_name(fd: int) -> str:
    """`IP:PORT` of our end; "" if it has none."""
    with borrowed(fd) as sock:
        try:
            ip, port = sock.getsockname()[:2]
        except OSError:
            return ""
    return f"{ip}:{port}"
