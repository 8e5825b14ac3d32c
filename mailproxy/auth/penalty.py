"""Who fails to log in waits longer before the next attempt: the price of guessing, by address.

In: requests that begin, succeed or fail.  Out: seconds that one has to wait.  The table is our own, so that a login
asks nobody and an address without failures costs nothing; anvil is told of every change and lends its table to an auth
process that has just begun.  It must not wait for anvil: what anvil cannot take now is lost to it.
"""
from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Callable
from ipaddress import IPv6Network, ip_address

from mailproxy.auth.request import Request
from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import Lines, encode
from mailproxy.ipc.penalty import Penalties
from mailproxy.net.loop import IN, Loop, quiet_close

#: Seconds to wait for each value.
_WAITS = (0, 4, 8, 15, 15)
_LARGEST = len(_WAITS) - 1
#: Seconds after its last failure that an address is as good as new, and after which it is forgotten.
_INNOCENT = 15
_EXPIRE = 29
#: An IPv6 customer has at least this much of the address space.
_IPV6_BITS = 48
_RETRY = 5.0
_READ = 65536


class Penalty:
    __slots__ = ("_clock", "_lines", "_loop", "_next_try", "_path", "_socket", "_table")

    def __init__(self, loop: Loop, path: str, clock: Callable[[], float] = time.time) -> None:
        self._loop = loop
        self._path = path
        self._clock = clock
        self._table = Penalties(_EXPIRE)
        self._socket: socket.socket | None = None
        self._lines = Lines()
        self._next_try = 0.0
        self._connect()

    def wait(self, request: Request) -> float:
        """Seconds until the request may begin."""
        if not self._table or "no-penalty" in request.args:
            return 0.0
        ident = _ident(request)
        now = int(self._clock())
        value, since = self._table.get(ident, now) if ident else (0, 0)
        if not value or now - since >= _INNOCENT:
            return 0.0
        request.penalty = min(value, _LARGEST)
        return float(_WAITS[request.penalty])

    def failed(self, request: Request) -> None:
        """A wrong name or password, or whatever else is the client's fault."""
        if "no-penalty" not in request.args and "nodelay" not in request.fields:
            checksum = zlib.crc32((request.user or "").encode("utf-8", "surrogateescape"),
                                  zlib.crc32(request.password.encode("utf-8", "surrogateescape")))
            self._set(request, checksum, min(request.penalty + 1, _LARGEST))

    def succeeded(self, request: Request) -> None:
        """For requests that had to wait."""
        if "nodelay" not in request.fields:
            self._set(request, 0, 0)

    def close(self) -> None:
        if self._socket is not None:
            self._loop.unregister(self._socket.fileno())
            quiet_close(self._socket)
            self._socket = None

    def _set(self, request: Request, checksum: int, value: int) -> None:
        ident = _ident(request)
        if ident:                           # whoever has no address shares it with nobody
            self._table.set(ident, checksum, value, int(self._clock()))
            self._tell(f"PENALTY-INC\t{ident}\t{checksum}\t{value}\n")

    # --- anvil -----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._next_try = self._loop.now + _RETRY
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            made.connect(self._path)
        except OSError:                     # it is not there; our own table does
            made.close()
            return
        self._socket = made
        self._lines = Lines()
        self._loop.register(made.fileno(), IN, self._ready)
        self._tell(f"VERSION\tanvil\t1\t0\nPENALTY-SET-EXPIRE-SECS\t{_EXPIRE}\nPENALTY-DUMP\n")

    def _tell(self, text: str) -> None:
        if self._socket is None:
            if self._loop.now >= self._next_try:
                self._connect()
            if self._socket is None:
                return
        data = encode(text)
        try:
            whole = self._socket.send(data) == len(data)
        except BlockingIOError:
            return
        except OSError:
            whole = False
        if not whole:
            self.close()

    def _ready(self, mask: int) -> None:
        """Rows of the dump, which an empty line ends; nothing else is ever answered."""
        assert self._socket is not None
        try:
            data = self._socket.recv(_READ)
            lines = self._lines.feed(data)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            data = b""
        if not data:
            self.close()
            return
        for line in lines:
            words = line.split("\t")
            if len(words) == 4 and all(word.isascii() and word.isdecimal() and len(word) <= 10 for word in words[1:]):
                self._table.put(words[0], *map(int, words[1:]))


def _ident(request: Request) -> str:
    """The address, or for IPv6 the network; "" for none."""
    text = request.args.get("rip", "")
    if ":" not in text:
        return text
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or IPv6Network((int(address), _IPV6_BITS), strict=False).network_address)
