"""Users who are not proxied: Dovecot's own mail programs, started by our master, take them over from our logins."""
from __future__ import annotations

import base64
import contextlib
import imaplib
import os
import poplib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.certificates import Authority

FAKE = Path(__file__).parents[2] / "fakes" / "mail_process.py"
Start = Callable[..., servers.Server]
PLAIN = base64.b64encode(b"\0alice\0secret")
TEXT = servers.HEAD.replace("protocols = imap", "protocols = imap pop3 submission sieve") + """
hostname = proxy.test
log_timestamp =
disable_plaintext_auth = no
ssl = yes
ssl_cert = <@dir@/cert.pem
ssl_key = <@dir@/key.pem
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
first_valid_uid = 1
mail_location = maildir:~/Maildir
submission_relay_host = 127.0.0.1
submission_relay_port = @relay@
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=@dir@/mail/%u
}
service imap-login {
  LOGINS
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = @imaps@
  }
}
service pop3-login {
  inet_listener pop3 {
    port = @pop@
  }
  inet_listener pop3s {
    port = 0
  }
}
service submission-login {
  inet_listener submission {
    port = @submission@
  }
}
service managesieve-login {
  inet_listener sieve {
    port = @sieve@
  }
}
"""


@pytest.fixture
def home(short_dir: Path, authority: Authority) -> Path:
    """What the servers of these tests need: a certificate, and room for mail."""
    (short_dir / "mail").mkdir()
    (short_dir / "mail").chmod(0o777)
    pair = authority.issue("localhost")
    shutil.copy(pair.certificate, short_dir / "cert.pem")
    shutil.copy(pair.key, short_dir / "key.pem")
    return short_dir


@pytest.fixture
def serve(mailproxy_server: Start, home: Path) -> Callable[..., servers.Server]:
    def start(more: str = "", logins: str = "") -> servers.Server:
        text = TEXT.replace("@dir@/mail", f"{home}/mail").replace("@dir@/cert", f"{home}/cert") \
            .replace("@dir@/key", f"{home}/key").replace("LOGINS", logins)
        return mailproxy_server(text + more, "imap", "pop", "sieve")
    return start


@pytest.fixture
def fake(short_dir: Path) -> Path:
    """A mail process that does as it is told."""
    path = short_dir / "fake"
    shutil.copy(FAKE, path)
    path.chmod(0o755)
    return path


def logged(server: servers.Server, pattern: str) -> re.Match[str]:
    servers.wait_until(lambda: re.search(pattern, server.log_text(), re.MULTILINE) is not None, what=pattern)
    found = re.search(pattern, server.log_text(), re.MULTILINE)
    assert found is not None
    return found


def mpadm(server: servers.Server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(servers.PROJECT / "master.py"), "-c", str(server.conf), *words],
                          capture_output=True, text=True, timeout=30, check=False)


@contextlib.contextmanager
def talk(port: int, *, tls: bool = False) -> Iterator[Callable[[bytes], bytes]]:
    """say(bytes) -> what comes within a moment; b"" at the end."""
    with socket.create_connection((servers.HOST, port), 20) as raw:
        context = ssl._create_unverified_context()
        with context.wrap_socket(raw) if tls else raw as sock:
            sock.settimeout(20)
            sock.recv(4096)

            def say(words: bytes) -> bytes:
                if words:
                    sock.sendall(words)
                return sock.recv(65536)
            yield say


