"""What is around the lmtp service's connections: load balancers, raw logs, certificates that change."""
from __future__ import annotations

import re
import shutil
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.certificates import Authority
from tests.fakes.lmtp_server import LmtpServer
from tests.servers import HOST, Server, wait_until
from tests.system.test_lmtp import CONF

SIDES: dict[str, Callable[[str, Path], Server]] = {"dovecot": servers.dovecot, "mailproxy": servers.mailproxy}
MESSAGE = b"Subject: x\r\n\r\ntext\r\n"
HEADER = b"PROXY TCP4 10.1.2.3 10.4.5.6 1111 2222\r\n"


@pytest.fixture
def backend() -> Iterator[LmtpServer]:
    with closing(LmtpServer()) as server:
        yield server


def _text(directory: Path, fields: str, *, before: str = "", listener: str = "") -> str:
    path = directory / "lmtp-users"
    path.write_text(f"a:{{PLAIN}}x::::::proxy=y host=127.0.0.1 {fields}\n")
    path.chmod(0o644)
    text = before + CONF.replace("@users@", str(path)).replace("EXTRA", "")
    if listener:
        text = text.replace("    port = @lmtp@\n", f"    port = @lmtp@\n    {listener}\n")
    return text


def _send(port: int, source: str = "", header: bytes = b"") -> tuple[int, bytes]:
    """One message to `a`; the answer to its end."""
    client = smtplib.LMTP(timeout=10)
    client.source_address = (source, 0) if source else None
    if header:
        client.sock = socket.create_connection((HOST, port), 10)
        client.sock.sendall(header)
        assert client.getreply()[0] == 220
    else:
        client.connect(HOST, port)
    client.ehlo("mx.test")
    client.mail("s@test")
    code, text = client.rcpt("a")
    if code == 250:
        assert client.docmd("DATA")[0] == 354
        client.send(MESSAGE + b".\r\n")
        code, text = client.getreply()
    client.close()
    return code, text


@pytest.mark.parametrize("side", SIDES)
def test_behind_a_load_balancer(short_dir: Path, backend: LmtpServer, side: str) -> None:
    server = SIDES[side](_text(short_dir, f"port={backend.port}", before="haproxy_trusted_networks = 127.0.0.1\n"
                                                                       "haproxy_timeout = 1s\n",
                               listener="haproxy = yes"), short_dir)
    try:
        wait_until(lambda: "starting up" in server.log_text())
        assert _send(server.port["lmtp"], header=HEADER)[0] == 250
        for header in (b"LHLO mx.test\r\n", b"PROXY TCP4 10.1.2.999 10.4.5.6 1 2\r\n"):
            assert _is_cut_off(server, header)
        assert _is_cut_off(server, b"", "127.0.0.9")
        assert _is_cut_off(server, b"")     # in time
        for line in ("Connect from 10.1.2.3", "haproxy: Client not trusted (rip=127.0.0.9)",
                     "Failed to read valid HAproxy data (rip=127.0.0.1)", "haproxy: Client timed out (rip=127.0.0.1)",
                     "Proxied remote address is invalid (address=`10.1.2.999', rip=127.0.0.1)"):
            wait_until(lambda line=line: line in server.log_text())     # type: ignore[misc]
        assert b"from mx.test ([10.1.2.3])" in backend.messages[0].head
    finally:
        problems = server.stop()
    assert side == "dovecot" or not problems


@pytest.mark.parametrize("side", SIDES)
def test_a_backend_that_wants_a_proxy_header(short_dir: Path, backend: LmtpServer, side: str) -> None:
    """Two proxies; the inner one knows the client by the header alone."""
    directories = [short_dir / "inner", short_dir / "outer"]
    for directory in directories:
        directory.mkdir()
    inner = SIDES[side](_text(directories[0], f"port={backend.port}",
                              before="haproxy_trusted_networks = 127.0.0.1\n", listener="haproxy = yes"),
                        directories[0])
    outer = servers.mailproxy(_text(directories[1], f"port={inner.port['lmtp']} proxy_haproxy=v2 source_ip=127.0.0.1"),
                              directories[1])
    try:
        outer.wait("lmtp")
        wait_until(lambda: "starting up" in inner.log_text())
        code, text = _send(outer.port["lmtp"], "127.0.0.77")
        assert code == 250
        assert text.startswith(b"2.0.0 <a> ")
        assert text.endswith(b" Saved")
        wait_until(lambda: "Connect from 127.0.0.77" in inner.log_text())
        assert b"[127.0.0.77]" in backend.messages[0].head
    finally:
        problems = [*outer.stop(), *(inner.stop() if side == "mailproxy" else (inner.stop(), ())[1])]
    assert not problems


