"""Behind load balancers, and in front of servers that expect a PROXY header.

The same bytes go to a real Dovecot and to mailproxy, each case from an address of its own so that log lines can be told
apart; then the real HAProxy stands in front; then a chain of two mailproxys and a Dovecot.
"""
from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from mailproxy.net.proxyhdr import parse
from tests import servers
from tests.certificates import Authority, Pair
from tests.unit.net.test_proxyhdr import INET, INET6, SIGNATURE, UNIX, tls, tlv, v2

PATIENCE = 5.0
ASK = b"c CAPABILITY\r\n"
LOGIN = b"a LOGIN u1 secret\r\n"
TCP4 = b"PROXY TCP4 10.1.2.3 10.4.5.6 1111 2222\r\n"
SSL = tls(1, 0)

CONF = servers.HEAD + """
ssl = yes
ssl_cert = <@dir@/server.pem
ssl_key = <@dir@/server.key
ssl_dh =
auth_mechanisms = plain
auth_verbose = yes
auth_debug = yes
auth_failure_delay = 0
login_greeting = Ready.
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
haproxy_timeout = 2 secs
haproxy_trusted_networks = 127.1.0.0/16, 127.0.0.1
login_trusted_networks = 10.99.0.0/16, 127.1.200.0/24
login_log_format_elements = user=<%u> rip=%r lip=%l rport=%b lport=%a real_rip=%{real_rip} real_lip=%{real_lip} """ \
    """real_lport=%{real_lport} %c
remote 10.77.0.0/16 {
  login_greeting = Ready, seventy-seven.
}
passdb {
  driver = static
  args = password=secret proxy=y host=127.0.0.1 port=BACKEND
}
service imap-login {
  service_count = 0
  client_limit = 500
  process_limit = 1
  inet_listener imap {
    port = @imap@
    haproxy = yes
  }
  inet_listener imaps {
    port = @imaps@
    haproxy = yes
    ssl = yes
  }
  inet_listener check {
    port = @check@
  }
}
"""

Part = bytes | None         # None: close