def test_mail_is_read_and_written(serve: Callable[..., servers.Server]) -> None:
    server = serve()
    with imaplib.IMAP4(servers.HOST, server.port["imap"]) as imap:
        assert imap.login("alice", "secret") == ("OK", [b"Logged in"])
        imap.append("INBOX", "", "", b"Subject: one\r\n\r\nhello\r\n")
        pid = int(logged(server, r"^imap-login: Info: Login: user=<alice>, method=PLAIN, rip=127\.0\.0\.1, "
                                 r"lip=127\.0\.0\.1, mpid=(\d+), secured, session=<\S+>$")[1])
        assert psutil.Process(pid).name() == "imap"
        assert psutil.Process(pid).uids().effective == 65534
        # the login process has nothing to do with it any more
        servers.wait_until(lambda: not any("imap-login" in " ".join(child.cmdline()) for child in server.children()))
        context = ssl._create_unverified_context()
        with imaplib.IMAP4_SSL(servers.HOST, server.port["imaps"], ssl_context=context) as other:
            other.login("alice", "secret")
            assert other.select() == ("OK", [b"1"])
            assert other.fetch("1", "(BODY[TEXT])")[1][0][1] == b"hello\r\n"  # type: ignore[index]
            logged(server, r"^imap-login: Info: Login: user=<alice>, method=PLAIN, .*, mpid=\d+, TLS, session=<\S+>$")
            _, row = mpadm(server, "who").stdout.splitlines()
            assert row.split()[:3] == ["alice", "2", "imap"]
            assert str(pid) in row
    pop = poplib.POP3(servers.HOST, server.port["pop"])
    pop.user("alice")
    assert pop.pass_("secret") == b"+OK Logged in."
    assert pop.stat()[0] == 1
    pop.quit()
    logged(server, r"^pop3\(alice\)<\d+><\S+>: Info: Disconnected: Logged out")
    servers.wait_until(lambda: "alice" not in mpadm(server, "who").stdout)
    log = server.log_text()
    assert "Error" not in log
    assert "Warning" not in log


def test_scripts_and_submission(serve: Callable[..., servers.Server]) -> None:
    relay = socket.create_server((servers.HOST, 0))
    server = serve(f"submission_relay_port = {relay.getsockname()[1]}\n")
    with talk(server.port["sieve"]) as say:
        assert b'OK "Logged in.' in say(b'AUTHENTICATE "PLAIN" "%b"\r\n' % PLAIN)
        assert say(b"LISTSCRIPTS\r\n").startswith(b"OK ")
    with talk(server.port["submission"]) as say:
        say(b"EHLO client.test\r\n")
        assert say(b"AUTH PLAIN " + PLAIN + b"\r\n") == b"235 2.7.0 Logged in.\r\n"
        connection, _ = relay.accept()
        connection.sendall(b"220 relay.test ESMTP\r\n")
        assert b"EHLO" in connection.recv(4096)
        connection.close()
    relay.close()
    logged(server, r"^submission-login: Info: Login: user=<alice>, method=PLAIN, ")


@pytest.mark.parametrize("tls", [False, True])
def test_what_was_said_too_early_arrives(serve: Callable[..., servers.Server], tls: bool) -> None:
    """Behind the login command, more of it than a hand-off holds, in one packet or in the middle of a command."""
    server = serve()
    for many in (1, 300):
        with talk(server.port["imaps" if tls else "imap"], tls=tls) as say:
            got = say(b"c CAPABILITY\r\na LOGIN alice secret\r\n"
                      + b"".join(b"n%d NOOP\r\n" % number for number in range(many)) + b"z LOG")
            while b"n%d OK" % (many - 1) not in got:
                got += say(b"")
            got += say(b"OUT\r\n")
            while b"z OK" not in got:
                got += say(b"")
        assert re.search(rb"\* CAPABILITY IMAP4rev1 [^\r]*UIDPLUS[^\r]*\r\na OK Logged in\r\n", got)


