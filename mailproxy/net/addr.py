"""IP addresses and networks as settings write them.

In: texts of `login_trusted_networks`, `login_source_ips`, passdb fields.  Out: tests of membership and packed bytes.
It must not know which setting a text came from.
"""
from __future__ import annotations

import ipaddress
import socket

from mailproxy.errors import MailproxyError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadAddress(MailproxyError):
    """A text that is no address or network; the message is the text itself."""


def packed(ip: str) -> bytes:
    """The 4 or 16 bytes of an address; b"" if it is none."""
    try:
        return socket.inet_aton(ip) if ":" not in ip else socket.inet_pton(socket.AF_INET6, ip.partition("%")[0])
    except (OSError, ValueError, UnicodeError):
        return b""


def is_ip(text: str) -> bool:
    """A complete IPv4 or IPv6 address; the short IPv4 forms of inet_aton do not count."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError, UnicodeError):
        return False
    return True


def normal(text: str) -> str | None:
    """An address as inet_ntop writes it, reading IPv4 with inet_aton's leniency (1.2.3 is 1.2.0.3, as Dovecot reads
    `hostip`); None if it is no address."""
    raw = packed(text.strip("[]") if text.startswith("[") else text)
    if not raw or not text or text != text.strip():
        return None
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def words(text: str) -> list[str]:
    """A list setting: words separated by blanks or commas."""
    return text.replace(",", " ").split()


class Networks:
    """A set of networks with a memory of recent answers: most connections come from few addresses."""

    __slots__ = ("_known", "_nets")
    _MEMORY = 4096

    def __init__(self, items: list[str]) -> None:
        """Raises BadAddress for the first item that is no IP or IP/bits."""
        self._nets: list[Network] = []
        self._known: dict[str, bool] = {}
        for item in items:
            try:
                self._nets.append(ipaddress.ip_network(item.strip("[]"), strict=False))
            except ValueError as error:
                raise BadAddress(item) from error

    def __bool__(self) -> bool:
        return bool(self._nets)

    def __contains__(self, ip: str) -> bool:
        if not self._nets:
            return False
        answer = self._known.get(ip)
        if answer is None:
            if len(self._known) >= self._MEMORY:
                self._known.clear()
            answer = self._known[ip] = self._search(ip)
        return answer

    def _search(self, ip: str) -> bool:
        try:
            address = ipaddress.ip_address(ip.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        return any(address in net for net in self._nets)
