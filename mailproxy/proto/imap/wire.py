"""IMAP words: arguments of a command line read, strings written.

`Arguments` reads one command's arguments piece by piece, resumably: each byte is looked at once, whatever sizes the
client's packets have.  Limits: TOKEN_MAX bytes for one word, LINE_MAX for the whole command with its literals,
NESTING_MAX parentheses (CVE-2026-27857), and no NUL but in literals (CVE-2019-11500).
"""
from __future__ import annotations

import re
from typing import Union

from mailproxy.errors import ProtocolError

#: Unfinished bytes that a client may make us hold (Dovecot: the login input buffer).
TOKEN_MAX = 1026
#: One command with all its literals.
LINE_MAX = 8192
#: Lists within lists before login: none (Dovecot's limit too).
NESTING_MAX = 1
#: RFC 3501 has none; a longer one is not echoed (nobody talks HTTP through our replies).
TAG_MAX = 126

ATOM, STRING, NIL, LIST = range(4)
Argument = tuple[int, Union[bytes, "list[Argument]"]]

_TOKEN = re.compile(
    rb"[ ]*(?:"
    rb"(\r?\n)"                                         # 1: the end
    rb'|"((?:[^"\\\r\n\0]|\\[^\r\n\0])*)"'              # 2: quoted string
    rb"|([!#-'*-z|}~\[\]\\]+)(?=[ \r\n)])"              # 3: atom
    rb"|\{([0-9]{1,20})(\+?)\}\r?\n"                    # 4, 5: literal
    rb"|(\()|(\))"                                      # 6, 7
    rb")")
_ESCAPED = re.compile(rb"\\(.)", re.S)
_SPACES = re.compile(rb" *")
#: A word that may yet become a token when more bytes come: nothing, or one that is cut off by the end of the buffer.
_CUT = re.compile(rb'[ ]*(?:\r?|"(?:[^"\\\r\n\0]|\\[^\r\n\0])*\\?|[!#-\'*-z|}~\[\]\\]+\r?|~?\{[0-9]{0,20}\+?\}?\r?)\Z')


class TooLarge(ProtocolError):
    """A literal over the limit: the connection ends."""


class Arguments:
    """The arguments of one command."""

    __slots__ = ("_literal", "_open", "_size", "items", "wants_literal")

    def __init__(self) -> None:
        self.items: list[Argument] = []
        self._open: list[list[Argument]] = [self.items]     # the list being filled is the last
        self._literal = -1                                  # bytes of a literal that is awaited; -1: none
        self._size = 0
        self.wants_literal = False                          # a synchronising literal waits for our go-ahead

    def read(self, data: bytes, pos: int) -> tuple[bool, int]:
        """Go on at data[pos:].  (finished, position up to which it was used).  ProtocolError: the text is the reply."""
        while True:
            if self._literal >= 0:
                end = pos + self._literal
                if len(data) < end:
                    return False, pos
                self._open[-1].append((STRING, data[pos:end]))
                self._literal = -1
                pos = end
            match = _TOKEN.match(data, pos)
            if match is None:
                self._stuck(data, pos)
                return False, pos
            self._size += match.end() - pos
            if self._size > LINE_MAX:
                raise TooLarge("IMAP command line too large")
            pos = match.end()
            if self._take(match):
                return True, pos
            if self.wants_literal:
                return False, pos

    def _take(self, match: re.Match[bytes]) -> bool:
        """One token; True at the end of the line."""
        kind = match.lastindex
        if kind == 3:
            atom = match[3]
            self._open[-1].append((NIL, atom) if atom.upper() == b"NIL" else (ATOM, atom))
        elif kind == 2:
            text = match[2]
            self._open[-1].append((STRING, _ESCAPED.sub(rb"\1", text) if b"\\" in text else text))
        elif kind == 5:
            size = int(match[4])
            if self._size + size > LINE_MAX:
                raise TooLarge("Literal size too large")
            self._size += size
            self._literal = size
            self.wants_literal = not match[5]
        elif kind == 6:
            if len(self._open) > NESTING_MAX:
                raise ProtocolError("Too many '('")
            inner: list[Argument] = []
            self._open[-1].append((LIST, inner))
            self._open.append(inner)
        elif kind == 7:
            if len(self._open) == 1:
                raise ProtocolError("Unexpected ')'")
            self._open.pop()
        else:
            if len(self._open) > 1:
                raise ProtocolError("Missing ')'")
            return True
        return False

    def _stuck(self, data: bytes, pos: int) -> None:
        """Return if more bytes may help; else say what is wrong."""
        if _CUT.match(data, pos) is not None:
            return
        pos = _SPACES.match(data, pos).end()  # type: ignore[union-attr]
        first = data[pos:pos + 1]
        if first == b'"':
            end = re.compile(rb'"(?:[^"\\\r\n\0]|\\[^\r\n\0])*\\?').match(data, pos)
            bad = data[end.end():end.end() + 1] if end else b""
            raise ProtocolError("NULs not allowed in strings" if bad == b"\0" else "Missing '\"'")
        if first == b"{":
            whole = re.compile(rb"\{[0-9]{1,20}\+?\}").match(data, pos)
            raise ProtocolError("Missing LF after literal size" if whole else "Invalid literal size")
        if data[pos:pos + 2] == b"~{":
            raise ProtocolError("literal8 not allowed here")
        for byte in data[pos:pos + TOKEN_MAX]:
            if byte == 13:
                raise ProtocolError("CR sent without LF")
            if byte >= 128:
                raise ProtocolError("8bit data in atom")
            if byte < 32 or byte in b'"({\x7f':
                break
        raise ProtocolError("Invalid characters in atom")


_NEEDS_LITERAL = re.compile(rb"[\x80-\xff\r\n\0]")


def quoted(value: bytes) -> bytes:
    """A quoted string; the value must hold no CR, LF, NUL or 8-bit byte."""
    if b"\\" in value or b'"' in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + value + b'"'


def needs_literal(value: bytes) -> bool:
    """Whether Dovecot would not quote it: 8-bit bytes, line ends, or more than four characters to escape."""
    return _NEEDS_LITERAL.search(value) is not None or value.count(b"\\") + value.count(b'"') > 4


def pieces(values: list[bytes], *, non_sync: bool) -> list[bytes]:
    """The strings of a command as the writes that it takes: before every synchronising literal the peer must have
    said `+`.  With `non_sync` (LITERAL+) it is always one write."""
    out = [b""]
    for number, value in enumerate(values):
        if number:
            out[-1] += b" "
        if not needs_literal(value):
            out[-1] += quoted(value)
        elif non_sync:
            out[-1] += b"{%d+}\r\n" % len(value) + value
        else:
            out[-1] += b"{%d}\r\n" % len(value)
            out.append(value)
    return out


def percent(text: str) -> str:
    """A user name inside an imap: URL (RFC 5092)."""
    return "".join(char if (char.isalnum() and char.isascii()) or char in "-._~!$'()*+,&=" else
                   "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogateescape")) for char in text)
