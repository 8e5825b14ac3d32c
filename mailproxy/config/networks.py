"""The argument of `local` and `remote` blocks: an address, a network or a host name."""
from __future__ import annotations

import socket
import time
from ipaddress import ip_address, ip_network

from mailproxy.config.filters import Address, Network

#: Longer than this, resolving a name deserves a line in the log (the whole load waits for it).
_SLOW_SECONDS = 5.0


def parse_network(text: str) -> tuple[Network, str]:
    """(network, warning).  A host name means its first address.  ValueError with the text for the administrator."""
    host, slash, bits = text.partition("/")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    slow = ""
    try:
        address: Address = ip_address(host)
    except ValueError:
        address, slow = _resolve(host)
    if not slash:
        return ip_network(address), slow
    if not bits.isascii() or not bits.isdigit() or len(bits) > 3 or int(bits) > address.max_prefixlen:
        raise ValueError(f"Invalid network mask: {bits}")
    return ip_network((address, int(bits)), strict=False), slow


def _resolve(host: str) -> tuple[Address, str]:
    started = time.monotonic()
    try:
        if not host or not host.isprintable():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answer = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "Name or service not known"
        raise ValueError(f"gethostbyname({host}) failed: {reason}") from None
    took = time.monotonic() - started
    slow = f"gethostbyname({host}) took {took:.0f} seconds" if took > _SLOW_SECONDS else ""
    return ip_address(str(answer[0][4][0]).partition("%")[0]), slow
