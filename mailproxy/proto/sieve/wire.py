"""ManageSieve words: arguments of a command line read, strings written.

`Arguments` reads one command's arguments piece by piece, resumably.  Limits: those that it is made with, LINE_MAX for
the whole command with its literals.  Literals never wait for a go-ahead, with a plus sign or without one (as Dovecot
has it; RFC 5804 knows only the former from clients).
"""
from __future__ import annotations

import re

from mailproxy.errors import ProtocolError

#: One word, or the unfinished bytes that a client may make us hold (Dovecot: the login input buffer).
TOKEN_MAX = 1026
#: One command with all its literals, and with a SASL response more than that.
LINE_MAX = 8192
#: Digits of a literal's size; more are an error of their own.
_DIGITS = 10

ATOM, STRING = range(2)
Argument = tuple[int, bytes]

_TOKEN = re.compile(
    rb"[ ]*(?:"
    rb"(\r?\n)"                                         # 1: the end
    rb'|"((?:[^"\\\r\n\0]|\\[^\r\n\0])*)"'              # 2: quoted string
    rb"|([!#-'*-z|}~\[\]\\]+)(?=[ \r\n])"               # 3: atom
    rb"|\{([0-9]+)\+?\}\r?\n"                           # 4: literal
    rb")")
_ESCAPED = re.compile(rb"\\(.)", re.S)
_QUOTED = re.compile(rb'"(?:[^"\\\r\n\0]|\\[^\r\n\0])*\\?')
#: A word that may yet become a token when more bytes come.
_CUT = re.compile(rb'[ ]*(?:\r?|"(?:[^"\\\r\n\0]|\\[^\r\n\0])*\\?|[!#-\'*-z|}~\[\]\\]+\r?|\{[0-9]*\+?\}?\r?)\Z')
_LINE_END = re.compile(r"[\r\n]")


class Overflow(ProtocolError):
    """A word over the limit: the connection ends."""


class Arguments:
    """The arguments of one command."""

    __slots__ = ("_literal", "_max", "_size", "failed_at", "items")

    def __init__(self, token_max: int = TOKEN_MAX) -> None:
        self.items: list[Argument] = []
        self._literal = -1                      # bytes of a literal that is awaited; -1: none
        self._size = 0
        self._max = token_max
        self.failed_at = 0                      # where the text was that broke the grammar

    def read(self, data: bytes, pos: int) -> tuple[bool, int]:
        """Go on at data[pos:].  (finished, position up to which it was used).  ProtocolError: the text is the reply."""
        while True:
            self.failed_at = pos
            if self._literal >= 0:
                end = pos + self._literal
                if len(data) < end:
                    return False, pos
                self._add(data[pos:end])
                self._literal = -1
                pos = end
            match = _TOKEN.match(data, pos)
            if match is None:
                if len(data) - pos > self._max:
                    raise Overflow
                _explain(data, pos)
                return False, pos
            end = match.end()
            self._size += end - pos
            if end - pos > self._max + 4 or self._size > self._max + LINE_MAX:
                raise Overflow
            if match.lastindex == 1:
                return True, end
            self._take(match)
            pos = end

    def _take(self, match: re.Match[bytes]) -> None:
        kind = match.lastindex
        if kind == 2:
            text = match[2]
            if not _is_text(text):
                raise ProtocolError("Invalid UTF-8 character in quoted-string.")
            self._add(_ESCAPED.sub(rb"\1", text) if b"\\" in text else text, quotes=2)
        elif kind == 3:
            if len(match[3]) >= self._max:
                raise Overflow
            self.items.append((ATOM, match[3]))
        else:
            if len(match[4]) > _DIGITS:
                raise ProtocolError("Literal size too large")
            self._literal = int(match[4])
            if self._literal > self._max:
                raise Overflow
            self._size += self._literal

    def _add(self, value: bytes, quotes: int = 0) -> None:
        if len(value) + quotes > self._max:
            raise Overflow
        if b"\0" in value:
            raise ProtocolError("NULs not allowed in strings")
        self.items.append((STRING, value))


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _explain(data: bytes, pos: int) -> None:
    """Return if more bytes may help; else say what is wrong."""
    if _CUT.match(data, pos) is not None:
        return
    while data[pos:pos + 1] == b" ":
        pos += 1
    start = data[pos:pos + 1]
    if start == b'"':
        quoted = _QUOTED.match(data, pos)
        assert quoted is not None
        bad = data[quoted.end():quoted.end() + 1]
        raise ProtocolError("NULs not allowed in strings" if bad == b"\0" else "String contains invalid character.")
    if start == b"{":
        raise ProtocolError("Invalid literal size")
    raise ProtocolError("Invalid characters in atom")


def quoted(value: bytes) -> bytes:
    """A quoted string; the value must hold no CR, LF or NUL."""
    if b"\\" in value or b'"' in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + value + b'"'


def string(value: bytes) -> bytes:
    """A quoted string, or a literal if it cannot be one."""
    if b"\r" in value or b"\n" in value:
        return b"{%d}\r\n%b" % (len(value), value)
    return quoted(value)


def text(words: str) -> bytes:
    """A quoted string for human eyes: line ends become blanks."""
    return quoted(_LINE_END.sub(" ", words).encode("utf-8", "surrogateescape"))
