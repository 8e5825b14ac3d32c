"""The PROXY header: what is read, what is refused, what is written."""
from __future__ import annotations

import random
import socket
import struct

import pytest

from mailproxy.net.proxyhdr import BadHeader, Header, TlsInfo, build, crc32c, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REMOTE, LOCAL = ("10.1.2.3", 1111), ("10.4.5.6", 2222)
INET = socket.inet_aton("10.1.2.3") + socket.inet_aton("10.4.5.6") + struct.pack("!HH", 1111, 2222)
INET6 = (socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
         + struct.pack("!HH", 1111, 2222))
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def v2(body: bytes = INET, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tls(client: int, verify: int, *parts: bytes) -> bytes:
    return tlv(0x20, struct.pack("!BI", client, verify) + b"".join(parts))


def whole(data: bytes) -> Header:
    header = parse(data)
    assert header is not None
    return header


@pytest.mark.parametrize(("data", "remote", "local"), [
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 1111 2222\r\n", REMOTE, LOCAL),
    (b"PROXY TCP6 2001:DB8:0::1 2001:db8::2 1 65535\r\n", ("2001:db8::1", 1), ("2001:db8::2", 65535)),
    (b"PROXY TCP6 ::ffff:10.1.2.3 ::ffff:a04:506 1111 2222\r\n", ("::ffff:10.1.2.3", 1111), ("::ffff:10.4.5.6", 2222)),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2 and more\r\n", None, None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None, None),
    (v2(), REMOTE, LOCAL),
    (v2(INET6, family=0x21), ("2001:db8::1", 1111), ("2001:db8::2", 2222)),
    (v2(b"\0" * 10 + b"\xff\xff\x0a\1\2\3" + b"\0" * 16 + b"\0\1\0\2", family=0x21), ("::ffff:10.1.2.3", 1), ("::", 2)),
    (v2(b"", 0x20, 0), None, None),
    (v2(INET + b"no TLV", 0x20), None, None),
    (v2(b"abc", 0x20, 0x11), None, None),
    (v2(INET + tlv(4, b"\0" * 1469)), REMOTE, LOCAL),
    (v2(UNIX, family=0x31), None, None),
    (v2(b"", family=0x01), None, None)])
def test_good_headers(data: bytes, remote: object, local: object) -> None:
    header = whole(data + b"a LOGIN")
    assert (header.remote, header.local, header.size) == (remote, local, len(data))
    for end in range(len(data)):
        assert parse(data[:end]) is None, end
    assert (header.tls, header.local_name, header.cert_name) == (False, "", None)


@pytest.mark.parametrize(("data", "text", "version", "details"), [
    (b"a LOGIN u p\r\n", "Failed to read valid HAproxy data", 0, ""),
    (b"x", "Failed to read valid HAproxy data", 0, ""),
    (b"PROXY\r\n", "Failed to read valid HAproxy data", 0, ""),
    (b"\x16\x03\x01", "Failed to read valid HAproxy data", 0, ""),
    (SIGNATURE[:11] + b"X", "Failed to read valid HAproxy data", 0, ""),
    (b"PROXY \r\n", "Unknown proxied protocol", 1, "protocol=`'"),
    (b"PROXY \t" + b"y" * 70 + b"\r\n", "Unknown proxied protocol", 1, "protocol=`?" + "y" * 60 + "...'"),
    (b"PROXY TCP4\r\n", "Field for proxied remote address is missing", 1, ""),
    (b"PROXY TCP4 10.1.2.3\r\n", "Field for proxied local address is missing", 1, ""),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6\r\n", "Field for proxied remote port is missing", 1, ""),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 1\r\n", "Field for proxied local port is missing", 1, ""),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 1 2 3\r\n", "Header line has spurius extra field", 1, "field=`3'"),
    (b"PROXY TCP4 10.1.2.3 ::1 1 2\r\n", "Proxied local address is invalid", 1, "address=`::1'"),
    (b"PROXY TCP6 10.1.2.3 ::1 1 2\r\n", "Proxied remote address is invalid", 1, "address=`10.1.2.3'"),
    (b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "Proxied remote address is invalid", 1, "address=`fe80::1%lo'"),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 65536 2\r\n", "Proxied remote port is invalid", 1, "port=`65536'"),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 1 \xb2\r\n", "Proxied local port is invalid", 1, "port=`?'"),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 1 \r\n", "Proxied local port is invalid", 1, "port=`'"),
    (b"PROXY TCP4 10.1.2.3 10.4.5.6 1 2\n", "Header line has no CRLF", 1, ""),
    (b"PROXY \n", "Header line has no CRLF", 1, ""),
    (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "Too long header", 1, ""),
    (v2(command=0x31), "Unsupported protocol version", 0, "version=03"),
    (v2(command=0x22), "Invalid command", 2, "cmd=02"),
    (v2(family=0x12), "Not using TCP", 2, "type=02"),
    (v2(b"", family=0), "Not using TCP", 2, "type=00"),
    (v2(family=0x41), "Unknown address family", 2, "family=04"),
    (v2(INET[:11]), "IPv4 data is incomplete", 2, ""),
    (v2(INET6[:35], family=0x21), "IPv6 data is incomplete", 2, ""),
    (v2(UNIX[:99], family=0x31), "UNIX data is incomplete", 2, ""),
    (v2(INET + tlv(4, b"\0" * 1470)), "Too long header", 0, ""),
    (SIGNATURE + b"\x21\x11\xff\xff", "Too long header", 0, ""),
    (v2(INET + b"\2\0"), "Invalid TLV: get_tlv(0) failed: Truncated data", 2, "cmd=01"),
    (v2(INET + tlv(4, b"") + b"\2\0\1"), "Invalid TLV: get_tlv(3) failed: Truncated data", 2, "cmd=01"),
    (v2(INET + tlv(0x20, b"\1\0\0\0")), "Invalid TLV: get_ssl_tlv(0) failed: Truncated data", 2, "cmd=01"),
    (v2(INET + tls(1, 0, b"\x22\0\5a")), "Invalid TLV: get_tlv(0) failed: Truncated data", 2, "cmd=01"),
    (v2(INET + tlv(3, b"\0\0\0\0")), "Invalid checksum", 2, ""),
    (v2(INET + tlv(3, b"\0\0")), "Invalid checksum", 2, "")])