#: What Dovecot and mailproxy must treat alike.  A name with "untrusted" is sent from an address that nobody trusts.
SAME: dict[str, tuple[Part, ...]] = {
    "v1": (TCP4 + ASK,),
    "v1-tcp6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n" + ASK,),
    "v1-mapped": (b"PROXY TCP6 ::ffff:10.1.2.3 ::ffff:10.4.5.6 1111 2222\r\n" + ASK,),
    "v1-then-later": (TCP4, ASK),
    "v1-login-insecure": (TCP4 + LOGIN,),
    "v1-login-trusted": (TCP4.replace(b"10.1.2.3", b"10.99.2.3") + LOGIN,),
    "v1-same-address": (b"PROXY TCP4 10.1.2.3 10.1.2.3 1111 2222\r\n" + ASK,),
    "v1-remote-block": (TCP4.replace(b"10.1.2.3", b"10.77.2.3") + ASK,),
    "v1-unknown": (b"PROXY UNKNOWN\r\n" + ASK,),
    "v1-unknown-more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n" + ASK,),
    "v1-unknown-107": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n" + ASK,),
    "v1-twice": (TCP4 * 2 + ASK,),
    "v1-udp": (b"PROXY UDP4 10.1.2.3 10.4.5.6 1111 2222\r\n",),
    "v1-lower-case": (b"PROXY tcp4 10.1.2.3 10.4.5.6 1111 2222\r\n",),
    "v1-no-protocol": (b"PROXY \r\n",),
    "v1-bad-remote": (TCP4.replace(b"10.1.2.3", b"10.11.12.999"),),
    "v1-bad-local": (TCP4.replace(b"10.4.5.6", b"foo"),),
    "v1-other-family": (TCP4.replace(b"10.1.2.3", b"2001:db8::1"),),
    "v1-two-spaces": (TCP4.replace(b"TCP4 ", b"TCP4  "),),
    "v1-bad-port": (TCP4.replace(b"1111", b"99999"),),
    "v1-bad-local-port": (TCP4.replace(b"2222", b"2x"),),
    "v1-port-0": (TCP4.replace(b"1111", b"0"),),
    "v1-signed-port": (TCP4.replace(b"1111", b"+1111"),),
    "v1-no-remote": (b"PROXY TCP4\r\n",),
    "v1-no-local": (b"PROXY TCP4 10.1.2.3\r\n",),
    "v1-no-local-port": (b"PROXY TCP4 10.1.2.3 10.4.5.6 1111\r\n",),
    "v1-extra": (TCP4.replace(b"\r", b" x\r"),),
    "no-header": (ASK,),
    "no-header-one-byte": (b"x",),
    "half-a-signature": (SIGNATURE[:11] + b"X" + b"\x21\x11\0\x0c" + INET,),
    "silent": (b"",),
    "v2": (v2() + ASK,),
    "v2-tcp6": (v2(INET6, family=0x21) + ASK,),
    "v2-login-insecure": (v2() + LOGIN,),
    "v2-local": (v2(b"", 0x20, 0) + ASK,),
    "v2-local-trusted": (v2(b"", 0x20, 0) + LOGIN,),
    "v2-local-addresses": (v2(INET + tlv(2, b"a.b") + SSL, 0x20) + ASK,),
    "v2-local-garbage": (v2(b"abc", 0x20, 0x12) + ASK,),
    "v2-version-3": (v2(command=0x31) + ASK,),
    "v2-command-2": (v2(command=0x22) + ASK,),
    "v2-udp": (v2(family=0x12) + ASK,),
    "v2-unspecified": (v2(b"", family=0) + ASK,),
    "v2-unspecified-stream": (v2(b"", family=1) + ASK,),
    "v2-family-4": (v2(family=0x41) + ASK,),
    "v2-short-4": (v2(INET[:8]) + ASK,),
    "v2-short-6": (v2(INET6[:30], family=0x21) + ASK,),
    "v2-longest": (v2(INET + tlv(4, b"x" * 1469)) + ASK,),
    "v2-too-long": (v2(INET + tlv(4, b"x" * 1470)) + ASK,),
    "v2-bad-tlv": (v2(INET + b"\2\0\x09ab") + ASK,),
    "v2-bad-second-tlv": (v2(INET + tlv(4, b"") + b"\2\0") + ASK,),
    "v2-unknown-tlv": (v2(INET + tlv(0xE0, b"x") + tlv(1, b"imap")) + ASK,),
    "v2-tls": (v2(INET + SSL) + ASK + LOGIN,),
    "v2-tls-not-the-client": (v2(INET + tls(0, 0)) + ASK + LOGIN,),
    "v2-tls-short": (v2(INET + tlv(0x20, b"\1\0\0\0")) + ASK,),
    "v2-tls-bad-part": (v2(INET + tls(1, 0, b"\x21\0\x09x")) + ASK,),
    "untrusted": (TCP4 + ASK,),
    "untrusted-silent": (b"",),
}

