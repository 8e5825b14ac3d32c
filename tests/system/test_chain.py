"""Client, proxy, proxy, Dovecot, in all five protocols: the last one sees the client's address, variables that the
first proxy's passdb says steer the second one's, and what is said by whom nobody trusts changes nothing."""
from __future__ import annotations

import base64
import contextlib
import imaplib
import poplib
import re
import shutil
import smtplib
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.servers import HOST, Server, wait_until

#: Nobody trusts it; everything else comes from 127.0.0.1.
CLIENT = "127.0.0.66"
ALL = """
protocols = imap pop3 sieve submission lmtp
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_verbose = yes
auth_failure_delay = 0
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
login_trusted_networks = 127.0.0.1
hostname = SIDE.test
service imap-login {
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = @pop3@
  }
  inet_listener pop3s {
    port = 0
  }
}
service managesieve-login {
  inet_listener sieve {
    port = @sieve@
  }
}
service submission-login {
  inet_listener submission {
    port = @submission@
  }
  inet_listener submissions {
    port = 0
  }
}
service lmtp {
  inet_listener lmtp {
    port = @lmtp@
  }
}
"""
LAST = """
first_valid_uid = 1
mail_max_userip_connections = 0
mail_location = maildir:@dir@/mail/%u
mail_uid = nobody
mail_gid = nogroup
postmaster_address = postmaster@last.test
submission_relay_host = 127.0.0.1
submission_relay_port = 1
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=@dir@/mail/%u allow_all_users=yes
}
"""
PROXY = """
lmtp_proxy = yes
passdb {
  driver = passwd-file
  args = @dir@/users.%s
}
"""
NAMES = ("imap", "pop3", "sieve", "submission", "lmtp")


class Chain:
    def __init__(self, front: Server, middle: Server, last: Server) -> None:
        self.front, self.middle, self.last = front, middle, last


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with contextlib.ExitStack() as stack:
        def directory() -> Path:
            path = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
            path.chmod(0o755)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            return path

        problems: list[str] = []

        def run(side: Callable[[str, Path], Server], text: str, name: str, ports: dict[str, int],
                fields: str) -> Server:
            place = directory()
            if name == "last":
                (place / "mail").mkdir()
                (place / "mail").chmod(0o777)
            for protocol, port in ports.items():        # each has its own port there, so each has users of its own
                (place / f"users.{protocol}").write_text(f"u:{{PLAIN}}secret::::::proxy=y host=127.0.0.1 port={port} "
                                                         f"{fields}\n")
            server = side(servers.HEAD.replace("protocols = imap\n", "") + ALL.replace("SIDE", name) + text, place)
            # Dovecot's mail processes may outlive it for a moment
            stack.callback(lambda: problems.extend([] if name == "last" and server.stop() else server.stop()))
            server.wait(*NAMES)
            return server

        last = run(servers.dovecot, LAST, "last", {}, "")
        # the user is named by what the front says of him, or else as he is
        middle = run(servers.mailproxy, PROXY, "middle", last.port,
                     "destuser=%n.%{passdb:forward_token}@%{passdb:forward_site}")
        front = run(servers.mailproxy, PROXY, "front", middle.port, "forward_token=abc forward_site=site.test")
        yield Chain(front, middle, last)
    assert not problems


def _raw(port: int, *lines: bytes) -> bytes:
    """Say each line when something was answered; all that came."""
    with socket.create_connection((HOST, port), 10, (CLIENT, 0)) as sock:
        said = sock.recv(4096)
        for line in lines:
            sock.sendall(line + b"\r\n")
            said += sock.recv(65536)
        return said


def _b64(text: bytes) -> bytes:
    return base64.b64encode(text)


PLAIN = _b64(b"\0u\0secret")


class _FromClient(imaplib.IMAP4):
    def _create_socket(self, timeout: float | None) -> socket.socket:
        return socket.create_connection((self.host, self.port), 10, (CLIENT, 0))


def _imap(port: int) -> None:
    client = _FromClient(HOST, port)
    client.login("u", "secret")
    assert client.noop()[0] == "OK"
    client.logout()


def _pop3(port: int) -> None:
    class FromClient(poplib.POP3):
        def _create_socket(self, timeout: float) -> socket.socket:
            return socket.create_connection((self.host, self.port), 10, (CLIENT, 0))

    client = FromClient(HOST, port)
    client.user("u")
    client.pass_("secret")
    assert client.stat() == (0, 0)
    client.quit()


def _sieve(port: int) -> None:
    assert b'\r\nOK "Logged in."' in _raw(port, b'AUTHENTICATE "PLAIN" "%b"' % PLAIN)


def _submission(port: int) -> None:
    client = smtplib.SMTP(HOST, port, timeout=10, source_address=(CLIENT, 0))
    client.ehlo("client.test")
    assert client.docmd("AUTH", "PLAIN " + PLAIN.decode())[0] == 235
    client.close()


def _lmtp(port: int) -> None:
    client = smtplib.LMTP(HOST, port, source_address=(CLIENT, 0))
    client.sendmail("s@client.test", ["u"], "Subject: x\r\n\r\ntext\r\n")
    client.quit()


TALK: dict[str, Callable[[int], None]] = {"imap": _imap, "pop3": _pop3, "sieve": _sieve, "submission": _submission,
                                          "lmtp": _lmtp}
SERVICE = {"sieve": "managesieve-login", "lmtp": "lmtp"}
#: The name that the last server knows the user by; and without variables.
STEERED, BARE = "u.abc@site.test", "u.@"


