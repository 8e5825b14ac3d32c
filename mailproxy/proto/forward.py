"""What proxies tell each other of a client: the values that all protocols share, the variables among them, and XCLIENT
as POP3 and ManageSieve write it (as SMTP writes it: smtp.xclient).

In: identities (canonical names, see events.Identify) and words of a command.  Out: the reverse.  A value that would
break a command line is not sent.  Limits are those of the line that it stands in.
"""
from __future__ import annotations

import binascii
import re
from ipaddress import ip_address

Pairs = tuple[tuple[str, str], ...]

_ESCAPES = {"\x00": "\x010", "\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n"}
_TABLE = str.maketrans(_ESCAPES)
_UNESCAPES = {"0": "\x00", "1": "\x01", "t": "\t", "r": "\r", "n": "\n"}
_ESCAPED = re.compile("\x01(.)?", re.S)
#: Nothing of these may stand in a command raw, nor in a list of variables.
_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_RAW_CONTROL = re.compile(rb"[\x00\r\n]")
_SESSION, _RIP, _RPORT, _LIP, _LPORT, _TTL = range(6)
_KNOWN = 6
_PORT_MAX = 65535
_TTL_MAX = 0xFFFFFFFF


def encode(variables: Pairs) -> bytes:
    """`forward_NAME` pairs as base64 of a list; one with an empty value goes as its bare name."""
    items = "\t".join((f"{name[8:]}={value}" if value else name[8:]).translate(_TABLE) for name, value in variables)
    return binascii.b2a_base64(items.encode("utf-8", "surrogateescape"), newline=False)


def decode(text: bytes) -> dict[str, str] | None:
    """The reverse, with names prefixed; None if it is not such a list."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None
    if len(text) % 4 or not raw or _RAW_CONTROL.search(raw):
        return None
    found: dict[str, str] = {}
    for item in raw.decode("utf-8", "surrogateescape").split("\t"):
        name, _, value = _ESCAPED.sub(lambda m: _UNESCAPES.get(m[1], m[1] or ""), item).partition("=")
        found["forward_" + name] = value
    return found


def xclient(identity: Pairs) -> bytes:
    """`ADDR=… PORT=… SESSION=… TTL=…[ FORWARD=…]`"""
    session = identity[_SESSION][1]
    line = (f"ADDR={identity[_RIP][1]} PORT={identity[_RPORT][1]} "
            f"SESSION={'' if _UNFIT.search(session) else session} TTL={identity[_TTL][1]}")
    variables = identity[_KNOWN:]
    return line.encode("utf-8", "surrogateescape") + (b" FORWARD=" + encode(variables) if variables else b"")


def parse(words: list[bytes]) -> tuple[dict[str, str], bool]:
    """The valid parameters of an XCLIENT, and whether all are.  Unknown ones are ignored."""
    found: dict[str, str] = {}
    valid = True
    for word in words:
        key, _, raw = word.partition(b"=")
        value = raw.decode("utf-8", "surrogateescape")
        match key.upper():
            case b"ADDR":
                said = address(value.strip("[]"))
            case b"PORT":
                said = port(value)
            case b"SESSION":
                said = {"session": value}
            case b"TTL":
                said = ttl(value)
            case b"FORWARD":
                said = decode(raw)
                if said is not None:
                    found = {name: text for name, text in found.items() if not name.startswith("forward_")}
            case _:
                continue
        if said is None:
            valid = False
        else:
            found |= said
    return found, valid


# --- what a value means; None: nothing -------------------------------------------------------------------------------

def address(text: str) -> dict[str, str] | None:
    if "%" in text:                     # a zone, with any text behind it
        return None
    try:
        return {"rip": str(ip_address(text))}
    except ValueError:
        return None


def port(text: str) -> dict[str, str] | None:
    return _number("rport", text, 1, _PORT_MAX)


def ttl(text: str) -> dict[str, str] | None:
    return _number("ttl", text, 0, _TTL_MAX)


def timeout(text: str) -> dict[str, str] | None:
    return _number("timeout", text, 0, _TTL_MAX)


def _number(name: str, text: str, least: int, most: int) -> dict[str, str] | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        return None
    return {name: str(int(text))}