CLOSED, GREETED = "closed", "* OK "
#: name -> (what is sent, how it ends, what the log says); each is a row of docs/differences.md.
OTHER: dict[str, tuple[tuple[Part, ...], str, str]] = {
    "v1-byte-by-byte": ((*(bytes([byte]) for byte in TCP4), ASK), GREETED, "rip=10.1.2.3, lip=10.4.5.6"),
    "v2-byte-by-byte": ((*(bytes([byte]) for byte in v2()), ASK), GREETED, "rip=10.1.2.3, lip=10.4.5.6"),
    "v2-after-16-bytes": ((v2()[:16], v2()[16:] + ASK), GREETED, "rip=10.1.2.3, lip=10.4.5.6"),
    "v1-half": ((TCP4[:-1],), CLOSED, "Error: haproxy: Client timed out (rip=SOURCE)"),
    "v1-cut": ((TCP4[:-1], None), CLOSED,
               "Info: haproxy: Client disconnected: Failed to read full header (rip=SOURCE)"),
    "v2-cut": ((v2()[:5], None), CLOSED, "Info: haproxy: Client disconnected: Failed to read full header (rip=SOURCE)"),
    "closes": ((None,), CLOSED, "Info: haproxy: Client disconnected (rip=SOURCE)"),
    "v1-tab": ((TCP4.replace(b" ", b"\t"),), CLOSED,
               "Error: haproxy: Client disconnected: Failed to read valid HAproxy data (rip=SOURCE)"),
    "v1-lf": ((TCP4.replace(b"\r", b""),), CLOSED,
              "Error: haproxy(v1): Client disconnected: Header line has no CRLF (rip=SOURCE)"),
    "v1-108": ((b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n" + ASK,), CLOSED,
               "Error: haproxy(v1): Client disconnected: Too long header (rip=SOURCE)"),
    "v1-lenient-address": ((TCP4.replace(b"10.1.2.3", b"10.2.3"),), CLOSED, "Error: haproxy(v1): Client disconnected: "
                           "Proxied remote address is invalid (address=`10.2.3', rip=SOURCE)"),
    "v1-no-remote-port": ((b"PROXY TCP4 10.1.2.3 10.4.5.6\r\n",), CLOSED, "Error: haproxy(v1): Client disconnected: "
                          "Field for proxied remote port is missing (rip=SOURCE)"),
    "v2-unix": ((v2(UNIX, family=0x31) + ASK,), GREETED,
                "Error: haproxy(v2): Unsupported address family (family=03, rip=SOURCE)"),
    "v2-checksum": ((v2(INET + tlv(3, b"abcd")) + ASK,), CLOSED,
                    "Error: haproxy(v2): Client disconnected: Invalid checksum (rip=SOURCE)"),
}


def source(number: int, name: str) -> str:
    net = "2" if name.startswith("untrusted") else "1"
    return f"127.{net}.{200 if name.endswith('trusted') else 0}.{number + 1}"


def play(port: int, address: str, parts: tuple[Part, ...]) -> str:
    """What comes back; `closed` at the end when the server ends the connection (in either way)."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(PATIENCE)
        try:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(0.01)
                if part is None:
                    sock.shutdown(socket.SHUT_WR)
                else:
                    sock.sendall(part)
            last = rb"^a (OK|NO)" if LOGIN in (parts[-1] or b"") else rb"^c OK"
            while not re.search(last, found, re.M):
                more = sock.recv(4096)
                if not more:
                    return found.decode() + CLOSED
                found += more
        except ConnectionError:
            return found.decode() + CLOSED
    return found.decode()


def prepared(pair: Pair) -> Path:
    """A server's directory with a certificate."""
    directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    directory.chmod(0o755)
    shutil.copy(pair.certificate, directory / "server.pem")
    shutil.copy(pair.key, directory / "server.key")
    return directory


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


def log_lines(text: str, address: str, ports: Mapping[str, int]) -> list[str]:
    """The login service's lines about connections from that address, without what changes from run to run."""
    found = []
    for line in text.splitlines():
        words = line.partition(" imap-login: ")[2]
        if re.search(rf"rip={re.escape(address)}\b", words):
            words = words.replace(address, "SOURCE")
            for name, port in ports.items():
                words = re.sub(rf"\b{port}\b", name, words)
            words = re.sub(r"\b(rport=)\d{5}|(in )\d+( secs)|\(\d\.\d+ (secs)\)|(in=\d+, out=)\d+|\d+(s idle)",
                           lambda match: "".join(filter(None, match.groups())), words)
            found.append(words)
    return found


Outcome = dict[str, tuple[str, list[str]]]


def run(server: servers.Server, cases: Mapping[str, tuple[Part, ...]], offset: int = 0) -> Outcome:
    """All cases at the same time."""
    numbered = [(name, source(number + offset, name), parts) for number, (name, parts) in enumerate(cases.items())]
    with ThreadPoolExecutor(len(numbered)) as pool:
        answers = list(pool.map(lambda case: play(server.port["imap"], case[1], case[2]), numbered))
    servers.wait_until(lambda: all(re.search(rf"rip={re.escape(address)}\b", server.log_text())
                                   for _, address, _ in numbered), 5.0, "a log line of each case")
    time.sleep(0.3)                             # sessions that are closed by us are logged a little later
    text = server.log_text()
    return {name: (re.sub(r"SORT.*NOTIFY", "", answer), log_lines(text, address, server.port))
            for (name, address, _), answer in zip(numbered, answers, strict=True)}


@pytest.fixture(scope="module")
def ours(real_dovecot_backend: servers.Server, pair: Pair) -> Iterator[servers.Server]:
    backend = real_dovecot_backend.port["imap"]
    server = servers.mailproxy(CONF.replace("BACKEND", str(backend)), prepared(pair))
    try:
        server.wait("check")
        yield server
    finally:
        problems = server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def both(ours: servers.Server, real_dovecot_backend: servers.Server,
         pair: Pair) -> list[Outcome]:
    backend = real_dovecot_backend.port["imap"]
    oracle = servers.dovecot(CONF.replace("BACKEND", str(backend)), prepared(pair))
    try:
        oracle.wait("check")
        oracle.port["backend"] = ours.port["backend"] = backend
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda server: run(server, SAME), (oracle, ours)))
    finally:
        oracle.stop()
        shutil.rmtree(oracle.directory, ignore_errors=True)


