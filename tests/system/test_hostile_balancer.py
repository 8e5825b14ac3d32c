"""Broken load balancers: PROXY headers cut anywhere, lying about lengths, followed by garbage, or never sent."""
from __future__ import annotations

import contextlib
import random
import re
import struct
import time
from collections.abc import Iterator

import pytest

from tests import servers
from tests.certificates import Authority, Pair
from tests.fakes.attack import PASSWORD, PATIENCE, Backend, Peer, memory
from tests.fakes.dialects import POP3, Mixed, mixed_settings
from tests.unit.net.test_proxyhdr import INET, INET6, SIGNATURE, UNIX, tls, tlv, v2

MEGABYTE = 1 << 20
LIMIT = 120
TIMEOUT = 1.0
TCP4 = b"PROXY TCP4 10.1.2.3 10.4.5.6 1111 2222\r\n"
TCP6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n"
LONG = v2(INET6 + tlv(2, b"mail.example") + tls(1, 0, tlv(0x22, b"joe")) + tlv(4, b"x" * 40), family=0x21)
EXTRA = """
haproxy_trusted_networks = 127.1.0.0/16
haproxy_timeout = 1 secs
service pop3-login {
  inet_listener behind {
    port = @behind@
    haproxy = yes
  }
  inet_listener behind-tls {
    port = @behindtls@
    haproxy = yes
    ssl = yes
  }
}
"""


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def proxy(pair: Pair) -> Iterator[Mixed]:
    target = Mixed(mixed_settings(pair, limit=LIMIT, extra=EXTRA))
    try:
        yield target
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


@pytest.fixture(autouse=True)
def survives(proxy: Mixed) -> Iterator[None]:
    yield
    proxy.check()


def peer(proxy: Mixed, listener: str = "behind", source: str = "127.1.0.1") -> Peer:
    return Peer(proxy.server.port[listener], source=source)


def end_of(one: Peer) -> bytes:
    """All that comes until the proxy hangs up; TimeoutError if it does not."""
    with one:
        return one.everything()


