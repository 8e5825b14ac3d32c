"""Start and stop one of the two daemons on a configuration of its own.

In: which side, a directory, the configuration text.  Out: the ports it listens on, its log.  Everything lies below a
directory in /tmp that all may enter, since both daemons give up root; the processes end by the master's pid.
"""
from __future__ import annotations

import contextlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .client import fresh_connection

REPOSITORY = Path(__file__).resolve().parents[2]
DOVECOT, MAILPROXY = SIDES = ("dovecot", "mailproxy")
#: Listeners' ports: outside the range that the kernel takes ports of outgoing connections from.
_PORTS = (10000, 32000)
#: Seconds until the daemon greets, and until it has stopped.
START, STOP = 20.0, 10.0

#: For both sides.  A mode of 0 for anvil's penalty socket is the way to have no penalty for failed logins.
_BASE = """
base_dir = $dir/run
listen = 127.0.0.1
log_path = $dir/log
default_login_user = $login_user
default_internal_user = $internal_user
default_internal_group = $internal_group
ssl_cert = <$dir/tls/server.pem
ssl_key = <$dir/tls/server.key
ssl_dh =
auth_mechanisms = plain login
auth_verbose = yes
auth_failure_delay = 0
login_greeting = Proxy ready.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
stats_writer_socket_path =
"""


@dataclass(frozen=True, slots=True)
class Login:
    """A login protocol: its service, its listeners without and with TLS, and how it greets."""

    service: str
    listeners: tuple[str, str]
    greeting: bytes


LOGINS = {
    "imap": Login("imap-login", ("imap", "imaps"), b"* OK"),
    "pop3": Login("pop3-login", ("pop3", "pop3s"), b"+OK"),
    "sieve": Login("managesieve-login", ("sieve", "sieves"), b'"'),
    "submission": Login("submission-login", ("submission", "submissions"), b"220"),
}
#: The login service with its listeners.
_LOGIN = """
protocols = {protocol}
service {service} {{
  inet_listener {plain} {{
    port = ${plain}
  }}
  inet_listener {tls} {{
    port = ${tls}
    ssl = yes
  }}
{settings}
}}
"""


class CannotStart(Exception):
    """The daemon did not come up; the text holds its output."""


def free_ports(names: tuple[str, ...]) -> dict[str, str]:
    """A port for each listener that nobody uses at the moment.  All have five digits, so that byte counts are equal."""
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < len(names):
            candidate = random.randrange(*_PORTS)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", candidate)))
                ports.append(candidate)
        return dict(zip(names, map(str, ports), strict=True))


def _users() -> dict[str, str]:
    """Accounts to drop to: Dovecot's own where they exist."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    if {"dovenull", "dovecot"} <= known:
        return {"login_user": "dovenull", "internal_user": "dovecot", "internal_group": "dovecot"}
    return {"login_user": "nobody", "internal_user": "daemon", "internal_group": "daemon"}


class Server:
    """One running daemon."""

    __slots__ = ("_directory", "_login", "_process", "names", "side")

    def __init__(self, side: str, directory: Path, conf: str, protocol: str, settings: str,
                 ports: Mapping[str, str]) -> None:
        """`settings`: of the login service."""
        self.side = side
        self._login = login = LOGINS[protocol]
        self._directory = directory
        self.names = {"dir": str(directory), **ports, **_users()}
        text = _BASE + _LOGIN.format(protocol=protocol, service=login.service, plain=login.listeners[0],
                                     tls=login.listeners[1], settings=settings) + conf
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(f"${name}", self.names[name])
        path = directory / "dovecot.conf"
        path.write_text(text)
        with (directory / "output").open("wb") as output:
            self._process = subprocess.Popen([*_command(side), "-F", "-c", str(path)], stdin=subprocess.DEVNULL,
                                             stdout=output, stderr=output, cwd=directory, start_new_session=True)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + START
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise CannotStart(f"{self.side} exited with {self._process.returncode}:\n{self._evidence()}")
            with contextlib.suppress(OSError), \
                    fresh_connection("127.0.0.1", int(self.names[self._login.listeners[0]])) as sock:
                sock.settimeout(5.0)
                if sock.recv(4096).startswith(self._login.greeting):
                    return
            time.sleep(0.05)
        raise CannotStart(f"{self.side} does not greet:\n{self._evidence()}")

    def _evidence(self) -> str:
        return (self._directory / "output").read_text("utf-8", "replace")[-4000:] + "\n" + self.log()[-4000:]

    def log(self) -> str:
        path = self._directory / "log"
        return path.read_text("latin-1") if path.exists() else ""

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP)


def _command(side: str) -> list[str]:
    if side == MAILPROXY:
        return [sys.executable, str(REPOSITORY / "master.py")]
    program = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise CannotStart("Dovecot, the oracle, is not installed (Debian: dovecot-core dovecot-imapd dovecot-sqlite)")
    return [program]
