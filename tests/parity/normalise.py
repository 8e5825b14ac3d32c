"""What two runs cannot have in common: session ids, ports, times.  Everything else must be equal.

In: transcript or log lines, the ports that have a name in this run.  Out: the same with names in place of numbers.
"""
from __future__ import annotations

import base64
import ipaddress
import re
import time
from collections.abc import Mapping

_PORT = re.compile(r"(?<![\w.])\d{4,5}(?![\w.])")
_SESSION = re.compile(r"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{32}|[A-Za-z0-9+/]{16})(?![A-Za-z0-9+/])")
#: As XCLIENT of SMTP writes it: its plus signs take three bytes each.
_XTEXT_SESSION = re.compile(r"(?<=SESSION=)[A-Za-z0-9+/]+")
_BYTES_IN = re.compile(r"(?<=in=)\d+(?=, out=)")
#: A session id is of this run if its time is within a day of now.
_DAY = 86_400_000_000
_BANNER = re.compile(r"Dovecot \(Debian\) ready\.|Dovecot ready\.|mailproxy ready\.")
_NAME = re.compile(r'(S: \* ID \("name" )"(?:Dovecot|mailproxy)"')
_APOP = re.compile(r"<[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]+\.[^@> ]+@[^> ]+>")
_DATE = re.compile(r"\[[\w.-]+:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]")
_NUMBERS = (
    (re.compile(r"local=([\d.]+):\d+"), r"local=\1:PORT"),
    (re.compile(r"\d+\.\d+ secs"), "N.N secs"),
    (re.compile(r"(waited|after|in) \d+ secs"), r"\1 N secs"),
    (re.compile(r"\b\d+s idle"), "Ns idle"),
    (re.compile(r"duration=\d+s"), "duration=Ns"),
    (re.compile(r"read\(size=\d+\)"), "read(size=N)"),
    (re.compile(r"(expected host name \S+): (?:(?!: user=)[^(])*"), r"\1: WHY"),
    (re.compile(r"(invalid SSL certificate): (?:(?!: user=)[^(])*"), r"\1: WHY"),
    (re.compile(r"mpid=\d+"), "mpid=N"),
    (re.compile(r"(SSL_\w+\(\))(?: syscall)? failed: [^(,]*?(?=[:,] user=|, (?:session|rip)=| \(|$)"),
     r"\1 failed: WHY"),
    # Dovecot words a failed handshake in one of two ways, whichever comes first: its call or the peer's next bytes
    (re.compile(r"Aborting due to internal error: Failed to start SSL handshake: "), "TLS to the backend failed: "),
    (re.compile(r"Disconnected by server: Connection closed: ((?:Received invalid SSL|SSL)[^:]*: .*?) ?"
                r"\(state=\S+ duration=Ns\)"), r"TLS to the backend failed: \1"),
    (re.compile(r"Connection closed: SSL_accept\(\) failed: WHY"), "Connection closed"),
)
_LOGIN_LINE = re.compile(r"[a-z3]+-login: (?:(Info|Warning|Error|Fatal|Panic): )(.*)")
_FINDER = re.compile(r"session=<([^>]*)>|user=<([^>]*)>|proxy\(([^,)]*)[,)]|real_rport=(\d+)")


def session(text: str) -> tuple[int, str] | None:
    """The client's port and address within a session id that was made today; None for any other text."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    if len(raw) not in (12, 24):
        return None
    age = (time.time_ns() // 1000 - int.from_bytes(raw[:6], "little")) & 0xFFFFFFFFFFFF
    if min(age, 2**48 - age) > _DAY:
        return None
    return int.from_bytes(raw[6:8], "little"), str(ipaddress.ip_address(raw[8:]))


def stretch(lines: list[str]) -> int:
    """By how many bytes session ids were longer on the wire than they are."""
    return sum(2 * match[0].count("+2B") for line in lines for match in _XTEXT_SESSION.finditer(line))


class Normaliser:
    """Knows the ports of one scenario's run."""

    __slots__ = ("_clients", "_ports", "_stretched", "_user")

    def __init__(self, user: str, ports: Mapping[int, str], clients: list[int], stretched: int = 0) -> None:
        """`stretched`: see `stretch`; log lines count these bytes."""
        self._stretched = stretched
        self._user = user
        self._clients = set(clients)
        self._ports = {**{port: f"${name}" for port, name in ports.items()}, **dict.fromkeys(clients, "$client")}

    def line(self, text: str) -> str:
        text = _XTEXT_SESSION.sub(lambda m: m[0].replace("+2B", "+"), text)
        text = _SESSION.sub(lambda m: self._session(m[0]), text)
        text = _PORT.sub(lambda m: self._ports.get(int(m[0]), m[0]), text)
        text = _APOP.sub("<CHALLENGE>", text)
        return _DATE.sub("[HOST:TIME]", _NAME.sub(r'\1"OURS"', _BANNER.sub("BANNER", text)))

    def _session(self, text: str) -> str:
        found = session(text)
        if found is None:
            return text
        port, address = found
        if port in self._clients and address.startswith("127."):
            return "SESSION"
        return f"SESSION({self._ports.get(port, port)} {address})"

    def lines(self, lines: list[str]) -> list[str]:
        return [self.line(line) for line in lines]

    def _ours(self, text: str) -> bool:
        return any((session(m[1] or "") or (0,))[0] in self._clients or self._user in (m[2], m[3])
                   or int(m[4] or 0) in self._clients for m in _FINDER.finditer(text))

    def log(self, log: str) -> list[str]:
        """The lines of the login service that concern this scenario, in order."""
        found = []
        for match in _LOGIN_LINE.finditer(log):
            text = match[2]
            if self._ours(text):
                for pattern, name in _NUMBERS:
                    text = pattern.sub(name, text)
                text = _BYTES_IN.sub(lambda m: str(int(m[0]) - self._stretched), text)
                found.append(f"{match[1]}: {self.line(text)}")
        return found
