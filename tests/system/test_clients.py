"""Real mail clients through the proxy to a real Dovecot backend: what they list, store and fetch is unchanged."""
from __future__ import annotations

import imaplib
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import servers
from tests.certificates import Authority

PROXY = servers.HEAD + """
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_max_userip_connections = 0
ssl_cert = <{certificate}
ssl_key = <{key}
passdb {{
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1 port={backend}
}}
service imap-login {{
  service_count = {service_count}
  process_min_avail = 1
  client_limit = {client_limit}
  inet_listener imap {{
    port = @imap@
  }}
  inet_listener imaps {{
    port = @imaps@
    ssl = yes
  }}
}}
"""
HOST = servers.HOST
#: Bytes of the big message; its lines hold what a proxy might be tempted to touch.
BIG = 1_000_000
TIMEOUT = 30


def big_message() -> bytes:
    head = b"From: big@example.org\r\nTo: user@example.org\r\nSubject: big\r\nMessage-ID: <big@example.org>\r\n\r\n"
    line = b". A1 OK {7} * BYE \t\x01\x7f\xc3\xa9\xff" + bytes(range(32, 127)) + b"\r\n"
    return head + line * ((BIG - len(head)) // len(line) + 1)


def tls_context(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.authority))


@pytest.fixture(params=["process for each", "shared processes"])
def proxy(request: pytest.FixtureRequest, mailproxy_server: Callable[..., servers.Server], authority: Authority,
          real_dovecot_backend: servers.Server) -> servers.Server:
    """The proxy in both of its modes."""
    pair = authority.issue(HOST, "localhost")      # old clients look for an address in the common name
    alone = request.param == "process for each"
    return mailproxy_server(PROXY.format(
        certificate=pair.certificate, key=pair.key, backend=real_dovecot_backend.port["imap"],
        service_count=1 if alone else 0, client_limit=1 if alone else 100), "imap", "imaps")


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user name of the test's own: its mailbox is empty."""
    return "".join(char if char.isalnum() else "-" for char in request.node.name).lower()


def run(argv: list[str], stdin: bytes = b"", env: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=TIMEOUT, check=False,
                          env={**os.environ, **env} if env else None)
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}:\n{done.stdout!r}\n{done.stderr!r}"
    return done.stdout


def list_append_fetch(client: imaplib.IMAP4) -> None:
    """The work of a session: folders, a small message, a big one, unchanged."""
    assert client.create('"Folder &AOk-"')[0] == "OK"
    assert any(b"Folder &AOk-" in row for row in client.list()[1] if isinstance(row, bytes))
    small, big = b"Subject: small\r\n\r\nhello\r\n", big_message()
    for message in (small, big):
        assert client.append("INBOX", "", "", message)[0] == "OK"
    assert client.select("INBOX") == ("OK", [b"2"])
    for number, message in enumerate((small, big), 1):
        status, answer = client.fetch(str(number), "(BODY.PEEK[])")
        assert status == "OK"
        assert isinstance(answer[0], tuple)
        assert answer[0][1] == message
    assert client.logout()[0] == "BYE"


def test_imaplib_login(proxy: servers.Server, user: str) -> None:
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    client.login(user, servers.PASSWORD)
    list_append_fetch(client)


def test_imaplib_authenticate(proxy: servers.Server, user: str) -> None:
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    client.authenticate("PLAIN", lambda _: f"\0{user}\0{servers.PASSWORD}".encode())
    list_append_fetch(client)


def test_imaplib_starttls(proxy: servers.Server, authority: Authority, user: str) -> None:
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    client.starttls(tls_context(authority))
    client.login(user, servers.PASSWORD)
    list_append_fetch(client)


def test_imaplib_tls(proxy: servers.Server, authority: Authority, user: str) -> None:
    client = imaplib.IMAP4_SSL(HOST, proxy.port["imaps"], ssl_context=tls_context(authority), timeout=TIMEOUT)
    client.login(user, servers.PASSWORD)
    list_append_fetch(client)