def test_post_login_script(serve: Callable[..., servers.Server], short_dir: Path) -> None:
    script = short_dir / "postlogin"
    script.write_text(f"#!/bin/sh\nenv > {short_dir}/mail/seen-$USER\n"
                      "[ \"$USER\" = eve ] && exit 1\n"
                      "printf '* OK [ALERT] hello\\r\\n'\nexec \"$@\"\n")
    script.chmod(0o755)
    server = serve(f"""
service imap {{
  executable = imap imap-postlogin
}}
service imap-postlogin {{
  executable = script-login {script}
  user = nobody
  unix_listener imap-postlogin {{
  }}
}}
""")
    with talk(server.port["imap"]) as say:
        got = say(b"a LOGIN alice secret\r\n")
        while b"a OK" not in got:
            got += say(b"")
        assert got.startswith(b"* OK [ALERT] hello\r\n")
    seen = dict(line.split("=", 1) for line in (short_dir / "mail" / "seen-alice").read_text().splitlines())
    assert (seen["IP"], seen["HOME"], seen["AUTH_MECH"]) == (servers.HOST, f"{short_dir}/mail/alice", "PLAIN")
    with talk(server.port["imap"]) as say:
        assert say(b"a LOGIN eve secret\r\n") == b""
    logged(server, r"^imap\(eve\): Error: Post-login script denied access to user eve")


def test_too_many_from_one_address(serve: Callable[..., servers.Server]) -> None:
    server = serve("mail_max_userip_connections = 1\n")
    why = b"Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)\r\n"
    with contextlib.ExitStack() as stack:
        for port, login, refusal in (
                ("imap", [b"a LOGIN alice secret\r\n"], b"a NO [LIMIT] " + why),
                ("pop", [b"USER alice\r\n", b"PASS secret\r\n"], b"-ERR [IN-USE] " + why),
                ("sieve", [b'AUTHENTICATE "PLAIN" "%b"\r\n' % PLAIN], b'NO "%b"\r\n' % why[:-2])):
            for number in range(2):
                say = stack.enter_context(talk(server.port[port]))
                answer = [say(line) for line in login][-1]
                assert (answer == refusal) is (number == 1), answer
                if not number:
                    servers.wait_until(lambda: "alice" in mpadm(server, "who").stdout)
            assert say(b"") == b""
    logged(server, r"^imap-login: Info: Disconnected: Maximum number of connections from user\+IP exceeded "
                   r"\(mail_max_userip_connections=1\): user=<alice>, method=PLAIN, rip=127\.0\.0\.1, "
                   r"lip=127\.0\.0\.1, secured, session=<\S+>$")


def test_who_dies_is_not_counted_and_who_is_kicked_hears_of_it(serve: Callable[..., servers.Server]) -> None:
    server = serve()
    with talk(server.port["imap"]) as one, talk(server.port["imaps"], tls=True) as two:
        one(b"a LOGIN alice secret\r\n")
        two(b"a LOGIN bob secret\r\n")
        assert mpadm(server, "kick", "nobody").returncode == 68
        assert mpadm(server, "kick").returncode == 64
        kicked = mpadm(server, "kick", "bo?")
        assert (kicked.returncode, kicked.stdout) == (0, "kicked connections from the following users:\nbob\n")
        assert two(b"").startswith(b"* BYE Server shutting down.")
        os.kill(int(logged(server, r"user=<alice>.*mpid=(\d+)")[1]), signal.SIGKILL)
        assert one(b"") == b""
        servers.wait_until(lambda: "alice" not in mpadm(server, "who").stdout)
    logged(server, r"^imap: Fatal: master: service\(imap\): child \d+ killed with signal 9$")


