"""Mailboxes in SMTP commands: `<local@domain>` read and written (RFC 5321, section 4.1.2).

In and out: bytes.  Reading is as lenient as Dovecot's where that is harmless: any 8-bit byte is part of a word, dots
may stand anywhere.  What is written is quoted where it must be, so that one mailbox can never become two words.
"""
from __future__ import annotations

import re

from mailproxy.errors import ProtocolError

_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-"
_DOT_STRING = re.compile(rb"[%b.]+" % _ATEXT)
_QUOTED = re.compile(rb'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"')
_ESCAPED = re.compile(rb"\\(.)", re.S)
_DOMAIN = re.compile(rb"[A-Za-z0-9_\x80-\xff-][A-Za-z0-9._\x80-\xff-]*|\[[\x21-\x5a\x5e-\x7e]*\]")
_PLAIN = re.compile(rb"[%b]+(?:\.[%b]+)*\Z" % (_ATEXT, _ATEXT))


class Address:
    """`local` is unquoted; `domain` b"" for none.  The null path has neither."""

    __slots__ = ("domain", "local")

    def __init__(self, local: bytes, domain: bytes) -> None:
        self.local = local
        self.domain = domain

    def __bytes__(self) -> bytes:
        """As it stands between < and >."""
        local = self.local
        if local and _PLAIN.match(local) is None:
            local = b'"' + re.sub(rb'(["\\])', rb"\\\1", local) + b'"'
        return local + b"@" + self.domain if self.domain else local

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and (self.local, self.domain) == (other.local, other.domain)

    def __hash__(self) -> int:
        return hash((self.local, self.domain))

    def user(self) -> bytes:
        """The name to look up."""
        return self.local + b"@" + self.domain if self.domain else self.local


def from_user(name: bytes) -> Address | None:
    """A user's name as a mailbox; None if it can be none.  The last @ divides."""
    local, at, domain = name.rpartition(b"@") if b"@" in name else (name, b"", b"")
    if not local or (at and _DOMAIN.fullmatch(domain) is None) or re.search(rb"[\x00-\x1f\x7f]", local):
        return None
    return Address(local, domain)


def path(text: bytes, *, spaces: bool = False, bare: bool = False) -> tuple[Address, bytes]:
    """A path at the beginning of `text` and what follows it.  `spaces` may stand before it, `bare`: < and > may be
    missing (lmtp_client_workarounds).  ProtocolError: what is wrong with it."""
    if text[:1] == b" ":
        if not spaces:
            raise ProtocolError("Unexpected whitespace before path")
        text = text.lstrip(b" ")
    if not text:
        raise ProtocolError("Path is empty string")
    if text[:1] != b"<":
        if not bare:
            raise ProtocolError("Missing '<' at beginning of path")
        address, pos = _mailbox(text, 0)
        if pos < len(text) and text[pos:pos + 1] != b" ":
            raise ProtocolError("Invalid character in localpart")
        return address, text[pos:]
    pos = 1
    if text[1:2] == b"@":
        colon = _route(text)
        pos = colon + 1
    address, pos = _mailbox(text, pos)
    if text[pos:pos + 1] != b">":
        raise ProtocolError("Missing '>' at end of path")
    rest = text[pos + 1:]
    if rest and rest[:1] != b" ":
        raise ProtocolError("Invalid character after path")
    return address, rest


def _route(text: bytes) -> int:
    """Where the colon of a source route is; the route itself means nothing any more."""
    pos = 1
    while text[pos:pos + 1] == b"@":
        match = _DOMAIN.match(text, pos + 1)
        if match is None:
            raise ProtocolError("Missing domain after '@'")
        pos = match.end()
        if text[pos:pos + 1] == b",":
            pos += 1
    if text[pos:pos + 1] != b":":
        raise ProtocolError("Missing ':' at end of source route")
    return pos


def _mailbox(text: bytes, pos: int) -> tuple[Address, int]:
    match = _QUOTED.match(text, pos)
    if match is not None:
        local = _ESCAPED.sub(rb"\1", match[1])
    else:
        match = _DOT_STRING.match(text, pos)
        if match is None:
            return Address(b"", b""), pos
        local = match[0]
    pos = match.end()
    if text[pos:pos + 1] != b"@":
        return Address(local, b""), pos
    match = _DOMAIN.match(text, pos + 1)
    if match is None:
        raise ProtocolError("Missing domain after '@'")
    return Address(local, match[0]), match.end()
