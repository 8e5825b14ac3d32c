"""XCLIENT as a trusted proxy in front says it over LMTP: which client it speaks for.

In: the arguments.  Out: canonical names (rip, rport, helo, proto, login, session, ttl, timeout) and their values.
"""
from __future__ import annotations

import ipaddress
from collections.abc import Callable

from mailproxy.errors import ProtocolError
from mailproxy.proto.smtp import wire

#: A longer session id is cut off: it stands in every log line and in the Received header.
SESSION_MAX = 128
_NUMBER_DIGITS = 9


def _address(text: str) -> str:
    prefixed = text[:5].upper() == "IPV6:"
    found = ipaddress.ip_address(text[5:] if prefixed else text)
    if prefixed and found.version != 6:
        raise ValueError
    return str(found)


def _port(text: str) -> str:
    return str(_within(text, 1, 65535))


def _ttl(text: str) -> str:
    return str(_within(text, 0, 2**32))


def _within(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS and low <= int(text) <= high):
        raise ValueError
    return int(text)


def _proto(text: str) -> str:
    if text.upper() not in ("SMTP", "ESMTP", "LMTP"):
        raise ValueError
    return text.upper()


def _session(text: str) -> str:
    return text[:SESSION_MAX]


def _text(text: str) -> str:
    return text


_KEYS: dict[bytes, tuple[str, Callable[[str], str]]] = {
    b"ADDR": ("rip", _address), b"PORT": ("rport", _port), b"PROTO": ("proto", _proto), b"HELO": ("helo", _text),
    b"LOGIN": ("login", _text), b"SESSION": ("session", _session), b"TTL": ("ttl", _ttl), b"TIMEOUT": ("timeout", _ttl),
}


def parse(args: bytes) -> dict[str, str]:
    """Keys that mean nothing to us are skipped.  ProtocolError: the text of the reply."""
    said: dict[str, str] = {}
    for word in args.split(b" "):
        key, _, raw = word.partition(b"=")
        known = _KEYS.get(key.upper())
        if known is None or raw.upper() == wire.UNAVAILABLE:
            continue
        name = key.upper().decode()
        value = wire.from_xtext(raw)
        if value is None:
            raise ProtocolError(f"Invalid {name} parameter: Invalid hexchar after '+' in xtext")
        text = value.decode("utf-8", "surrogateescape")
        if any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise ProtocolError(f"Invalid {name} parameter")
        try:
            said[known[0]] = known[1](text)
        except ValueError:
            raise ProtocolError(f"Invalid {name} parameter") from None
    return said