@pytest.mark.parametrize("header", [TCP4, TCP6, v2(), LONG], ids=["v1", "v1-6", "v2", "v2-tlvs"])
def test_cut_at_each_byte_and_left_open(proxy: Mixed, header: bytes) -> None:
    """Each ends by haproxy_timeout without a greeting, and is said in the log; whole, it is greeted."""
    start = time.monotonic()
    before = proxy.log().count("Client timed out")
    cuts = list(range(0, len(header), max(1, len(header) // 60)))
    peers = []
    for cut in cuts:
        peers.append(peer(proxy))
        peers[-1].send(header[:cut])
    for one in peers:
        assert end_of(one) == b""
    assert time.monotonic() - start < TIMEOUT + 3
    servers.wait_until(lambda: proxy.log().count("Client timed out") - before == len(cuts), 3.0, "a line for each")
    with peer(proxy) as one:
        one.send(header)
        assert one.line().startswith(b"+OK")


@pytest.mark.parametrize("header", [TCP4, LONG], ids=["v1", "v2"])
def test_cut_at_each_byte_and_closed(proxy: Mixed, header: bytes) -> None:
    for cut in range(0, len(header), max(1, len(header) // 50)):
        for end in (Peer.close, Peer.reset):
            one = peer(proxy)
            one.offer(header[:cut])
            end(one)
    proxy.quiet(POP3)


LIES = {
    "65,535 bytes": SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 65535,
    "65,535 bytes announced": SIGNATURE + b"\x21\x11\xff\xff",
    "a length without a body": SIGNATURE + b"\x21\x11\x00\x00",
    "short addresses": SIGNATURE + b"\x21\x21\x00\x0c" + INET,
    "a UNIX path": v2(UNIX, family=0x31)[:100],
    "a TLV longer than the header": v2(INET + b"\x20\xff\xff" + b"x" * 20),
    "a TLV inside longer than its TLV": v2(INET + tlv(0x20, struct.pack("!BI", 1, 0) + b"\x22\xff\xffjoe")),
    "a TLS TLV that is too short": v2(INET + tlv(0x20, b"\x01")),
    "a checksum of no bytes": v2(INET + tlv(3, b"")),
    "half a TLV": v2(INET + b"\x20"),
    "line end only": b"\n",
    "v1 with NUL": TCP4.replace(b"10.1.2.3", b"10.1.2\x00"),
    "v1 with escapes": TCP4.replace(b"10.1.2.3", b"\x1b[31m"),
    "v1 with other digits": TCP4.replace(b"1111", "\u0661".encode()),
    "v1 without end": b"PROXY " + b"x" * 5000,
    "commands": b"AUTH PLAIN AAAA\r\n" * 50,
}


@pytest.mark.parametrize("name", LIES)
def test_lies(proxy: Mixed, name: str) -> None:
    """No greeting for anything that is no header; and never another log line in the log line."""
    with peer(proxy) as one:
        one.offer(LIES[name])
        assert one.everything() == b""
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", proxy.log())


def test_names_and_certificates_of_any_bytes(proxy: Mixed) -> None:
    """They are greeted (the header is well formed), and nothing raw reaches the log."""
    for nasty in (b"\xff\xfe", b"\x1b[31m", b"a\tb\nc", b"\0", b"x" * 500, "\u2028".encode(), b"%u %{user}"):
        with peer(proxy) as one:
            one.send(v2(INET + tlv(2, nasty) + tls(7, 0, tlv(0x22, nasty))))
            assert one.line().startswith(b"+OK")
            one.send(POP3.login(proxy.user(POP3), b"wrong"))
            one.sock.settimeout(PATIENCE)
            assert one.line().startswith(b"-ERR")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", proxy.log())


def test_random_headers(proxy: Mixed) -> None:
    chance = random.Random(3)
    peers = []
    for _ in range(100):
        data = bytearray(chance.choice([TCP4, TCP6, v2(), LONG]))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        peers.append(peer(proxy))
        peers[-1].offer(bytes(data) + b"QUIT\r\n")
    for one in peers:
        end_of(one)


def test_garbage_behind_the_header(proxy: Mixed) -> None:
    """In the place of a TLS handshake."""
    for number in range(20):
        with peer(proxy, "behindtls") as one:
            one.offer(TCP4 + random.Random(number).randbytes(500))
            one.sock.settimeout(0.3)
            with contextlib.suppress(OSError):
                one.everything()
    with peer(proxy, "behindtls") as one:
        one.send(TCP4)
        one.start_tls()
        assert one.line().startswith(b"+OK")


def test_one_byte_packets_cost_little(proxy: Mixed) -> None:
    worker = proxy.worker(POP3)
    before = sum(worker.cpu_times()[:2])
    header = v2(INET + tlv(4, b"x" * 1400))
    with peer(proxy) as one:
        for byte in header:
            one.offer(bytes([byte]))
        assert one.line().startswith(b"+OK")
    assert sum(worker.cpu_times()[:2]) - before < 1.0


def test_untrusted_ones_are_sent_away(proxy: Mixed) -> None:
    with peer(proxy, source="127.0.0.1") as one:
        one.offer(TCP4)
        assert one.everything() == b""
    proxy.logged("haproxy: Client not trusted (rip=127.0.0.1)")


def test_more_connections_without_a_header_than_there_are_places(proxy: Mixed) -> None:
    """A balancer gone mad holds the service up for no longer than its time-out, and its connections cost little."""
    worker = proxy.worker(POP3)
    before = memory(worker)
    crowd = [peer(proxy) for _ in range(3 * LIMIT)]
    start = time.monotonic()
    with peer(proxy) as one:
        one.send(TCP4)
        assert one.line().startswith(b"+OK")
    assert time.monotonic() - start < 3 * TIMEOUT + 3
    assert memory(worker) - before < 2 * MEGABYTE
    for each in crowd:
        each.close()
    proxy.quiet(POP3)


def test_a_login_behind_each_kind_of_header(proxy: Mixed) -> None:
    """After all this, the sessions work and say whose they are."""
    with contextlib.closing(Backend(POP3.good)) as backend:
        for header in (TCP4, TCP6, v2(), LONG):
            with peer(proxy) as one:
                one.send(header)
                assert one.line().startswith(b"+OK")
                if header is not LONG:              # its client speaks TLS, the others send a password in the clear
                    one.send(b"CAPA\r\n")
                    assert one.line().startswith(b"+OK")
                    continue
                one.send(POP3.login(backend.user(), PASSWORD.encode()))
                assert one.line() == POP3.done