def test_bad_headers(data: bytes, text: str, version: int, details: str) -> None:
    with pytest.raises(BadHeader) as caught:
        parse(data)
    assert (caught.value.text, caught.value.version, caught.value.details) == (text, version, details)


@pytest.mark.parametrize(("value", "secure", "name"), [
    (tls(7, 0, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"joe")), True, "joe"),
    (tls(3, 0, tlv(0x22, "jö".encode())), True, "jö"),
    (tls(7, 1, tlv(0x22, b"joe")), True, None),             # presented, and not valid
    (tls(1, 0, tlv(0x22, b"joe")), True, None),             # no certificate, hence no name
    (tls(6, 0, tlv(0x22, b"joe")), False, None),            # no TLS, hence no certificate
    (tls(7, 0), True, None),
    (tls(7, 0, tlv(0x22, b"joe\0.example.com")), True, ""),
    (tls(7, 0, tlv(0x22, b"joe\tno-penalty")), True, ""),
    (tls(7, 0, tlv(0x22, b"\xff")), True, ""),
    (tls(0, 0), False, None)])
def test_tls_of_the_client(value: bytes, secure: bool, name: str | None) -> None:
    header = whole(v2(INET + value))
    assert (header.tls, header.cert_name) == (secure, name)


@pytest.mark.parametrize(("value", "name"), [
    (b"mail.example.com", "mail.example.com"), (b"", ""), (b"a\r\nb", ""), (b"x" * 255, "x" * 255), (b"x" * 256, "")])
def test_server_name(value: bytes, name: str) -> None:
    assert whole(v2(INET + tlv(2, value))).local_name == name


def test_local_headers_tell_nothing() -> None:
    header = whole(v2(INET + tlv(2, b"a.b") + tls(7, 0, tlv(0x22, b"joe")), 0x20))
    assert (header.remote, header.tls, header.local_name, header.cert_name) == (None, False, "", None)


def test_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283               # RFC 3720
    body = INET + tlv(2, b"a.b")
    blank = v2(body + tlv(3, b"\0\0\0\0"))
    good = blank[:-4] + struct.pack("!I", crc32c(blank))
    assert whole(good).local_name == "a.b"
    with pytest.raises(BadHeader, match="Invalid checksum"):
        parse(good.replace(b"a.b", b"a.c"))


@pytest.mark.parametrize(("remote", "local", "read"), [
    ("10.1.2.3", "10.4.5.6", (REMOTE, LOCAL)),
    ("2001:db8::1", "2001:db8::2", (("2001:db8::1", 1111), ("2001:db8::2", 2222))),
    ("2001:db8::1", "10.4.5.6", (("2001:db8::1", 1111), ("::ffff:10.4.5.6", 2222))),
    ("10.1.2.3", "::1", (("::ffff:10.1.2.3", 1111), ("::1", 2222)))])
def test_what_is_built_is_read(remote: str, local: str, read: object) -> None:
    def packed(ip: str) -> bytes:
        return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    built = build((packed(remote), 1111), (packed(local), 2222))
    header = whole(built)
    assert ((header.remote, header.local), header.size, header.tls) == (read, len(built), False)
    told = whole(build((packed(remote), 1111), (packed(local), 2222),
                       TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", "joe"), "mail.example.com"))
    assert (told.remote, told.tls, told.cert_name, told.local_name) == (read[0], True, "joe", "mail.example.com")  # type: ignore[index]


def test_built_without_what_is_not_known() -> None:
    addresses = (b"\x0a\1\2\3", 1), (b"\x0a\1\2\4", 2)
    header = whole(build(*addresses, TlsInfo("", "", ""), "x" * 300))
    assert (header.tls, header.cert_name, header.local_name) == (True, None, "")
    assert whole(build(*addresses, TlsInfo("", "", "n" * 300))).cert_name is None
    assert whole(build((b"", 1), addresses[1])).remote is None
    assert whole(build((b"", 1), (b"", 2))).remote is None


def test_random_bytes_are_refused_or_read() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        data = bytearray(v2(INET + tlv(2, b"a.b") + tls(7, 0, tlv(0x22, b"joe"))))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(12, len(data))] = rng.randrange(256)
        try:
            header = parse(bytes(data))
        except BadHeader as error:
            told = f"{error.text} {error.details}"
        else:
            told = "" if header is None else f"{header.remote} {header.local_name} {header.cert_name}"
        assert told.isprintable()