@pytest.mark.parametrize("name", SAME)
def test_as_dovecot(both: list[Outcome], name: str) -> None:
    theirs, own = both[0][name], both[1][name]
    assert theirs[1], "Dovecot logs nothing"
    assert own == theirs


@pytest.fixture(scope="module")
def others(ours: servers.Server) -> Outcome:
    return run(ours, {name: parts for name, (parts, _, _) in OTHER.items()}, 100)


@pytest.mark.parametrize("name", OTHER)
def test_better_than_dovecot(others: Outcome, name: str) -> None:
    _, end, line = OTHER[name]
    answer, log = others[name]
    assert answer.startswith(end)
    assert (CLOSED in answer) == (end == CLOSED)
    assert any(line in each for each in log), log


# --- the real HAProxy in front ---------------------------------------------------------------------------------------

BALANCER = """
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend v1
  bind 127.0.0.1:@v1@
  default_backend v1
frontend v2
  bind 127.0.0.1:@v2@
  default_backend v2
frontend through
  bind 127.0.0.1:@through@
  default_backend through
frontend ends
  bind 127.0.0.1:@ends@ ssl crt @dir@/both.pem ca-file @dir@/ca.pem verify optional crt-ignore-err all
  default_backend ends
backend v1
  server proxy 127.0.0.1:IMAP send-proxy
backend v2
  server proxy 127.0.0.1:IMAP send-proxy-v2 proxy-v2-options crc32c,unique-id
backend through
  server proxy 127.0.0.1:TLS send-proxy-v2
backend ends
  server proxy 127.0.0.1:IMAP send-proxy-v2-ssl-cn
"""


class Balancer:
    """A running HAProxy."""

    def __init__(self, ours: servers.Server, pair: Pair, authority: Authority) -> None:
        self.directory = prepared(pair)
        self.port = {name: servers.free_port() for name in ("v1", "v2", "through", "ends")}
        (self.directory / "both.pem").write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
        shutil.copy(authority.authority, self.directory / "ca.pem")
        text = BALANCER.replace("IMAP", str(ours.port["imap"])).replace("TLS", str(ours.port["imaps"]))
        for name, value in {**self.port, "dir": self.directory}.items():
            text = text.replace(f"@{name}@", str(value))
        conf = self.directory / "haproxy.cfg"
        conf.write_text(text)
        with (self.directory / "output").open("wb") as output:
            self.process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(conf)], stdout=output, stderr=output)
        servers.wait_until(lambda: self.process.poll() is None and servers.answers(self.port["v1"], False), 10.0,
                           f"HAProxy: {(self.directory / 'output').read_text()}")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def balancer(ours: servers.Server, pair: Pair, authority: Authority) -> Iterator[Balancer]:
    running = Balancer(ours, pair, authority)
    yield running
    running.stop()