@pytest.mark.parametrize("protocol", TALK)
def test_the_last_server_sees_the_client(chain: Chain, protocol: str) -> None:
    before = len(chain.last.log_text())
    TALK[protocol](chain.front.port[protocol])
    service = SERVICE.get(protocol, protocol + "-login")

    def seen() -> bool:
        text = chain.last.log_text()[before:]
        if protocol == "lmtp":
            return f"Connect from {CLIENT}" in text or f"rip={CLIENT}" in text
        return re.search(rf"{service}: Info: Login: user=<{re.escape(STEERED)}>.* rip={CLIENT},", text) is not None

    if protocol == "lmtp":
        wait_until((chain.last.directory / "mail" / STEERED / "new").is_dir)
        found = next((chain.last.directory / "mail" / STEERED / "new").iterdir()).read_bytes()
        assert found.count(b"[%b]" % CLIENT.encode()) == 3      # each hop's Received header
    else:
        wait_until(seen, what=f"{service} with {CLIENT}")


#: What somebody whom the middle proxy does not trust says before the login.
_VARIABLES = _b64(b"token=evil\tsite=evil.test")
_ADDRESS = b"XCLIENT ADDR=10.9.9.9 PORT=1 SESSION=evil TTL=1"
FORGED: dict[str, tuple[bytes, ...]] = {
    "imap": (b'i ID ("x-originating-ip" "10.9.9.9" "x-proxy-ttl" "1" "x-session-id" "evil" "x-forward-token" "evil" '
             b'"x-forward-site" "evil.test")', b"a LOGIN u secret"),
    "pop3": (_ADDRESS + b" FORWARD=" + _VARIABLES, b"XOIP 10.9.9.9", b"USER u", b"PASS secret"),
    "sieve": (_ADDRESS + b" FORWARD=" + _VARIABLES, b'AUTHENTICATE "PLAIN" "%b"' % PLAIN),
    "submission": (b"EHLO x.test", _ADDRESS + b" LOGIN=evil FORWARD=" + _VARIABLES.replace(b"=", b"+3D"),
                   b"AUTH PLAIN " + PLAIN),
    "lmtp": (b"LHLO x.test", _ADDRESS + b" LOGIN=evil", b"MAIL FROM:<s@client.test>",
             b"RCPT TO:<u> XRCPTFORWARD=token+3Devil+09site+3Devil.test", b"RCPT TO:<u>"),
}


@pytest.mark.parametrize("protocol", FORGED)
def test_who_is_not_trusted_changes_nothing(chain: Chain, protocol: str) -> None:
    before = len(chain.middle.log_text())
    answer = _raw(chain.middle.port[protocol], *FORGED[protocol])
    assert b"XCLIENT ADDR" not in answer
    assert b"[XCLIENT]" not in answer
    wait_until(lambda: CLIENT in chain.middle.log_text()[before:])
    text = chain.middle.log_text()[before:]
    assert "10.9.9.9" not in text
    assert "evil" not in text
    if protocol == "lmtp":
        assert b"You are not from trusted IP" in answer
    else:
        # no name comes out of it without variables: the backend refuses that, and it is not evil's
        wait_until(lambda: f"as user {BARE}" in chain.middle.log_text()[before:])


#: A peer that is trusted says fields of the login itself: they are variables of these names, and no more.
_FIELDS = _b64(b"nopassword=y\tproxy_mech=EXTERNAL\tpass=other\thost=10.9.9.9\ttoken=abc\tsite=site.test")
TRUSTED: dict[str, tuple[bytes, ...]] = {
    "imap": (b'i ID ("x-forward-nopassword" "y" "x-forward-pass" "other" "x-forward-host" "10.9.9.9" '
             b'"x-host" "10.9.9.9" "x-forward-token" "abc" "x-forward-site" "site.test")', b"a LOGIN u wrong",
             b"b LOGIN u secret"),
    "pop3": (b"XCLIENT HOST=10.9.9.9 FORWARD=" + _FIELDS, b"USER u", b"PASS wrong", b"USER u", b"PASS secret"),
    "sieve": (b"XCLIENT HOST=10.9.9.9 FORWARD=" + _FIELDS, b'AUTHENTICATE "PLAIN" "%b"' % _b64(b"\0u\0wrong"),
              b'AUTHENTICATE "PLAIN" "%b"' % PLAIN),
    "submission": (b"EHLO x.test", b"XCLIENT HOST=10.9.9.9 FORWARD=" + _FIELDS.replace(b"=", b"+3D"), b"EHLO x.test",
                   b"AUTH PLAIN " + _b64(b"\0u\0wrong"), b"AUTH PLAIN " + PLAIN),
    "lmtp": (b"LHLO x.test", b"MAIL FROM:<s@client.test>",
             b"RCPT TO:<u> XRCPTFORWARD=host+3D10.9.9.9+09destuser+3Dother+09token+3Dabc+09site+3Dsite.test"),
}
_SUCCESS = {"imap": b"b OK", "pop3": b"+OK Logged in.", "sieve": b'OK "Logged in."', "submission": b"235 ",
            "lmtp": b"250 2.1.5 "}
_REFUSED = {"imap": b"a NO", "pop3": b"-ERR [AUTH]", "sieve": b'NO "Auth', "submission": b"535 ", "lmtp": b""}


@pytest.mark.parametrize("protocol", TRUSTED)
def test_variables_are_no_fields(chain: Chain, protocol: str) -> None:
    before = len(chain.middle.log_text())
    with socket.create_connection((HOST, chain.middle.port[protocol]), 10) as sock:
        said = sock.recv(4096)
        for line in TRUSTED[protocol]:
            sock.sendall(line + b"\r\n")
            said += sock.recv(65536)
    assert _REFUSED[protocol] in said, said
    assert _SUCCESS[protocol] in said, said
    text = chain.middle.log_text()[before:]
    assert "10.9.9.9" not in text
    if protocol != "lmtp":
        wait_until(lambda: f"as user {STEERED}" in chain.middle.log_text()[before:])
