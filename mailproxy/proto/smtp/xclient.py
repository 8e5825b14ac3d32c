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

SESSION_MAX = 64
TTL_MAX = 0xFFFFFFFF
_PROTOCOLS = ("SMTP", "ESMTP", "LMTP")
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


def parse(text: bytes) -> dict[str, str]:
    """Keys that mean nothing to us are skipped.  ProtocolError: the text of the reply."""
    try:
        pairs = wire.parameters(text)
    except ProtocolError as error:
        raise ProtocolError(f"Invalid parameter: {error}") from None
    said: dict[str, str] = {}
    for key, raw in pairs:
        take = _KEYS.get(key)
        if take is None:
            continue
        name = key.decode()
        value = wire.from_xtext(raw or b"")
        if value is None:
            raise ProtocolError(f"Invalid {name} parameter: Invalid hexchar after '+' in xtext")
        try:
            said |= take(value)
        except ValueError:
            raise ProtocolError(f"Invalid {name} parameter") from None
    return said


# --- each answers what a value means; ValueError: nothing ------------------------------------------------------------

def _address(value: bytes) -> dict[str, str]:
    if _is_unavailable(value):
        return {}
    text = value.decode("latin-1")
    if "%" in text:                     # a zone, with any text behind it
        raise ValueError
    if text[:5].upper() == "IPV6:":
        return {"rip": str(IPv6Address(text[5:]))}
    return {"rip": str(IPv6Address(text) if ":" in text else IPv4Address(text))}


def _port(value: bytes) -> dict[str, str]:
    return {} if _is_unavailable(value) else {"rport": _number(value, 1, 65535)}


def _ttl(value: bytes) -> dict[str, str]:
    return {"ttl": _number(value, 0, TTL_MAX)}


def _timeout(value: bytes) -> dict[str, str]:
    return {"timeout": _number(value, 0, TTL_MAX)}


def _session(value: bytes) -> dict[str, str]:
    return {"session": _text(value)} if 0 < len(value) <= SESSION_MAX else {}


def _proto(value: bytes) -> dict[str, str]:
    text = value.decode("latin-1").upper()
    if text not in _PROTOCOLS:
        raise ValueError
    return {"proto": text}


def _helo(value: bytes) -> dict[str, str]:
    return {"helo": domain(value).decode("ascii")}


def _login(value: bytes) -> dict[str, str]:
    return {"login": _text(value)} if value and not _is_unavailable(value) else {}


def _forward(value: bytes) -> dict[str, str]:
    variables = forward.decode(value)
    if variables is None:
        raise ValueError
    return variables


def _is_unavailable(value: bytes) -> bool:
    return value.upper() == wire.UNAVAILABLE


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _number(value: bytes, least: int, most: int) -> str:
    if not value.isdigit() or len(value) > 10 or not least <= int(value) <= most:
        raise ValueError
    return str(int(value))


_KEYS: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    b"ADDR": _address, b"PORT": _port, b"TTL": _ttl, b"TIMEOUT": _timeout, b"SESSION": _session, b"PROTO": _proto,
    b"HELO": _helo, b"LOGIN": _login, b"FORWARD": _forward}
