"""Servers for tests: real Dovecot and mailproxy, each on a configuration text of the test's own.

A text has @dir@ for a directory of the server's own and @NAME@ for a port: each NAME gets a free one.  A server is
stopped by its pid; when it ends, no process of it may be left and its log may hold no traceback.
"""
from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

HOST = "127.0.0.1"
PROJECT = Path(__file__).resolve().parent.parent
#: Seconds to start, and to stop.
START_TIMEOUT = 20.0
STOP_TIMEOUT = 15.0
_PLACE = re.compile(r"@([a-z][a-z0-9_]*)@")
_NO_PENALTY = "\nservice anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n"
_BROKEN = re.compile(r"Traceback|Panic:|Segmentation fault|most recent call last")


def free_port() -> int:
    """A port that nobody uses now, outside of the range from which the kernel serves outgoing connections: tests
    that make thousands of them would soon hit a port between this call and the server's bind."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return port


def wait_until(condition: Callable[[], bool], timeout: float = 10.0, what: str = "the condition") -> None:
    """Poll until `condition()` is true; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout} s"
        time.sleep(0.05)


def answers(port: int, tls: bool) -> bool:
    """Does a server on this port accept connections, and greet if it is not for the client to speak first?"""
    try:
        with socket.create_connection((HOST, port), 5.0) as sock:
            return tls or bool(sock.recv(1))
    except OSError:
        return False


class Server:
    """One running server.  `port["imap"]` is what stood as @imap@ in its text; `directory` what stood as @dir@."""

    def __init__(self, argv: list[str], text: str, directory: Path) -> None:
        self.directory = directory
        self.port: dict[str, int] = {}
        self.log = directory / "log"
        self.conf = directory / "server.conf"
        self._output = directory / "output"
        self.rewrite(text)
        with self._output.open("ab") as out:
            self.process = subprocess.Popen([*argv, "-F", "-c", str(self.conf)], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, cwd=PROJECT)
        self._pids: dict[int, psutil.Process] = {}

    def rewrite(self, text: str) -> None:
        """Put another text into the configuration file; names of ports keep their numbers.  Who fails to log in is not
        kept waiting, unless the text says something of anvil."""
        if "anvil" not in text:
            text += _NO_PENALTY
        self.conf.write_text(_PLACE.sub(lambda found: self._place(found[1]), text))

    def _place(self, name: str) -> str:
        if name == "dir":
            return str(self.directory)
        return str(self.port.setdefault(name, free_port()))

    def wait(self, *names: str) -> None:
        """Until these ports answer; those whose names end in s speak TLS from the start."""
        deadline = time.monotonic() + START_TIMEOUT
        while not all(answers(self.port[name], name.endswith("s")) for name in names):
            status = self.process.poll()
            assert status is None, f"the server ended with status {status}:\n{self.output()}\n{self.log_text()}"
            assert time.monotonic() < deadline, f"the server does not answer:\n{self.output()}\n{self.log_text()}"
            time.sleep(0.05)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """All processes below the server's, also remembered for the check at the end."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._pids.update((child.pid, child) for child in found)
        return found

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> list[str]:
        """End it; what was wrong with its end, in words (nothing: [])."""
        problems = []
        self.children()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                problems.append(f"TERM did not end the server within {STOP_TIMEOUT} s")
                self.process.kill()
                self.process.wait()
        _, left = psutil.wait_procs(list(self._pids.values()), timeout=5.0)
        for child in left:
            problems.append(f"process {child.pid} was left behind")
            child.kill()
        for name, text in (("log", self.log_text()), ("output", self.output())):
            if _BROKEN.search(text):
                problems.append(f"the {name} shows a crash:\n{text}")
        return problems


def dovecot(text: str, directory: Path) -> Server:
    """Real Dovecot; AssertionError when it is not installed."""
    program = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "Dovecot is needed for this test: install dovecot-imapd"
    return Server([program], text, directory)


def mailproxy(text: str, directory: Path, user: str = "") -> Server:
    """The checkout's mailproxy, started by `user`, to whom the directory is given.
    MAILPROXY_TEST_SERVER=/usr/sbin/dovecot checks the tests themselves."""
    other = os.environ.get("MAILPROXY_TEST_SERVER")
    drop = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
    if user:
        shutil.chown(directory, user)
    return Server([*drop, *([other] if other else [sys.executable, str(PROJECT / "master.py")])], text, directory)


#: How each configuration text begins: a directory of its own, this machine only.
HEAD = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols = imap
listen = 127.0.0.1
log_path = @dir@/log
"""
#: A Dovecot IMAP server with mail of its own; every user has the same password.
PASSWORD = "secret"
BACKEND = HEAD + """
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
login_trusted_networks = 127.0.0.0/8
mail_max_userip_connections = 0
mail_location = maildir:@dir@/mail/%u
mail_uid = nobody
mail_gid = nogroup
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=@dir@/mail/%u
}
service imap-login {
  service_count = 0
  process_min_avail = 1
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""
