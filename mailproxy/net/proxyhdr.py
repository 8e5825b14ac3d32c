"""HAProxy's PROXY protocol, versions 1 and 2: what a load balancer says in front of a connection about its client.

In: the first bytes of a connection.  Out: a Header, None while it is not complete, or BadHeader with the words for the
log.  The other way round: what is known of a client -> a header of version 2.  It must not know sockets, nor whom to
trust.  Limits: V1_MAX and V2_MAX bytes, whatever a header says of its length.
"""
from __future__ import annotations

import functools
import ipaddress
import struct

from mailproxy.errors import MailproxyError

#: The longest line of version 1 with its CRLF: the specification's worst case.
V1_MAX = 107
#: The longest header of version 2, fixed part and TLVs: Dovecot's limit.
V2_MAX = 1500
#: Bytes of a server name (RFC 6066 carries DNS names).
NAME_MAX = 255
#: Characters of a bad field that are shown in a log line.
_SHOWN = 64

_V1 = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_LOCAL, _PROXY = 0, 1
_STREAM = 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_SIZES = {_INET: ("IPv4", 12), _INET6: ("IPv6", 36), _UNIX: ("UNIX", 216)}
_AUTHORITY, _CRC32C, _SSL = 0x02, 0x03, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL, _CLIENT_CERT = 0x01, 0x02 | 0x04
_TRUNCATED = "Truncated data"

Address = tuple[str, int]