def context(pair: Pair | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if pair is not None:
        made.load_cert_chain(pair.certificate, pair.key)
    return made


def log_in(port: int, address: str, tls_with: ssl.SSLContext | None = None, user: bytes = b"u1") -> bytes:
    """The answer to a login."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0)) as plain:
        sock = tls_with.wrap_socket(plain, server_hostname="mail.test") if tls_with is not None else plain
        sock.sendall(b"a LOGIN %b secret\r\n" % user)
        found = b""
        while not re.search(rb"^a .*\n", found, re.M):
            more = sock.recv(4096)
            assert more, found
            found += more
        sock.close()
        return found[found.index(b"a "):]


@pytest.mark.parametrize("header", [TCP4, v2()])
def test_a_tls_handshake_in_the_same_segment_is_not_lost(ours: servers.Server, header: bytes) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = context().wrap_bio(incoming, outgoing, server_hostname="mail.test")
    with socket.create_connection(("127.0.0.1", ours.port["imaps"]), PATIENCE) as sock:
        while True:
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(header + outgoing.read())
                header = b""
                incoming.write(sock.recv(65536))
        assert peer.version() == "TLSv1.3"


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_haproxy_without_tls(ours: servers.Server, balancer: Balancer, kind: str) -> None:
    address = f"127.3.0.{kind[1]}"
    assert log_in(balancer.port[kind], address).startswith(b"a NO [PRIVACYREQUIRED]")
    servers.wait_until(lambda: f"rip={address}, lip=127.0.0.1" in ours.log_text())


def test_haproxy_with_tls_behind_the_header(ours: servers.Server, balancer: Balancer) -> None:
    assert log_in(balancer.port["through"], "127.3.0.3", context()).startswith(b"a OK")
    servers.wait_until(lambda: re.search(r"Started.* rip=127\.3\.0\.3, .*, TLS", ours.log_text()) is not None)


def test_haproxy_that_ends_tls(ours: servers.Server, balancer: Balancer) -> None:
    assert log_in(balancer.port["ends"], "127.3.0.4", context()).startswith(b"a OK")
    servers.wait_until(lambda: re.search(r"Started.* rip=127\.3\.0\.4, .*, secured", ours.log_text()) is not None)


def test_haproxy_that_ends_tls_tells_of_the_certificate(ours: servers.Server, balancer: Balancer,
                                                        authority: Authority) -> None:
    assert log_in(balancer.port["ends"], "127.3.0.5", context(authority.issue("joe"))).startswith(b"a OK")
    stranger = Authority(balancer.directory).issue("stranger")
    assert log_in(balancer.port["ends"], "127.3.0.6", context(stranger)).startswith(b"a OK")
    servers.wait_until(lambda: "rip=127.3.0.6" in ours.log_text())
    asked = {address: line for line in ours.log_text().splitlines() for address in ("127.3.0.5", "127.3.0.6")
             if f"rip={address}" in line and "client in: AUTH" in line}
    assert "secured=tls\\tvalid-client-cert\\tcert_username=joe\\t" in asked["127.3.0.5"]
    assert "secured=tls\\tsession" in asked["127.3.0.6"]


# --- a header of ours ------------------------------------------------------------------------------------------------

FIRST = servers.HEAD + """
ssl = yes
ssl_cert = <@dir@/server.pem
ssl_key = <@dir@/server.key
ssl_ca = <@dir@/ca.pem
ssl_verify_client_cert = yes
ssl_require_crl = no
auth_mechanisms = plain
auth_failure_delay = 0
disable_plaintext_auth = no
login_proxy_max_reconnects = 0
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
service imap-login {
  service_count = 0
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = @imaps@
    ssl = yes
  }
}
passdb {
  driver = passwd-file
  args = @dir@/users
}
"""
#: One that takes PROXY headers and needs no certificate to show.
LAST = servers.BACKEND.replace("login_trusted_networks = 127.0.0.0/8", """
auth_debug = yes
haproxy_trusted_networks = 127.0.0.0/8
login_log_format_elements = user=<%u> rip=%r lip=%l rport=%b lport=%a real_rip=%{real_rip} %c
""").replace("port = @imap@", "port = @imap@\n    haproxy = yes")


class Listening:
    """A backend that notes what it gets, and answers nothing."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.settimeout(PATIENCE)
        self.port: int = self.sock.getsockname()[1]

    def received(self, enough: int, first: bytes = b"") -> bytes:
        peer, _ = self.sock.accept()
        with peer:
            peer.settimeout(PATIENCE)
            found = b""
            while len(found) < enough:
                found += peer.recv(4096) or b"!" * enough
            peer.sendall(first)
            if first:
                found += peer.recv(4096)
            return found


@pytest.fixture(scope="module")
def listening() -> Iterator[Listening]:
    one = Listening()
    with closing(one.sock):
        yield one


