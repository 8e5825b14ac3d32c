"""Real mail clients through the proxy to a real Dovecot submission service: what arrives behind it is what was sent,
and the backend is told who the client is, also through two proxies."""
from __future__ import annotations

import shutil
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailproxy.proto.smtp.message import DotReader, DotWriter
from tests import servers
from tests.certificates import Authority
from tests.conftest import _make_short_dir
from tests.system.test_clients import HOST, TIMEOUT, run, tls_context

_LOGIN = """
service submission-login {{
  service_count = {service_count}
  process_min_avail = 1
  inet_listener submission {{
    port = @submission@
  }}
  inet_listener submissions {{
    port = @submissions@
    ssl = yes
  }}
}}
"""
_BACKEND_LOGIN = _LOGIN.format(service_count=0).replace("@submissions@", "0")
BACKEND = servers.BACKEND.replace("= imap\n", "= submission\n").partition("service imap-login")[0] + \
    _BACKEND_LOGIN + """
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
hostname = backend.test
"""
PROXY = servers.HEAD.replace("protocols = imap\n", "protocols = submission\n") + _LOGIN + """
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
disable_plaintext_auth = no
auth_mechanisms = plain login
login_trusted_networks = {trusted}
hostname = proxy.test
ssl_cert = <{certificate}
ssl_key = <{key}
passdb {{
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1 port={backend}
}}
"""
BIG = 1_000_000
_HEAD = b"From: <big@example.org>\r\nTo: <user@example.org>\r\nSubject: big\r\nMessage-ID: <big@example.org>\r\n\r\n"