class BadHeader(MailproxyError):
    """No PROXY header, or a broken one.  `version` is 0 while none is known; `details` go into the parenthesis."""

    def __init__(self, text: str, version: int = 0, details: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.version = version
        self.details = details


class Header:
    """What a header says.  `remote`, `local`: None, the connection's own addresses count."""

    __slots__ = ("cert_name", "local", "local_name", "note", "remote", "size", "tls")

    def __init__(self, size: int, remote: Address | None = None, local: Address | None = None) -> None:
        self.size = size                    # bytes of the header
        self.remote = remote
        self.local = local
        self.tls = False                    # the client speaks TLS, with the load balancer
        self.local_name = ""                # and asked for this name
        self.cert_name: str | None = None   # the common name in its certificate, if that was found valid
        self.note = ""                      # details of an address family that is skipped


def parse(data: bytes) -> Header | None:
    """The header that `data` begins with; None: more bytes are needed.  Raises BadHeader."""
    if data.startswith(_SIGNATURE):
        return _parse_v2(data)
    if data.startswith(_V1):
        return _parse_v1(data)
    if _V1.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise BadHeader("Failed to read valid HAproxy data")


# --- version 1 -------------------------------------------------------------------------------------------------------

def _parse_v1(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, V1_MAX)
    if end < 0:
        if len(data) >= V1_MAX:
            raise BadHeader("Too long header", 1)
        return None
    if data[end - 1] != 0x0D:
        raise BadHeader("Header line has no CRLF", 1)
    fields = data[len(_V1):end - 1].decode("latin-1").split(" ")
    if fields[0] == "UNKNOWN":
        return Header(end + 1)
    if fields[0] not in ("TCP4", "TCP6"):
        raise BadHeader("Unknown proxied protocol", 1, f"protocol=`{_shown(fields[0])}'")
    inet6 = fields[0] == "TCP6"
    del fields[0]
    remote_ip = _address(fields, "remote", inet6)
    local_ip = _address(fields, "local", inet6)
    header = Header(end + 1, (remote_ip, _port(fields, "remote")), (local_ip, _port(fields, "local")))
    if fields:
        raise BadHeader("Header line has spurius extra field", 1, f"field=`{_shown(fields[0])}'")
    return header


def _address(fields: list[str], side: str, inet6: bool) -> str:
    if not fields:
        raise BadHeader(f"Field for proxied {side} address is missing", 1)
    text = fields.pop(0)
    bad = BadHeader(f"Proxied {side} address is invalid", 1, f"address=`{_shown(text)}'")
    if "%" in text:                         # a scope, which has a meaning on the sender's machine only
        raise bad
    try:
        return _text6(ipaddress.IPv6Address(text).packed) if inet6 else str(ipaddress.IPv4Address(text))
    except ValueError:
        raise bad from None


def _port(fields: list[str], side: str) -> int:
    if not fields:
        raise BadHeader(f"Field for proxied {side} port is missing", 1)
    text = fields.pop(0)
    if text.isascii() and text.isdecimal() and text[0] != "0" and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise BadHeader(f"Proxied {side} port is invalid", 1, f"port=`{_shown(text)}'")


def _shown(text: str) -> str:
    text = "".join(char if " " <= char <= "~" else "?" for char in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN - 3] + "..."


# --- version 2 -------------------------------------------------------------------------------------------------------

def _parse_v2(data: bytes) -> Header | None:
    if len(data) < _FIXED:
        return None
    kind, family, length = struct.unpack_from("!BBH", data, len(_SIGNATURE))
    if kind >> 4 != 2:
        raise BadHeader("Unsupported protocol version", 0, f"version={kind >> 4:02x}")
    size = _FIXED + length
    if size > V2_MAX:
        raise BadHeader("Too long header")
    if len(data) < size:
        return None
    command = kind & 15
    if command == _LOCAL:
        return Header(size)                 # the load balancer speaks for itself; what follows means nothing
    if command != _PROXY:
        raise BadHeader("Invalid command", 2, f"cmd={command:02x}")
    if family & 15 != _STREAM:
        raise BadHeader("Not using TCP", 2, f"type={family & 15:02x}")
    header = _addresses(data[_FIXED:size], family >> 4, size)
    skip = _SIZES.get(family >> 4, ("", 0))[1]
    for kind, value, at in _tlvs(data[_FIXED + skip:size]):
        if kind == _AUTHORITY:
            header.local_name = _name(value) if len(value) <= NAME_MAX else ""
        elif kind == _SSL:
            _tls(header, value, at)
        elif kind == _CRC32C:
            _verify(data[:size], value, _FIXED + skip + at + 3)
    return header


def _addresses(body: bytes, family: int, size: int) -> Header:
    if family > _UNIX:
        raise BadHeader("Unknown address family", 2, f"family={family:02x}")
    name, need = _SIZES.get(family, ("", 0))
    if len(body) < need:
        raise BadHeader(f"{name} data is incomplete", 2)
    if family == _INET:
        remote, local, rport, lport = struct.unpack_from("!4s4sHH", body)
        return Header(size, (_text4(remote), rport), (_text4(local), lport))
    if family == _INET6:
        remote, local, rport, lport = struct.unpack_from("!16s16sHH", body)
        return Header(size, (_text6(remote), rport), (_text6(local), lport))
    header = Header(size)
    header.note = f"family={family:02x}"
    return header


def _tlvs(data: bytes) -> list[tuple[int, bytes, int]]:
    """(type, value, where it begins) of each."""
    found = []
    at = 0
    while at < len(data):
        if len(data) - at < 3:
            raise _bad_tlv("get_tlv", at)
        kind, length = struct.unpack_from("!BH", data, at)
        value = data[at + 3:at + 3 + length]
        if len(value) < length:
            raise _bad_tlv("get_tlv", at)
        found.append((kind, value, at))
        at += 3 + length
    return found


def _bad_tlv(what: str, at: int) -> BadHeader:
    return BadHeader(f"Invalid TLV: {what}({at}) failed: {_TRUNCATED}", 2, "cmd=01")


def _tls(header: Header, value: bytes, at: int) -> None:
    if len(value) < 5:
        raise _bad_tlv("get_ssl_tlv", at)
    client, verify = struct.unpack_from("!BI", value)
    header.tls = bool(client & _CLIENT_SSL)
    for kind, text, _ in _tlvs(value[5:]):
        # `verify` is 0 for a valid certificate only; the bits tell that there is one at all
        if kind == _SSL_CN and header.tls and client & _CLIENT_CERT and not verify:
            header.cert_name = _name(text)


def _name(raw: bytes) -> str:
    """A text that may go into logs and lookups; "" for what is none."""
    try:
        text = raw.decode("utf-8")
    except ValueError:
        return ""
    return text if text.isprintable() else ""


def _verify(header: bytes, value: bytes, at: int) -> None:
    blank = header[:at] + b"\0\0\0\0" + header[at + 4:]
    if len(value) != 4 or crc32c(blank) != int.from_bytes(value, "big"):
        raise BadHeader("Invalid checksum", 2)


@functools.cache
def _table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = row >> 1 ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC, as RFC 3720 has it."""
    table = _table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _text4(packed: bytes) -> str:
    return ".".join(map(str, packed))


def _text6(packed: bytes) -> str:
    """As inet_ntop writes it."""
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return "::ffff:" + _text4(packed[12:])
    return str(ipaddress.IPv6Address(packed))


# --- the other way round ---------------------------------------------------------------------------------------------

#: What we say to a backend, as the field `proxy_haproxy` has it: a header with the client's addresses; with what is
#: known of its TLS as well.
PLAIN, WITH_TLS = KINDS = ("v2", "v2-ssl")


class TlsInfo:
    """What a header may tell of the client's TLS.  Empty: not known; `cert_name` is of a valid certificate only."""

    __slots__ = ("cert_name", "cipher", "version")

    def __init__(self, version: str, cipher: str, cert_name: str) -> None:
        self.version = version
        self.cipher = cipher
        self.cert_name = cert_name


def build(remote: tuple[bytes, int], local: tuple[bytes, int], tls: TlsInfo | None = None,
          local_name: str = "") -> bytes:
    """A header of version 2 for a client: packed addresses and ports.  What is no address makes a LOCAL header."""
    ips = [remote[0], local[0]]
    if len(ips[0]) != len(ips[1]):
        ips = [b"\0" * 10 + b"\xff\xff" + ip if len(ip) == 4 else ip for ip in ips]
    if not ips[0] or len(ips[0]) != len(ips[1]):
        return _SIGNATURE + struct.pack("!BBH", 2 << 4 | _LOCAL, 0, 0)
    body = ips[0] + ips[1] + struct.pack("!HH", remote[1], local[1])
    name = local_name.encode("utf-8", "replace")
    if name and len(name) <= NAME_MAX:
        body += _tlv(_AUTHORITY, name)
    if tls is not None:
        body += _tlv(_SSL, _tls_value(tls))
    family = _INET if len(ips[0]) == 4 else _INET6
    return _SIGNATURE + struct.pack("!BBH", 2 << 4 | _PROXY, family << 4 | _STREAM, len(body)) + body


def _tls_value(tls: TlsInfo) -> bytes:
    name = tls.cert_name.encode("utf-8", "replace")
    if len(name) > NAME_MAX:
        name = b""                          # not a name that anybody could use
    client = _CLIENT_SSL | (_CLIENT_CERT if name else 0)
    value = struct.pack("!BI", client, 0 if name else 1)
    for kind, text in ((_SSL_VERSION, tls.version.encode()), (_SSL_CN, name), (_SSL_CIPHER, tls.cipher.encode())):
        if text:
            value += _tlv(kind, text)
    return value


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value