@pytest.fixture(scope="module")
def last() -> Iterator[servers.Server]:
    directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    directory.chmod(0o755)
    (directory / "mail").mkdir()
    (directory / "mail").chmod(0o777)
    server = servers.dovecot(LAST, directory)
    try:
        servers.wait_until(lambda: connects(server.port["imap"]))
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def connects(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def first(ours: servers.Server, last: servers.Server, listening: Listening, pair: Pair,
          authority: Authority) -> Iterator[servers.Server]:
    directory = prepared(pair)
    shutil.copy(authority.authority, directory / "ca.pem")
    users = {"chain": f"port={ours.port['imap']} proxy_haproxy=v2-ssl",
             "chains": f"port={ours.port['imaps']} ssl=any-cert proxy_haproxy=v2-ssl",
             "last": f"port={last.port['imap']} proxy_haproxy=v2",
             "told": f"port={listening.port} proxy_haproxy=v2-ssl",
             "untold": f"port={listening.port} proxy_haproxy=v2",
             "inside": f"port={listening.port} proxy_haproxy=v2 ssl=any-cert",
             "later": f"port={listening.port} proxy_haproxy=v2 starttls=any-cert",
             "odd": f"port={listening.port} proxy_haproxy=v1"}
    (directory / "users").write_text("".join(f"{name}:{{PLAIN}}secret::::::proxy host=127.0.0.1 {fields}\n"
                                             for name, fields in users.items()))
    server = servers.mailproxy(FIRST, directory)
    try:
        server.wait("imap", "imaps")
        yield server
    finally:
        problems = server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    assert not problems, "\n".join(problems)


def test_a_backend_that_is_dovecot_sees_the_client(first: servers.Server, last: servers.Server) -> None:
    assert log_in(first.port["imap"], "127.4.0.1", user=b"last").startswith(b"a OK")
    port = first.port["imap"]
    servers.wait_until(lambda: re.search(rf"Login: user=<last>, rip=127\.4\.0\.1, lip=127\.0\.0\.1, rport=\d+, "
                                         rf"lport={port}, real_rip=127\.0\.0\.1", last.log_text()) is not None)


@pytest.mark.parametrize("user", ["chain", "chains"])
def test_two_in_a_chain(first: servers.Server, ours: servers.Server, user: str) -> None:
    assert log_in(first.port["imaps"], "127.4.0.2", context(), user.encode()).startswith(b"a OK")
    servers.wait_until(lambda: re.search(rf"Started.*: user=<{user}>, rip=127\.4\.0\.2, lip=127\.0\.0\.1, rport=\d+, "
                                         rf"lport={first.port['imaps']}, real_rip=127\.0\.0\.1, .*, "
                                         rf"{'TLS' if user == 'chains' else 'secured'}", ours.log_text()) is not None)


def talk(first: servers.Server, listening: Listening, user: str, enough: int, *, banner: bytes = b"",
         tls_with: ssl.SSLContext | None = None, address: str = "127.4.0.3") -> bytes:
    """What the backend receives when the user logs in."""
    name = "imaps" if tls_with else "imap"
    with socket.create_connection(("127.0.0.1", first.port[name]), PATIENCE, (address, 0)) as plain:
        sock = tls_with.wrap_socket(plain, server_hostname="mail.test") if tls_with is not None else plain
        sock.sendall(b"a LOGIN %b secret\r\n" % user.encode())
        found = listening.received(enough, banner)
        sock.close()
        return found


def test_what_a_backend_is_told(first: servers.Server, listening: Listening, authority: Authority) -> None:
    joe = context(authority.issue("joe"))
    header = parse(talk(first, listening, "told", 60, tls_with=joe))
    assert header is not None
    assert header.remote is not None
    assert header.remote[0] == "127.4.0.3"
    assert header.local == ("127.0.0.1", first.port["imaps"])
    assert (header.tls, header.local_name, header.cert_name) == (True, "mail.test", "joe")


def test_no_tls_and_no_certificate_are_told_as_such(first: servers.Server, listening: Listening) -> None:
    header = parse(talk(first, listening, "told", 60, tls_with=context()))
    assert header is not None
    assert (header.tls, header.local_name, header.cert_name) == (True, "mail.test", None)
    header = parse(talk(first, listening, "told", 28))
    assert header is not None
    assert (header.tls, header.size) == (False, 28)
    header = parse(talk(first, listening, "untold", 28, tls_with=context()))
    assert header is not None
    assert (header.tls, header.local_name, header.size) == (False, "", 28)


def test_the_header_goes_before_tls(first: servers.Server, listening: Listening) -> None:
    data = talk(first, listening, "inside", 40)
    header = parse(data)
    assert header is not None
    assert data[header.size:].startswith(b"\x16\x03\x01")
    data = talk(first, listening, "later", 28, banner=b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n")
    assert data[28:] == b"S STARTTLS\r\n"


def test_an_unknown_kind_is_refused(first: servers.Server) -> None:
    assert log_in(first.port["imap"], "127.4.0.4", user=b"odd").startswith(b"a NO [UNAVAILABLE]")
    servers.wait_until(lambda: "Error: proxy(odd): Unsupported proxy_haproxy v1" in first.log_text())