def test_imaplib_wrong_password_then_right_one(proxy: servers.Server, user: str) -> None:
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    with pytest.raises(imaplib.IMAP4.error, match=r"AUTHENTICATIONFAILED"):
        client.login(user, "wrong")
    client.login(user, servers.PASSWORD)
    assert client.select("INBOX") == ("OK", [b"0"])
    client.logout()


@pytest.mark.parametrize("scheme", ["imap", "imap with STARTTLS", "imaps"])
def test_curl(proxy: servers.Server, authority: Authority, user: str, tmp_path: Path, scheme: str) -> None:
    name = scheme.partition(" ")[0]
    url = f"{name}://{HOST}:{proxy.port[name]}"
    base = ["curl", "-sS", "--max-time", str(TIMEOUT), "--user", f"{user}:{servers.PASSWORD}",
            "--cacert", str(authority.authority), *(["--ssl-reqd"] if scheme != "imap" else [])]
    message = tmp_path / "message"
    message.write_bytes(big_message())
    assert b"INBOX" in run([*base, f"{url}/"])
    run([*base, "--upload-file", str(message), f"{url}/INBOX"])
    assert run([*base, f"{url}/INBOX;MAILINDEX=1"]) == message.read_bytes()


def test_mbsync(proxy: servers.Server, authority: Authority, user: str, short_dir: Path) -> None:
    store = short_dir / "mail"
    for folder in ("cur", "new", "tmp"):
        (store / "INBOX" / folder).mkdir(parents=True)
    message = big_message()
    # mbsync keeps LF in its own files and sends CRLF
    (store / "INBOX" / "new" / "1.1.local").write_bytes(message.replace(b"\r\n", b"\n"))
    conf = short_dir / "mbsyncrc"
    conf.write_text(f"""
IMAPAccount proxy
Host {HOST}
Port {proxy.port["imaps"]}
User {user}
Pass {servers.PASSWORD}
SSLType IMAPS
CertificateFile {authority.authority}
Timeout {TIMEOUT}

IMAPStore far
Account proxy

MaildirStore near
Path {store}/
Inbox {store}/INBOX

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Both
SyncState *
""")
    env = {"HOME": str(short_dir)}
    run(["mbsync", "-c", str(conf), "all"], env=env)
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    client.login(user, servers.PASSWORD)
    assert client.select("INBOX") == ("OK", [b"1"])
    stored = client.fetch("1", "(BODY.PEEK[TEXT])")[1][0]
    assert isinstance(stored, tuple)
    assert stored[1] == message.partition(b"\r\n\r\n")[2]
    client.append("INBOX", "", "", b"Subject: from afar\r\n\r\nhello\r\n")
    client.logout()
    run(["mbsync", "-c", str(conf), "all"], env=env)
    near = [path.read_bytes() for folder in ("new", "cur") for path in (store / "INBOX" / folder).iterdir()]
    assert len(near) == 2
    assert any(b"Subject: from afar" in text for text in near)


def test_fetchmail(proxy: servers.Server, authority: Authority, user: str, short_dir: Path) -> None:
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    client.login(user, servers.PASSWORD)
    message = big_message()
    client.append("INBOX", "", "", message)
    client.logout()
    delivered = short_dir / "delivered"
    rc = short_dir / "fetchmailrc"
    rc.write_text(f"""
poll {HOST} protocol imap port {proxy.port["imap"]}
  user "{user}" password "{servers.PASSWORD}"
  sslproto "auto" sslcertck sslcommonname "localhost" sslcertfile "{authority.authority}"
  mda "cat > {delivered}" fetchall nokeep
""")
    rc.chmod(0o600)
    run(["fetchmail", "--nosyslog", "--nodetach", "-f", str(rc), "--pidfile", str(short_dir / "pid")],
        env={"HOME": str(short_dir), "FETCHMAILHOME": str(short_dir)})
    # fetchmail adds its own headers and delivers lines that end in LF
    body = delivered.read_bytes().partition(b"\n\n")[2].replace(b"\r\n", b"\n")
    assert body.rstrip(b"\n") == message.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n").rstrip(b"\n")
    client = imaplib.IMAP4(HOST, proxy.port["imap"], timeout=TIMEOUT)
    client.login(user, servers.PASSWORD)
    assert client.select("INBOX") == ("OK", [b"0"])
    client.logout()
