"""The line discipline of all auth sockets (reference: Dovecot's auth protocol, major version 1).

Lines end in LF, fields are separated by TAB, values are tab-escaped.  Sans-IO: bytes and str in, bytes and str out.
Text is utf-8 with surrogateescape, so that every byte survives the round trip.
"""
from __future__ import annotations

from mailproxy.errors import ProtocolError

#: Client protocol version that we speak on both sides.
MAJOR, MINOR = 1, 2
#: Longest line that a server accepts from a client (and the other way round).
MAX_LINE = 16384

_ESCAPES = {"\x00": "\x010", "\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n"}
_TABLE = str.maketrans(_ESCAPES)
_UNESCAPES = {"0": "\x00", "1": "\x01", "t": "\t", "r": "\r", "n": "\n"}


def escape(value: str) -> str:
    """One value made safe for a field."""
    if value.isprintable():                 # true of nearly every value; also of the empty one
        return value
    return value.translate(_TABLE)


def unescape(field: str) -> str:
    """The value of a field.  \\x01 before any other byte yields that byte; a lone one at the end is dropped."""
    if "\x01" not in field:
        return field
    out: list[str] = []
    chars = iter(field)
    for char in chars:
        if char == "\x01":
            follower = next(chars, None)
            if follower is None:
                break
            char = _UNESCAPES.get(follower, follower)
        out.append(char)
    return "".join(out)


def pair(field: str) -> tuple[str, str]:
    """`key=value` or a bare `key`, unescaped; the value of a bare key is ""."""
    key, _, value = field.partition("=")
    return key, unescape(value)


class Lines:
    """Cuts a byte stream into lines; holds at most one line's worth of bytes."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._rest = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now, without LF or CRLF.  ProtocolError for one that is too long."""
        if self._rest:
            data = self._rest + data
        parts = data.split(b"\n")
        self._rest = rest = parts.pop()
        if len(rest) > self._limit:
            raise ProtocolError(f"sent us more than {self._limit} bytes")
        lines = []
        for part in parts:
            if part.endswith(b"\r"):
                part = part[:-1]
            if len(part) > self._limit:
                raise ProtocolError(f"sent us more than {self._limit} bytes")
            lines.append(part.decode("utf-8", "surrogateescape"))
        return lines


def encode(line: str) -> bytes:
    """One line, without its LF, as bytes."""
    return line.encode("utf-8", "surrogateescape")
