"""Real POP3 and ManageSieve clients through the proxy to a real Dovecot: what they fetch and store is unchanged, and
the backend is told who the client is, also through two proxies."""
from __future__ import annotations

import base64
import itertools
import poplib
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.certificates import Authority
from tests.conftest import _make_short_dir
from tests.system.test_clients import HOST, TIMEOUT, big_message, run, tls_context

_LOGIN = """
service pop3-login {{
  service_count = {service_count}
  process_min_avail = 1
  inet_listener pop3 {{
    port = @pop3@
  }}
  inet_listener pop3s {{
    port = @pop3s@
    ssl = yes
  }}
}}
service managesieve-login {{
  service_count = {service_count}
  process_min_avail = 1
  inet_listener sieve {{
    port = @sieve@
  }}
}}
"""
BACKEND = servers.BACKEND.replace("= imap\n", "= pop3 sieve\n").partition("service imap-login")[0] + \
    _LOGIN.format(service_count=0).replace("@pop3s@", "0") + """
plugin {
  sieve = file:@dir@/mail/%u/sieve;active=@dir@/mail/%u/active.sieve
}
"""
PROXY = servers.HEAD.replace("protocols = imap\n", "protocols = pop3 sieve\n") + _LOGIN + """
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
disable_plaintext_auth = no
auth_mechanisms = plain login apop
login_trusted_networks = 127.0.0.0/8
mail_max_userip_connections = 0
ssl_cert = <{certificate}
ssl_key = <{key}
passdb {{
  driver = static
  args = password={{PLAIN}}secret pass=secret proxy=y host=127.0.0.1 port=%{{if;%s;eq;pop3;{pop3};{sieve}}}
}}
"""
SCRIPT = b'require ["fileinto"];\n# {5}\n# "quoted" \\\\ \xc3\xa4\nkeep;\n'
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def backend() -> Iterator[servers.Server]:
    path = _make_short_dir()
    (path / "mail").mkdir(mode=0o777)
    (path / "mail").chmod(0o777)
    server = servers.dovecot(BACKEND, path)
    try:
        server.wait("pop3", "sieve")
        yield server
    finally:
        server.stop()
        shutil.rmtree(path, ignore_errors=True)


def start(mailproxy_server: Callable[..., servers.Server], authority: Authority, behind: servers.Server, *,
          alone: bool = False) -> servers.Server:
    pair = authority.issue(HOST, "localhost")
    return mailproxy_server(PROXY.format(certificate=pair.certificate, key=pair.key, service_count=int(alone),
                                         pop3=behind.port["pop3"], sieve=behind.port["sieve"]),
                            "pop3", "pop3s", "sieve")


@pytest.fixture(params=["process for each", "shared processes"])
def proxy(request: pytest.FixtureRequest, mailproxy_server: Callable[..., servers.Server], authority: Authority,
          backend: servers.Server) -> servers.Server:
    return start(mailproxy_server, authority, backend, alone=request.param == "process for each")


@pytest.fixture
def user(backend: servers.Server) -> str:
    """A user of the test's own, with two messages."""
    name = f"user{next(_NUMBERS)}"
    new = backend.directory / "mail" / name / "new"
    for folder in (new, new.parent / "cur", new.parent / "tmp"):
        folder.mkdir(parents=True)
    for number, message in enumerate((b"Subject: small\r\n\r\n.hello\r\n", big_message())):
        (new / f"{number}.1.host").write_bytes(message)
    for path in (new.parent, *new.parent.rglob("*")):
        shutil.chown(path, "nobody", "nogroup")
    return name


def fetch_all(client: poplib.POP3) -> None:
    assert client.stat()[0] == 2
    fetched = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in (1, 2)]
    assert fetched == [b"Subject: small\r\n\r\n.hello\r\n", big_message()]
    client.dele(1)
    assert client.quit().startswith(b"+OK")


def test_poplib(proxy: servers.Server, user: str, authority: Authority) -> None:
    client = poplib.POP3(HOST, proxy.port["pop3"], timeout=TIMEOUT)
    assert "STLS" in client.capa()
    client.user(user)
    with pytest.raises(poplib.error_proto, match="Authentication failed"):
        client.pass_("wrong")
    client.stls(tls_context(authority))
    client.user(user)
    client.pass_(servers.PASSWORD)
    fetch_all(client)


def test_poplib_tls(proxy: servers.Server, user: str, authority: Authority) -> None:
    client = poplib.POP3_SSL(HOST, proxy.port["pop3s"], timeout=TIMEOUT, context=tls_context(authority))
    client.user(user)
    client.pass_(servers.PASSWORD)
    fetch_all(client)


def test_poplib_apop(proxy: servers.Server, user: str) -> None:
    client = poplib.POP3(HOST, proxy.port["pop3"], timeout=TIMEOUT)
    with pytest.raises(poplib.error_proto, match="Authentication failed"):
        client.apop(user, "wrong")
    client.apop(user, servers.PASSWORD)
    fetch_all(client)