def big_message() -> bytes:
    """Its lines hold what a proxy might be tempted to touch."""
    lines = b".\r\n..\r\n. QUIT\r\nBDAT 5 LAST\r\n250 ok\r\n\xc3\xa9\xff\t\x7f" + bytes(range(32, 127)) + b"\r\n"
    return _HEAD + lines * ((BIG - len(_HEAD)) // len(lines) + 1)


class Sink:
    """A mail server that takes everything and keeps it."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.messages: list[bytes] = []
        self._arrived = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rwb") as stream:
            def say(text: bytes) -> None:
                stream.write(text + b"\r\n")
                stream.flush()
            say(b"220 sink")
            while line := stream.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    say(b"354 go")
                    self._keep(_data(stream.readline))
                say(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME" if verb == b"EHLO" else b"250 2.0.0 ok")
                if verb == b"QUIT":
                    return

    def _keep(self, message: bytes) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait(self) -> bytes:
        with self._arrived:
            assert self._arrived.wait_for(lambda: bool(self.messages), TIMEOUT)
            return self.messages.pop(0)

    def close(self) -> None:
        self._listener.close()


def _data(readline: Callable[[], bytes]) -> bytes:
    reader, text = DotReader(), b""
    parts: list[bytes] = []
    while not reader.done and (line := readline()):
        text, _ = reader.feed(line)
        parts.append(text)
    return b"".join(parts)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module")
def backend(sink: Sink) -> Iterator[servers.Server]:
    path = _make_short_dir()
    (path / "mail").mkdir(mode=0o777)
    (path / "mail").chmod(0o777)
    server = servers.dovecot(BACKEND.replace("{relay}", str(sink.port)), path)
    try:
        server.wait("submission")
        yield server
    finally:
        server.stop()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["process for each", "shared processes"])
def proxy(request: pytest.FixtureRequest, mailproxy_server: Callable[..., servers.Server], authority: Authority,
          backend: servers.Server) -> servers.Server:
    pair = authority.issue(HOST, "localhost")
    return mailproxy_server(PROXY.format(
        certificate=pair.certificate, key=pair.key, backend=backend.port["submission"], trusted="",
        service_count=1 if request.param == "process for each" else 0), "submission", "submissions")


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return "".join(char if char.isalnum() else "-" for char in request.node.name).lower()


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "message"
    path.write_bytes(big_message())
    return path


def arrived(sink: Sink) -> bytes:
    """The message without what Dovecot puts in front of it."""
    head, found, body = sink.wait().partition(b"From: <big@example.org>")
    assert head.startswith(b"Received: ")
    return found + body


def test_smtplib(proxy: servers.Server, sink: Sink, user: str) -> None:
    with smtplib.SMTP(HOST, proxy.port["submission"], timeout=TIMEOUT) as client:
        client.login(user, servers.PASSWORD)
        client.sendmail("big@example.org", ["user@example.org"], big_message())
        assert arrived(sink) == big_message()
        client.sendmail("big@example.org", ["user@example.org"], _HEAD + b"again\r\n")
        assert arrived(sink) == _HEAD + b"again\r\n"


def test_smtplib_starttls(proxy: servers.Server, sink: Sink, authority: Authority, user: str) -> None:
    with smtplib.SMTP(HOST, proxy.port["submission"], timeout=TIMEOUT) as client:
        client.starttls(context=tls_context(authority))
        client.login(user, servers.PASSWORD)
        client.sendmail("big@example.org", ["user@example.org"], big_message())
    assert arrived(sink) == big_message()


def test_smtplib_tls_wrong_password_then_right_one(proxy: servers.Server, sink: Sink, authority: Authority,
                                                   user: str) -> None:
    with smtplib.SMTP_SSL(HOST, proxy.port["submissions"], timeout=TIMEOUT, context=tls_context(authority)) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.8 Authentication failed"):
            client.login(user, "wrong")
        client.login(user, servers.PASSWORD)
        client.sendmail("big@example.org", ["user@example.org"], big_message())
    assert arrived(sink) == big_message()


@pytest.mark.parametrize("scheme", ["smtp", "smtp with STARTTLS", "smtps"])
def test_curl(proxy: servers.Server, sink: Sink, authority: Authority, user: str, message: Path, scheme: str) -> None:
    name = scheme.partition(" ")[0]
    port = proxy.port["submissions" if name == "smtps" else "submission"]
    run(["curl", "-sS", "--max-time", str(TIMEOUT), "--user", f"{user}:{servers.PASSWORD}", "--cacert",
         str(authority.authority), *(["--ssl-reqd"] if scheme != "smtp" else []), "--mail-from", "big@example.org",
         "--mail-rcpt", "user@example.org", "--upload-file", str(message), f"{name}://{HOST}:{port}/client.test"])
    assert arrived(sink) == big_message()


@pytest.mark.parametrize("tls", ["", "--tls", "--tlsc"], ids=["plain", "starttls", "tls"])
def test_swaks(proxy: servers.Server, sink: Sink, user: str, message: Path, tls: str) -> None:
    message.write_bytes(big_message().replace(b"\r\n", b"\n"))
    port = proxy.port["submissions" if tls == "--tlsc" else "submission"]
    run(["swaks", "--server", HOST, "--port", str(port), "--auth", "LOGIN", "--auth-user", user, "--auth-password",
         servers.PASSWORD, "--from", "big@example.org", "--to", "user@example.org", "--data", f"@{message}", "--silent",
         "3", *([tls] if tls else [])])
    assert arrived(sink).rstrip(b"\r\n") == big_message().rstrip(b"\r\n")


@pytest.mark.parametrize("scheme", ["plain", "starttls", "tls"])
def test_msmtp(proxy: servers.Server, sink: Sink, authority: Authority, user: str, scheme: str) -> None:
    port = proxy.port["submissions" if scheme == "tls" else "submission"]
    tls = ["--tls=off"] if scheme == "plain" else \
        ["--tls=on", f"--tls-starttls={'on' if scheme == 'starttls' else 'off'}",
         f"--tls-trust-file={authority.authority}"]
    run(["msmtp", f"--host={HOST}", f"--port={port}", "--auth=plain", f"--user={user}",
         f"--passwordeval=echo {servers.PASSWORD}", "--from=big@example.org", *tls, "user@example.org"],
        stdin=big_message().replace(b"\r\n", b"\n"))
    assert arrived(sink) == big_message()


def test_bdat_and_pipelining_pass_through(proxy: servers.Server, sink: Sink, user: str) -> None:
    """Everything in one write behind AUTH: the backend gets it in one piece."""
    text = big_message()[:50_000]
    with smtplib.SMTP(HOST, proxy.port["submission"], timeout=TIMEOUT) as client:
        client.ehlo("client.test")
        client.login(user, servers.PASSWORD)
        assert client.sock is not None
        client.sock.sendall(b"MAIL FROM:<big@example.org>\r\nRCPT TO:<user@example.org>\r\nBDAT 1000\r\n" + text[:1000]
                            + b"BDAT %d LAST\r\n" % (len(text) - 1000) + text[1000:] + b"NOOP\r\n")
        assert [client.getreply()[0] for _ in range(5)] == [250] * 5
    assert arrived(sink).startswith(text)


def test_a_chain_of_proxies_forwards_the_client(proxy: servers.Server, mailproxy_server: Callable[..., servers.Server],
                                                authority: Authority, backend: servers.Server, sink: Sink,
                                                user: str) -> None:
    """proxy -> proxy -> Dovecot: the client's address and port stand in Dovecot's log."""
    pair = authority.issue(HOST)
    inner = mailproxy_server(PROXY.format(certificate=pair.certificate, key=pair.key, trusted="127.0.0.0/8",
                                          backend=backend.port["submission"], service_count=0), "submission")
    outer = mailproxy_server(PROXY.format(certificate=pair.certificate, key=pair.key, trusted="",
                                          backend=inner.port["submission"], service_count=0), "submission")
    with smtplib.SMTP(HOST, outer.port["submission"], timeout=TIMEOUT, source_address=("127.0.0.77", 0)) as client:
        client.login(user, servers.PASSWORD)
        client.sendmail("big@example.org", ["user@example.org"], _HEAD + b"hello\r\n")
    assert arrived(sink) == _HEAD + b"hello\r\n"
    servers.wait_until(lambda: f"user=<{user}>, method=PLAIN, rip=127.0.0.77" in backend.log_text(), 5.0)


def test_dots_survive_both_ways() -> None:
    """The two halves that the sink of these tests relies on."""
    writer, reader = DotWriter(), DotReader()
    assert reader.feed(writer.feed(big_message()) + writer.end()) == (big_message(), b"")
