"""A message on its way through SMTP: the dots of DATA (RFC 5321), the head of BDAT (RFC 3030).

In and out: bytes, in pieces of any size; nothing is kept but what a piece ended in the middle of.
"""
from __future__ import annotations

import re

from mailproxy.errors import ProtocolError

#: Digits of a chunk's size: no message has more.
SIZE_DIGITS = 18
_BDAT = re.compile(rb" *([0-9]{1,%d})(?: +(LAST))? *\Z" % SIZE_DIGITS, re.I)
_END = b"\r\n.\r\n"
_BARE = re.compile(rb"(?<!\r)\n")
_DOT = re.compile(rb"\r\n?\.")


class DotReader:
    """Takes the dots out of DATA and finds its end.

    Only CRLF.CRLF ends a message: whoever accepts bare LF or CR there can be made to read one message as two."""

    __slots__ = ("_first", "_held", "done")

    def __init__(self) -> None:
        self._held = b"\r\n"        # a dot may stand at the very beginning
        self._first = True
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(text of the message, what stands behind its end: b"" until `done`)."""
        if self.done:
            return b"", data
        data = self._held + data
        end = data.find(_END)
        if end >= 0:
            self.done = True
            self._held = b""
            text, rest = data[:end + 2], data[end + 5:]
        else:
            keep = next((size for size in (4, 3, 2, 1) if data.endswith(_END[:size])), 0)
            self._held = data[len(data) - keep:] if keep else b""
            text, rest = data[:len(data) - keep] if keep else data, b""
        text = text.replace(b"\r\n.", b"\r\n")
        if self._first and text:
            self._first = False
            text = text[2:]
        return text, rest


class DotWriter:
    """Puts the dots into DATA.  A bare LF becomes CRLF, and so does a bare CR before a dot, so that no peer sees an end
    that we did not write."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\r\n"        # of a line end: as much as there was of it

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        last = self._last
        if b"\n" in data:
            data = b"\n" + _BARE.sub(b"\r\n", data[1:]) if data[0] == 10 and last[-1:] == b"\r" else (
                _BARE.sub(b"\r\n", data))
        text = last + data
        self._last = b"\r\n" if text.endswith(b"\r\n") else b"\r" if text.endswith(b"\r") else b""
        return _DOT.sub(b"\r\n..", text)[len(last):]

    def end(self) -> bytes:
        return b".\r\n" if self._last == b"\r\n" else b"\r\n.\r\n"


def bdat(arguments: bytes) -> tuple[int, bool]:
    """(size, is the last) of the arguments of BDAT."""
    match = _BDAT.match(arguments)
    if match is None:
        raise ProtocolError("Invalid chunk size parameter")
    return int(match[1]), match[2] is not None