@pytest.mark.parametrize("scheme", ["pop3", "pop3 with STLS", "pop3s"])
def test_curl(proxy: servers.Server, authority: Authority, user: str, scheme: str) -> None:
    name = scheme.partition(" ")[0]
    base = ["curl", "-sS", "--max-time", str(TIMEOUT), "--user", f"{user}:{servers.PASSWORD}",
            "--cacert", str(authority.authority), *(["--ssl-reqd"] if scheme != "pop3" else [])]
    assert len(run([*base, f"{name}://{HOST}:{proxy.port[name]}/"]).splitlines()) == 2
    assert run([*base, f"{name}://{HOST}:{proxy.port[name]}/2"]) == big_message()


def test_fetchmail(proxy: servers.Server, authority: Authority, user: str, short_dir: Path) -> None:
    delivered = short_dir / "delivered"
    rc = short_dir / "fetchmailrc"
    rc.write_text(f"""
poll {HOST} protocol pop3 port {proxy.port["pop3"]}
  user "{user}" password "{servers.PASSWORD}"
  sslproto "auto" sslcertck sslcommonname "localhost" sslcertfile "{authority.authority}"
  mda "cat >> {delivered}" fetchall nokeep
""")
    rc.chmod(0o600)
    run(["fetchmail", "--nosyslog", "--nodetach", "-f", str(rc), "--pidfile", str(short_dir / "pid")],
        env={"HOME": str(short_dir), "FETCHMAILHOME": str(short_dir)})
    # fetchmail adds its own headers and delivers lines that end in LF
    assert big_message().partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n") in delivered.read_bytes()
    assert delivered.read_bytes().count(b"Subject: ") == 2


def test_sieve_connect(proxy: servers.Server, authority: Authority, user: str, short_dir: Path) -> None:
    script, back = short_dir / "own.sieve", short_dir / "back.sieve"
    script.write_bytes(SCRIPT)
    base = ["sieve-connect", "--server", HOST, "--port", str(proxy.port["sieve"]), "--user", user, "--passwordfd", "0",
            "--tlscafile", str(authority.authority), "--noclearauth", "--nosrv"]

    def connect(*words: str) -> bytes:
        return run([*base, *words], servers.PASSWORD.encode() + b"\n")
    connect("--upload", "--localsieve", str(script), "--remotesieve", "own")
    connect("--activate", "--remotesieve", "own")
    assert b"own" in connect("--list")
    connect("--download", "--remotesieve", "own", "--localsieve", str(back))
    assert back.read_bytes() == SCRIPT


def sieve_lines(port: int, source: str, *commands: str) -> str:
    """What a plain client from this address hears."""
    with socket.create_connection((HOST, port), TIMEOUT, (source, 0)) as sock, sock.makefile("rwb") as stream:
        heard = ""
        for command in ("", *commands):
            if command:
                stream.write(command.encode() + b"\r\n")
                stream.flush()
            line = ""
            while not line.startswith(("OK", "NO", "BYE")):
                line = stream.readline().decode()
                assert line, heard
                heard += line
        return heard


def test_two_proxies_show_the_client_to_the_backend(mailproxy_server: Callable[..., servers.Server],
                                                    authority: Authority, backend: servers.Server, user: str) -> None:
    inner = start(mailproxy_server, authority, backend)
    outer = start(mailproxy_server, authority, inner)
    client = poplib.POP3(HOST, outer.port["pop3"], timeout=TIMEOUT)
    client.user(user)
    client.pass_(servers.PASSWORD)
    fetch_all(client)
    heard = sieve_lines(outer.port["sieve"], "127.0.0.44",
                        f'AUTHENTICATE "PLAIN" {{{len(plain(user))}+}}\r\n{plain(user)}', "LISTSCRIPTS", "LOGOUT")
    assert heard.splitlines()[-1].startswith("OK")
    servers.wait_until(lambda: all("rip=127.0.0.44" in server.log_text() for server in (inner, backend)),
                       what="the client's address in both logs")
    sessions = {line.partition("session=<")[2][:16] for line in backend.log_text().splitlines()
                if f"user=<{user}>" in line and "Login:" in line}
    assert sessions
    assert all(session in outer.log_text() for session in sessions)


def plain(user: str) -> str:
    return base64.b64encode(f"\0{user}\0{servers.PASSWORD}".encode()).decode()


def test_a_crowd_of_both(proxy: servers.Server, authority: Authority, user: str) -> None:
    """Twenty at the same time, with and without TLS."""
    problems: list[BaseException] = []
    context: ssl.SSLContext = tls_context(authority)

    def one(number: int) -> None:
        try:
            if number % 2:
                client: poplib.POP3 = poplib.POP3_SSL(HOST, proxy.port["pop3s"], timeout=TIMEOUT, context=context)
            else:
                client = poplib.POP3(HOST, proxy.port["pop3"], timeout=TIMEOUT)
            client.user(f"{user}-{number}")
            client.pass_(servers.PASSWORD)
            assert client.stat() == (0, 0)
            client.quit()
        except (OSError, AssertionError, poplib.error_proto) as problem:
            problems.append(problem)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not problems
