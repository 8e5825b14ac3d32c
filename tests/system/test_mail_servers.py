"""Other programs and our auth service, and our login workers and another's: they understand each other."""
from __future__ import annotations

import imaplib
import os
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import servers
from tests.component.auth.peer import plain

EXIM = servers.PROJECT / ".venv/debian/exim4-daemon-heavy/usr/sbin/exim4"
_WRAPPER = "libnss_wrapper.so"
_POSTFIX = "/usr/sbin/postfix"
#: An auth service whose socket everybody may use, as mail servers on the same machine do.
AUTH = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols =
listen = 127.0.0.1
log_path = @dir@/log
ssl = no
auth_mechanisms = plain login cram-md5
passdb {
  driver = passwd-file
  args = @dir@/users
}
service auth {
  unix_listener @dir@/private-auth {
    mode = 0666
  }
}
"""
USERS = "joe:{PLAIN}pw::::::userdb_x=1 fa=1\nann@ex.com:{PLAIN}geheim%\n"
MAIN_CF = """
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {socket}
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_delay_reject = no
mynetworks =
maillog_file = {dir}/log
maillog_file_prefixes = /tmp
alias_maps =
alias_database =
"""
MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""
EXIM_CONF = """
primary_hostname = exim.test
spool_directory = {dir}/spool
log_file_path = {dir}/%slog
auth_advertise_hosts = *
tls_advertise_hosts =
acl_smtp_rcpt = acl_rcpt
begin acl
acl_rcpt:
  accept authenticated = *
  deny
begin authenticators
plain:
  driver = dovecot
  public_name = PLAIN
  server_socket = {socket}
  server_set_id = $auth1
login:
  driver = dovecot
  public_name = LOGIN
  server_socket = {socket}
  server_set_id = $auth1
cram_md5:
  driver = dovecot
  public_name = CRAM-MD5
  server_socket = {socket}
  server_set_id = $auth1
