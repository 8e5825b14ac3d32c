"""The attacker's words in each protocol: how a client logs in, what a good backend answers, what goes on afterwards.

`Mixed` is a running proxy for all of them, with one live session of each that must survive everything.
"""
from __future__ import annotations

import shutil
import tempfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import servers
from tests.certificates import Pair
from tests.fakes.attack import PASSWORD, PATIENCE, Backend, Peer, role, settings

#: A password that a backend may get, in every protocol's form: none of them may stand in a log.
SECRETS = (PASSWORD, b64encode(PASSWORD.encode()).decode())


@dataclass(frozen=True)
class Words:
    """One protocol.  `banner` ends a greeting; `turns`: a backend's side, (first word of a command, answer)."""

    name: str
    banner: bytes
    ping: bytes
    pong: bytes
    starttls: bytes
    starttls_ok: bytes
    #: What a good backend says first, and to each command; an answer with b"*" logs in.
    greeting: bytes
    turns: tuple[tuple[bytes, bytes], ...]
    done: bytes
    login: Callable[[bytes, bytes], bytes]

    def greet(self, peer: Peer) -> bytes:
        """The whole greeting of the proxy."""
        said = b""
        while line := peer.line():
            said += line
            if line.startswith(self.banner):
                break
        return said

    def answer(self, peer: Peer) -> bytes:
        """The last line of one answer."""
        while line := peer.line():
            if self.name != "submission" or line[3:4] != b"-":
                return line
        return b""

    def serve(self, peer: Peer) -> bytes:
        """A good backend's part up to its yes; returns all that the proxy has said."""
        peer.send(self.greeting)
        said = b""
        while line := peer.line():
            said += line
            for word, reply in self.turns:
                if line.upper().startswith(word):
                    peer.send(reply)
                    if reply == self.done:
                        return said
        raise ConnectionError

    def good(self, peer: Peer) -> None:
        """A good backend: logs in, then answers each ping."""
        self.serve(peer)
        while line := peer.line():
            if line.strip() == self.ping:
                peer.send(self.pong + b"\r\n")


def _plain(user: bytes, password: bytes) -> bytes:
    return b64encode(b"\0%b\0%b" % (user, password))


POP3 = Words(
    "pop3", b"+OK", b"NOOP", b"+OK", b"STLS", b"+OK", b"+OK ready\r\n",
    ((b"USER", b"+OK\r\n"), (b"STLS", b"+OK\r\n"), (b"XCLIENT", b"+OK\r\n"), (b"PASS", b"+OK in\r\n")), b"+OK in\r\n",
    lambda user, password: b"AUTH PLAIN %b\r\n" % _plain(user, password))
SIEVE = Words(
    "sieve", b"OK", b"NOOP", b'OK "noop"', b"STARTTLS", b"OK",
    b'"IMPLEMENTATION" "x"\r\n"SASL" "PLAIN"\r\n"SIEVE" ""\r\n"STARTTLS"\r\nOK "ready"\r\n',
    ((b"AUTHENTICATE", b'OK "in"\r\n'), (b"STARTTLS", b'OK "go"\r\n')), b'OK "in"\r\n',
    lambda user, password: b'AUTHENTICATE "PLAIN" "%b"\r\n' % _plain(user, password))
SUBMISSION = Words(
    "submission", b"220 ", b"NOOP", b"250 2.0.0 OK", b"STARTTLS", b"220", b"220 ready\r\n",
    ((b"EHLO", b"250-backend\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"), (b"AUTH", b"235 in\r\n"),
     (b"STARTTLS", b"220 go\r\n")), b"235 in\r\n",
    lambda user, password: b"AUTH PLAIN %b\r\n" % _plain(user, password))
ALL = (POP3, SIEVE, SUBMISSION)

SERVICE = """
service {role} {{
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  client_limit = {limit}
  inet_listener {name} {{
    port = @{name}@
  }}
  inet_listener {name}s {{
    port = @{name}s@
    ssl = yes
  }}
}}
"""
#: `12345@any`: the password is for the backend to check.
ANY = """
passdb {
  driver = static
  username_filter = *@any
  args = nopassword=y proxy=y host=127.0.0.1 port=%n
}
"""
ROLES = {"pop3": "pop3-login", "sieve": "managesieve-login", "submission": "submission-login"}


def mixed_settings(pair: Pair, *, limit: int = 1000, extra: str = "") -> str:
    text = "protocols = imap pop3 submission sieve\nauth_verbose = yes\nlogin_trusted_networks = 127.0.0.9\n"
    for name, service in ROLES.items():
        text += SERVICE.format(role=service, name=name, limit=limit)
    return settings(pair, extra=text + ANY + extra)


class Mixed:
    """A proxy for all protocols that is watched while it is attacked."""

    def __init__(self, text: str) -> None:
        directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        directory.chmod(0o755)
        self.server = servers.mailproxy(text, directory)
        self.backends: dict[str, Backend] = {}
        try:
            self.server.wait("pop3", "pop3s", "sieve", "submission", "imap")
            self.backends.update((words.name, Backend(words.good)) for words in ALL)
            self.canaries = {words.name: self.login(words) for words in ALL}
            self.pids = {words.name: self.worker(words).pid for words in ALL}
            self._idle = {words.name: len(self.worker(words).net_connections("tcp")) for words in ALL}
        except BaseException:
            self.server.stop()
            for backend in self.backends.values():
                backend.close()
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def peer(self, words: Words, *, tls: bool = False, greeted: bool = True, receive: int = 0,
             source: str = "") -> Peer:
        peer = Peer(self.server.port[words.name + "s" * tls], tls=tls, receive=receive, source=source)
        if greeted:
            assert words.greet(peer), f"{words.name}: no greeting"
        return peer

    def user(self, words: Words) -> bytes:
        return self.backends[words.name].user()

    def login(self, words: Words, user: bytes = b"") -> Peer:
        peer = self.peer(words)
        peer.send(words.login(user or self.user(words), PASSWORD.encode()))
        answer = words.answer(peer)
        assert answer == words.done, answer
        return peer

    def worker(self, words: Words) -> psutil.Process:
        found = [child for child in self.server.children() if role(child) == ROLES[words.name]]
        assert len(found) == 1, f"{len(found)} {words.name} processes"
        return found[0]

    def log(self) -> str:
        return self.server.log_text()

    def logged(self, text: str, timeout: float = 5.0) -> None:
        servers.wait_until(lambda: text in self.log(), timeout, f"log line {text!r}")

    def quiet(self, words: Words) -> None:
        """Until only the canary is left."""
        worker = self.worker(words)
        servers.wait_until(lambda: len(worker.net_connections("tcp")) <= self._idle[words.name], PATIENCE,
                           "the end of the sessions")

    def check(self) -> None:
        """The workers, their other sessions and the services live, and nothing is said in the log that must not be."""
        for words in ALL:
            canary = self.canaries[words.name]
            canary.send(words.ping + b"\r\n")
            assert canary.line() == words.pong + b"\r\n"
            assert self.worker(words).pid == self.pids[words.name], f"the worker died:\n{self.log()[-3000:]}"
            self.login(words).close()
        log = self.log()
        assert "Panic" not in log, log[-3000:]
        assert "Traceback" not in log
        for secret in SECRETS:
            assert secret not in log, f"{secret} is in the log"

    def stop(self) -> list[str]:
        for peer in self.canaries.values():
            peer.close()
        problems = self.server.stop()
        for backend in self.backends.values():
            backend.close()
        shutil.rmtree(self.server.directory, ignore_errors=True)
        return problems
