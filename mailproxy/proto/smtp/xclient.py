"""XCLIENT from a trusted peer: which client it speaks for.

In: the command's parameters.  Out: canonical names (see events.Identify, and helo, proto, login) with checked values.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from mailproxy.errors import ProtocolError
from mailproxy.proto import forward
from mailproxy.proto.smtp import wire

#: Longer session ids are skipped.  Those of LMTP grow with each hop.
SESSION_MAX, LMTP_SESSION_MAX = 64, 128
_PROTOCOLS = ("SMTP", "ESMTP", "LMTP")
_CONTROL = re.compile(rb"[\0-\x1f\x7f]")
_DOMAIN = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_LITERAL = re.compile(rb"\[(?:IPv6:([0-9A-Fa-f:.]+)|([0-9.]+))\]", re.I)


def domain(text: bytes) -> bytes:
    """`text`, if it is a name or an address literal; else b""."""
    if _DOMAIN.fullmatch(text) is not None:
        return text
    match = _LITERAL.fullmatch(text)
    if match is None:
        return b""
    try:
        IPv6Address(match[1].decode()) if match[1] is not None else IPv4Address(match[2].decode())
    except ValueError:
        return b""
    return text


def parse(text: bytes, *, lmtp: bool = False) -> dict[str, str]:
    """Keys that mean nothing to us are skipped; LMTP has no FORWARD, its variables come with recipients.
    ProtocolError: the text of the reply."""
    session_max = LMTP_SESSION_MAX if lmtp else SESSION_MAX
    try:
        pairs = wire.parameters(text)
    except ProtocolError as error:
        raise ProtocolError(f"Invalid parameter: {error}") from None
    said: dict[str, str] = {}
    for key, raw in pairs:
        take = _KEYS.get(key)
        if take is None or (lmtp and key == b"FORWARD"):
            continue
        name = key.decode()
        value = wire.from_xtext(raw or b"")
        if value is None:
            raise ProtocolError(f"Invalid {name} parameter: Invalid hexchar after '+' in xtext")
        if key == b"SESSION" and len(value) > session_max:
            continue
        meant = {} if key in _MAY_LACK and value.upper() == wire.UNAVAILABLE else take(value)
        if meant is None:
            raise ProtocolError(f"Invalid {name} parameter")
        said |= meant
    return said


# --- each answers what a value means; None: nothing ------------------------------------------------------------------

Meaning = dict[str, str] | None


def _address(value: bytes) -> Meaning:
    text = _text(value)
    if text[:5].upper() == "IPV6:":
        return forward.address(text[5:]) if ":" in text[5:] else None
    return forward.address(text)


def _port(value: bytes) -> Meaning:
    return forward.port(_text(value))


def _ttl(value: bytes) -> Meaning:
    return forward.ttl(_text(value))


def _timeout(value: bytes) -> Meaning:
    return forward.timeout(_text(value))


def _session(value: bytes) -> Meaning:
    if _CONTROL.search(value):          # it stands in headers and replies
        return None
    return {"session": _text(value)} if value else {}


def _proto(value: bytes) -> Meaning:
    text = _text(value).upper()
    return {"proto": text} if text in _PROTOCOLS else None


def _helo(value: bytes) -> Meaning:
    return {"helo": domain(value).decode("ascii")}


def _login(value: bytes) -> Meaning:
    if _CONTROL.search(value):
        return None
    return {"login": _text(value)} if value else {}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


_KEYS: dict[bytes, Callable[[bytes], Meaning]] = {
    b"ADDR": _address, b"PORT": _port, b"TTL": _ttl, b"TIMEOUT": _timeout, b"SESSION": _session, b"PROTO": _proto,
    b"HELO": _helo, b"LOGIN": _login, b"FORWARD": forward.decode}
_MAY_LACK = (b"ADDR", b"PORT", b"LOGIN")