"""


@contextmanager
def running(start: Callable[[str, Path], servers.Server], text: str, files: dict[str, str],
            *ports: str) -> Iterator[servers.Server]:
    """In a directory that other users can enter."""
    with tempfile.TemporaryDirectory(prefix="mp-mail-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for path, content in files.items():
            (directory / path).write_text(content)
        server = start(text, directory)
        try:
            server.wait(*ports)
            yield server
        finally:
            problems = server.stop()
        assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def auth_socket() -> Iterator[Path]:
    with running(servers.mailproxy, AUTH, {"users": USERS}) as server:
        path = server.directory / "private-auth"
        servers.wait_until(path.exists)
        yield path


@pytest.fixture(scope="module")
def postfix(auth_socket: Path) -> Iterator[int]:
    """The port of its SMTP server."""
    assert Path(_POSTFIX).exists(), "Postfix is needed for this test: install postfix"
    port = servers.free_port()
    with tempfile.TemporaryDirectory(prefix="mp-postfix-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for each in ("conf", "queue", "data"):
            (directory / each).mkdir()
        shutil.chown(directory / "data", "postfix")
        (directory / "conf" / "main.cf").write_text(MAIN_CF.format(dir=directory, socket=auth_socket))
        (directory / "conf" / "master.cf").write_text(MASTER_CF.format(port=port))
        process = subprocess.Popen([_POSTFIX, "-c", str(directory / "conf"), "start-fg"], stdin=subprocess.DEVNULL)
        try:
            servers.wait_until(lambda: servers.answers(port, False), servers.START_TIMEOUT, "Postfix' greeting")
            yield port
        finally:
            process.terminate()
            process.wait(servers.STOP_TIMEOUT)


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login", "auth_cram_md5"])
@pytest.mark.parametrize(("user", "password"), [("joe", "pw"), ("Ann@Ex.COM", "geheim%")])
def test_clients_of_postfix(postfix: int, mechanism: str, user: str, password: str) -> None:
    with smtplib.SMTP(servers.HOST, postfix, timeout=20) as client:
        client.ehlo()
        assert set(client.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN", "CRAM-MD5"}
        client.user, client.password = user, "wrong"
        word = mechanism[5:].upper().replace("_", "-")
        with pytest.raises(smtplib.SMTPException):
            client.auth(word, getattr(client, mechanism))
        client.password = password
        assert client.auth(word, getattr(client, mechanism))[0] == 235
        assert client.mail("a@b.example")[0] == 250
        assert client.rcpt("c@d.example")[0] == 250


def test_nobody_relays_over_postfix_without_a_login(postfix: int) -> None:
    with smtplib.SMTP(servers.HOST, postfix, timeout=20) as client:
        client.ehlo()
        client.mail("a@b.example")
        assert client.rcpt("c@d.example")[0] in (454, 554)


@pytest.fixture(scope="module")
def exim(auth_socket: Path) -> Iterator[Callable[[list[str]], list[str]]]:
    """A session of its SMTP server with a client at 10.0.0.1: commands in, replies out."""
    assert EXIM.exists(), f"Exim is needed for this test: packaging/unpacked .venv/debian {EXIM.parts[-4]}"
    with tempfile.TemporaryDirectory(prefix="mp-exim-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        conf = directory / "exim.conf"
        conf.write_text(EXIM_CONF.format(dir=directory, socket=auth_socket))
        # it looks for its own user before it reads anything, and is not installed here
        (directory / "passwd").write_text("".join(f"{name}:x:{number}:{number}::/:/bin/false\n" for name, number in (
            ("root", 0), ("mail", 8), ("nobody", 65534), ("Debian-exim", 65534))))
        (directory / "group").write_text("root:x:0:\nmail:x:8:\nnogroup:x:65534:\nDebian-exim:x:65534:\n")
        env = {**os.environ, "LD_PRELOAD": _WRAPPER, "NSS_WRAPPER_PASSWD": str(directory / "passwd"),
               "NSS_WRAPPER_GROUP": str(directory / "group")}

        def session(commands: list[str]) -> list[str]:
            done = subprocess.run([EXIM, "-C", conf, "-bh", "10.0.0.1"], input="\r\n".join([*commands, "QUIT", ""]),
                                  capture_output=True, text=True, env=env, timeout=30, check=False)
            assert done.returncode == 0, done.stderr
            return [line for line in done.stdout.splitlines() if line[:3].isdigit()]
        yield session


def test_clients_of_exim(exim: Callable[[list[str]], list[str]]) -> None:
    replies = exim(["EHLO x", f"AUTH PLAIN {plain('joe', 'bad')}", f"AUTH PLAIN {plain('joe', 'pw')}",
                    "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>"])
    assert "250-AUTH PLAIN LOGIN CRAM-MD5" in replies
    assert [reply[:3] for reply in replies[-5:]] == ["535", "235", "250", "250", "221"]


def test_clients_of_exim_that_are_asked(exim: Callable[[list[str]], list[str]]) -> None:
    """LOGIN; PLAIN without its message; a message that is no base64; an exchange that is given up."""
    replies = exim(["EHLO x", "AUTH PLAIN", "*", "AUTH LOGIN", "am9l", "cHc=", "RSET"])
    assert [reply[:3] for reply in replies[-6:]] == ["501", "334", "334", "235", "250", "221"]
    assert exim(["EHLO x", "AUTH PLAIN", plain("joe", "pw")])[-2][:3] == "235"
    assert exim(["EHLO x", "AUTH PLAIN ?"])[-2][:1] == "5"
    assert exim(["EHLO x", "RCPT TO:<c@d.example>"])[-2][:1] == "5"


# -- login processes and auth services of two makes -------------------------------------------------------------------

#: The half that logs clients in: no auth of its own, that of the other half listens in its directory.
_LOGIN_HALF = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
passdb {
  driver = static
}
service auth {
  unix_listener login/login {
    mode = 0
  }
}
service imap-login {
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""
_AUTH_HALF = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols =
listen = 127.0.0.1
log_path = @dir@/log
ssl = no
auth_mechanisms = plain login
passdb {
  driver = static
  args = password=secret proxy=y host=127.0.0.1 port=BACKEND destuser=%u user=%n
}
service auth {
  unix_listener PLACE/run/login/login {
    mode = 0666
  }
}
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    with running(servers.dovecot, servers.BACKEND, {}, "imap") as server:
        yield server.port["imap"]


@pytest.mark.parametrize(("login", "auth"), [(servers.dovecot, servers.mailproxy),
                                             (servers.mailproxy, servers.dovecot)], ids=["their-login", "our-login"])
def test_login_processes_with_the_auth_service_of_the_other_make(
        login: Callable[[str, Path], servers.Server], auth: Callable[[str, Path], servers.Server],
        backend: int) -> None:
    with running(login, _LOGIN_HALF, {}) as front:
        socket_directory = front.directory / "run" / "login"
        servers.wait_until(socket_directory.is_dir)
        text = _AUTH_HALF.replace("PLACE", str(front.directory)).replace("BACKEND", str(backend))
        with running(auth, text, {}):
            servers.wait_until((socket_directory / "login").exists)
            front.wait("imap")
            with imaplib.IMAP4(servers.HOST, front.port["imap"], timeout=20) as client:
                with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                    client.login("joe@ex.com", "wrong")
                assert client.login("joe@ex.com", servers.PASSWORD)[0] == "OK"
                assert client.noop()[0] == "OK"
            with imaplib.IMAP4(servers.HOST, front.port["imap"], timeout=20) as client:
                assert client.authenticate("PLAIN", lambda _: f"\0ann\0{servers.PASSWORD}".encode())[0] == "OK"


_OURS_FOR_MAIL = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols =
listen = 127.0.0.1
log_path = @dir@/log
ssl = no
auth_mechanisms = plain login
auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = @dir@/masters
  master = yes
  pass = yes
}
passdb {
  driver = static
  args = password=secret userdb_from_passdb=1
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=PLACE/mail/%u
}
service auth {
  unix_listener PLACE/run/login/login {
    mode = 0666
  }
  unix_listener PLACE/run/auth-master {
    mode = 0666
  }
}
"""
_MAIL_HALF = servers.BACKEND + """
service auth {
  unix_listener login/login {
    mode = 0
  }
  unix_listener auth-master {
    mode = 0
  }
}
"""


def test_dovecots_mail_processes_behind_our_auth() -> None:
    """Logged in by their imap-login, looked up by their imap: all of it is asked of us."""
    with running(servers.dovecot, _MAIL_HALF, {}) as front:
        (front.directory / "mail").mkdir()
        shutil.chown(front.directory / "mail", "nobody")
        servers.wait_until((front.directory / "run" / "login").is_dir)
        text = _OURS_FOR_MAIL.replace("PLACE", str(front.directory))
        with running(servers.mailproxy, text, {"masters": "admin:{PLAIN}mpw\n"}):
            servers.wait_until((front.directory / "run" / "login" / "login").exists)
            front.wait("imap")
            with imaplib.IMAP4(servers.HOST, front.port["imap"], timeout=20) as client:
                with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                    client.login("joe", "wrong")
                client.login("Joe", servers.PASSWORD)
                assert client.create("of-joe")[0] == "OK"
                assert (front.directory / "mail" / "joe").is_dir()
            with imaplib.IMAP4(servers.HOST, front.port["imap"], timeout=20) as client:
                client.login("joe*admin", "mpw")
                assert any(b"of-joe" in line for line in client.list()[1] if isinstance(line, bytes))