def _is_cut_off(server: Server, header: bytes, source: str = "") -> bool:
    with socket.create_connection((HOST, server.port["lmtp"]), 10, (source, 0) if source else None) as sock:
        sock.sendall(header)
        try:
            return sock.recv(100) == b""
        except ConnectionResetError:
            return True


@pytest.mark.parametrize("side", SIDES)
def test_raw_logs(short_dir: Path, backend: LmtpServer, side: str) -> None:
    for name in ("client", "backend"):
        (short_dir / name).mkdir()
        (short_dir / name).chmod(0o777)
    server = SIDES[side](_text(short_dir, f"port={backend.port}", before=f"lmtp_rawlog_dir = {short_dir}/client\n"
                                                                       f"lmtp_proxy_rawlog_dir = {short_dir}/backend\n"
                                                                       "lmtp_add_received_header = no\n"), short_dir)
    try:
        server.wait("lmtp")
        assert _send(server.port["lmtp"])[0] == 250
        wait_until(lambda: server.log_text().count("Disconnect from") >= 2)
        said = {name: [re.sub(rb"^\d+\.\d{6} ", b"", path.read_bytes(), flags=re.M)
                       for path in sorted((short_dir / name).glob("*"))] for name in ("client", "backend")}
    finally:
        server.stop()
    place = next(index for index, text in enumerate(said["client"]) if text.lower().startswith(b"lhlo"))
    told, answered = said["client"][place:place + 2]
    commands = b"lhlo mx.test\r\nmail from:<s@test>\r\nrcpt to:<a>\r\ndata\r\n"
    assert told.lower() == (commands + MESSAGE + b".\r\n").lower()
    assert answered.startswith(b"220 ")
    assert b"\r\n354 OK\r\n250 2.0.0 <a> " in answered
    got, sent = said["backend"]
    assert got.startswith(b"220 fake LMTP\r\n")
    assert b"250 2.0.0 Saved\r\n" in got
    assert b"\r\nRCPT TO:<a>" in sent
    assert b"\r\nBDAT %d LAST\r\n%b" % (len(MESSAGE), MESSAGE) in sent


def _serial(port: int, host: str = HOST) -> int:
    """Of the certificate that STARTTLS shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = smtplib.LMTP(host, port, timeout=10)
    client.ehlo("mx.test")
    client.docmd("STARTTLS")
    assert client.sock is not None
    with context.wrap_socket(client.sock) as sock:
        found = sock.getpeercert(binary_form=True)
        assert found
    client.close()
    from cryptography.x509 import load_der_x509_certificate
    return load_der_x509_certificate(found).serial_number


def test_certificates_by_address_and_renewed(short_dir: Path, authority: Authority, backend: LmtpServer) -> None:
    for name in ("one", "two", "three"):
        pair = authority.issue(name)
        shutil.copy(pair.certificate, short_dir / f"{name}.pem")
        shutil.copy(pair.key, short_dir / f"{name}.key")
    text = _text(short_dir, f"port={backend.port}").replace("ssl = no", f"""ssl = yes
ssl_cert = <{short_dir}/one.pem
ssl_key = <{short_dir}/one.key
local 127.0.0.2 {{
  ssl_cert = <{short_dir}/two.pem
  ssl_key = <{short_dir}/two.key
}}""").replace("listen = 127.0.0.1", "listen = 127.0.0.1, 127.0.0.2")
    server = servers.mailproxy(text, short_dir)
    try:
        server.wait("lmtp")
        port = server.port["lmtp"]
        first, second = _serial(port), _serial(port, "127.0.0.2")
        assert first != second
        shutil.copy(short_dir / "three.pem", short_dir / "two.pem")
        shutil.copy(short_dir / "three.key", short_dir / "two.key")
        wait_until(lambda: "Renewed certificate is in use" in server.log_text(), 15.0)
        wait_until(lambda: _serial(port, "127.0.0.2") != second, 5.0)
        assert _serial(port) == first
    finally:
        problems = server.stop()
    assert not problems