@pytest.mark.parametrize("tls", [False, True])
def test_mail_processes_that_fail(serve: Callable[..., servers.Server], fake: Path, tls: bool) -> None:
    """The client hears of it, and the log has Dovecot's words."""
    server = serve("".join(f"service {name} {{\n  executable = {fake}\n}}\n"
                           for name in ("imap", "pop3", "managesieve", "submission")))
    port = server.port["imaps" if tls else "imap"]
    with talk(port, tls=tls) as say:
        assert say(b"a LOGIN die secret\r\n").startswith(
            b"a NO [UNAVAILABLE] Internal login failure. Refer to server log for more information. [")
        assert say(b"") == b""
    logged(server, r"^imap-login: Error: master\(imap\): read\(\) failed: Remote closed connection \(destination "
                   r"service \{ process_limit \} reached\?\) \(client-pid=\d+, client-id=1, rip=127\.0\.0\.1, created "
                   r"\d+ msecs ago, received 0/12 bytes\)$")
    logged(server, r"^imap-login: Info: Disconnected: Internal login failure \(pid=\d+ id=1\): user=<die>, "
                   r"method=PLAIN, rip=127\.0\.0\.1, lip=127\.0\.0\.1, (secured|TLS), session=<\S+>$")
    with talk(port, tls=tls) as say:
        assert say(b"a LOGIN refuse secret\r\n") == b"refused\r\n"
        assert say(b"") == b""
    logged(server, r"Internal login failure \(pid=\d+ id=1\): user=<refuse>, .*, mpid=\d+, ")
    with talk(port, tls=tls) as say:
        assert say(b"a LOGIN half secret\r\n").startswith(b"a NO [UNAVAILABLE]")
    logged(server, r"received 3/12 bytes")
    if not tls:
        with talk(server.port["submission"]) as say:
            say(b"EHLO x\r\n")
            assert say(b"AUTH PLAIN " + base64.b64encode(b"\0die\0secret") + b"\r\n").startswith(b"454 4.7.0 Internal")
        logged(server, r"^submission-login: Info: Disconnected: Internal login failure\. Refer to server log for more "
                       r"information\. \(unfinished AUTH command\) \(internal failure, 1 successful auths\): "
                       r"user=<die>")
        with talk(server.port["submission"]) as say:
            say(b"EHLO client.test\r\n")
            assert say(b"AUTH PLAIN " + base64.b64encode(b"\0echo\0secret") + b"\r\nNOOP\r\n").partition(b"\0")[2] == (
                b"client.test\0client.test\0NOOP\r\n")


def test_a_worker_of_many_relays_and_lets_go(serve: Callable[..., servers.Server]) -> None:
    """TLS sessions stay in the worker, others leave it; a reload leaves both alone."""
    server = serve(logins="service_count = 0\n  process_min_avail = 1\n")
    with talk(server.port["imap"]) as plain, talk(server.port["imaps"], tls=True) as tls:
        plain(b"a LOGIN alice secret\r\n")
        tls(b"a LOGIN bob secret\r\n")
        logins = [child for child in server.children() if "imap-login" in " ".join(child.cmdline())]
        assert len(logins) == 1
        assert len(logins[0].net_connections("tcp")) == 3       # two listeners and the TLS client
        server.reload()
        logged(server, "Configuration reloaded")
        time.sleep(1.2)                                         # whoever is cut is cut within a second
        assert plain(b"b NOOP\r\n").startswith(b"b OK")
        assert tls(b"b NOOP\r\n").startswith(b"b OK")
        assert tls(b"c LOGOUT\r\n").startswith(b"* BYE")
        logins[0].wait(5)
    assert "Panic" not in server.log_text()


def test_nobody_takes_them(serve: Callable[..., servers.Server], short_dir: Path) -> None:
    server = serve("service imap {\n  executable = nosuch\n}\n"
                   "service pop3 {\n  unix_listener login/pop3 {\n    mode = 0\n  }\n}\n"
                   "service managesieve {\n  unix_listener login/sieve {\n    mode = 0\n  }\n}\n"
                   f"service other {{\n  executable = {short_dir}/other\n  unix_listener login/sieve {{\n  }}\n}}\n"
                   if (short_dir / "other").symlink_to("/bin/true") is None else "")
    log = server.log_text()
    assert re.search(r"Warning: Users who are not proxied can't log in: there is no mail service for .*imap "
                     r"\(access\(\S+/nosuch\) failed: No such file or directory\)", log)
    assert "pop3 (no service listens on login/pop3)" in log
    assert "service(managesieve): no login reaches it, it does not listen on login/sieve" in log
    with talk(server.port["imap"]) as say:
        assert say(b"a LOGIN alice secret\r\n").startswith(b"a NO [UNAVAILABLE] Internal login failure.")
        assert say(b"b NOOP\r\n").startswith(b"b OK")
    logged(server, r"^imap-login: Error: Login is not proxied, and there is no local mail service: user=<alice>")
