"""IMAP words: arguments of a command line read, strings written.

`Arguments` reads one command's arguments piece by piece, resumably: each byte is looked at once, whatever sizes the
client's packets have.  Limits: TOKEN_MAX bytes for one word, LINE_MAX for the whole command with its literals,
NON_SYNC_MAX for a literal with LITERAL-, NESTING_MAX parentheses (CVE-2026-27857), and no NUL but in literals
(CVE-2019-11500).
"""
from __future__ import annotations

import re
from typing import Union

from mailproxy.errors import ProtocolError

#: One word, or the unfinished bytes that a client may make us hold (Dovecot: the login input buffer).
TOKEN_MAX = 1026
#: One command with all its literals.
LINE_MAX = 8192
#: A literal that does not wait for our go-ahead, if LITERAL- is offered (RFC 7888).
NON_SYNC_MAX = 4096
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
    rb"|\{([0-9]+)(\+?)\}\r?\n"                         # 4, 5: literal
    rb"|(\()|(\))"                                      # 6, 7
    rb")")
_ESCAPED = re.compile(rb"\\(.)", re.S)
_SPACES = re.compile(rb" *")
#: A word that may yet become a token when more bytes come: nothing, or one that is cut off by the end of the buffer.
_CUT = re.compile(rb'[ ]*(?:\r?|"(?:[^"\\\r\n\0]|\\[^\r\n\0])*\\?|[!#-\'*-z|}~\[\]\\]+\r?|~?\{[0-9]*\+?\}?\r?)\Z')


class TooLarge(ProtocolError):
    """A literal over the limit: the connection ends."""


class Overflow(ProtocolError):
    """A word over the limit: the connection ends."""


class Arguments:
    """The arguments of one command."""

    __slots__ = ("_literal", "_minus", "_open", "_size", "failed_at", "items", "wants_literal")

    def __init__(self, size: int = 0, *, literal_minus: bool = False) -> None:
        """`size`: bytes of the command so far; `literal_minus`: LITERAL- is offered, not LITERAL+."""
        self.items: list[Argument] = []
        self._open: list[list[Argument]] = [self.items]     # the list being filled is the last
        self._literal = -1                                  # bytes of a literal that is awaited; -1: none
        self._size = size
        self._minus = literal_minus
        self.failed_at = 0                                  # where the text was that broke the grammar
        self.wants_literal = False                          # a synchronising literal waits for our go-ahead

    def read(self, data: bytes, pos: int) -> tuple[bool, int]:
        """Go on at data[pos:].  (finished, position up to which it was used).  ProtocolError: the text is the reply."""
        try:
            while True:
                if self._literal >= 0:
                    end = pos + self._literal
                    if len(data) < end:
                        return False, pos
                    if self._literal > TOKEN_MAX:
                        raise Overflow
                    self._open[-1].append((STRING, data[pos:end]))
                    self._literal = -1
                    pos = end
                match = _TOKEN.match(data, pos)
                if match is None:
                    self._stuck(data, pos)
                    return False, pos
                end = match.end()
                if end - pos >= TOKEN_MAX:
                    _check_word(match)
                self._size += end - pos
                if self._size > LINE_MAX:
                    raise ProtocolError("IMAP command line too large")
                if self._take(match):
                    return True, end
                pos = end
                if self.wants_literal:
                    return False, pos
        except ProtocolError:
            self.failed_at = pos
            raise

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
            size = int(match[4][:10])       # more digits are too many anyway
            if self._minus and match[5] and size > NON_SYNC_MAX:
                raise TooLarge("Non-synchronizing literal size too large")
            # the line end behind it does not count yet
            if self._size - (match.end() - match.end(5) - 1) + size > LINE_MAX:
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
            whole = re.compile(rb"\{[0-9]+\+?\}").match(data, pos)
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
        else:
            if len(data) - pos >= TOKEN_MAX:
                raise Overflow
        raise ProtocolError("Invalid characters in atom")


def _check_word(match: re.Match[bytes]) -> None:
    """An atom must fit the limit with the byte that ends it, a quoted string with its quotes."""
    kind = match.lastindex
    if (kind == 3 and len(match[3]) >= TOKEN_MAX) or (kind == 2 and len(match[2]) + 2 > TOKEN_MAX):
        raise Overflow


_NEEDS_LITERAL = re.compile(rb"[\x80-\xff\r\n\0]")
_NEEDS_LOOK = re.compile(rb'[\x80-\xff\r\n\0"\\]')
#: More characters to escape than this, and Dovecot sends a literal.
_ESCAPES_MAX = 4


def is_plain(value: bytes) -> bool:
    """It can stand between quotes as it is."""
    return _NEEDS_LOOK.search(value) is None


def as_quoted(value: bytes) -> bytes | None:
    """The value as a quoted string, None if it has to be a literal.  One search for what nearly all values are."""
    if _NEEDS_LOOK.search(value) is None:
        return b'"%b"' % value
    return None if needs_literal(value) else quoted(value)


def quoted(value: bytes) -> bytes:
    """A quoted string; the value must hold no CR, LF, NUL or 8-bit byte."""
    if b"\\" in value or b'"' in value:
        value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + value + b'"'


def needs_literal(value: bytes) -> bool:
    """Whether Dovecot would not quote it: 8-bit bytes, line ends, or more than four characters to escape."""
    return _NEEDS_LITERAL.search(value) is not None or value.count(b"\\") + value.count(b'"') > _ESCAPES_MAX


def pieces(values: list[bytes], *, non_sync: bool) -> list[bytes]:
    """The strings of a command as the writes that it takes: before every synchronising literal the peer must have
    said `+`.  With `non_sync` (LITERAL+) it is always one write."""
    out = [b""]
    for number, value in enumerate(values):
        if number:
            out[-1] += b" "
        plain = as_quoted(value)
        if plain is not None:
            out[-1] += plain
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
