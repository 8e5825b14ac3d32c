"""The attacker's tools: a raw client, backends that misbehave, and a mailproxy that is watched while it is attacked.

The proxy of a Target sends each user to the port of his own name on 127.0.0.1 (`12345@plain`, `12345@tls`,
`12345@starttls`), so a test chooses its backend by logging in.  Backends are threads; whatever a behaviour raises ends
its connection only.  Every wait has a bound.
"""
from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests import servers
from tests.certificates import Pair

HOST = servers.HOST
#: Seconds that an answer may take.
PATIENCE = 8.0
PASSWORD = "sesame"

SETTINGS = """
base_dir = @dir@/run
state_dir = @dir@/state
protocols = imap
listen = 127.0.0.1
log_path = {log}
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_chars =
auth_failure_delay = 0
mail_max_userip_connections = 0
login_proxy_timeout = {timeout}
login_proxy_max_reconnects = {reconnects}
ssl_cert = <{pair.certificate}
ssl_key = <{pair.key}
passdb {{
  driver = static
  username_filter = *@plain
  args = password=sesame proxy=y host=127.0.0.1 port=%n
}}
passdb {{
  driver = static
  username_filter = *@tls
  args = password=sesame proxy=y host=127.0.0.1 port=%n ssl=any-cert
}}
passdb {{
  driver = static
  username_filter = *@starttls
  args = password=sesame proxy=y host=127.0.0.1 port=%n starttls=any-cert
}}
service imap-login {{
  service_count = {service_count}
  process_min_avail = 1
  process_limit = {process_limit}
  client_limit = {client_limit}
  inet_listener imap {{
    port = @imap@
  }}
  inet_listener imaps {{
    port = @imaps@
    ssl = yes
  }}
}}
{extra}
"""


def settings(pair: Pair, *, log: str = "@dir@/log", timeout: str = "2s", reconnects: int = 0, service_count: int = 0,
             process_limit: int = 1, client_limit: int = 1000, extra: str = "") -> str:
    """The configuration of a Target."""
    return SETTINGS.format(pair=pair, log=log, timeout=timeout, reconnects=reconnects, service_count=service_count,
                           process_limit=process_limit, client_limit=client_limit, extra=extra)


class Peer:
    """A connection that reads with a bound and sends what it likes."""

    def __init__(self, port: int, *, tls: bool = False, receive: int = 0, source: str = "") -> None:
        self.sock: socket.socket = socket.socket()
        if source:
            self.sock.bind((source, 0))
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.settimeout(PATIENCE)
        self.sock.connect((HOST, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        if tls:
            self.start_tls()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_tls(self, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.sock = tls_context(highest).wrap_socket(self.sock)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def offer(self, data: bytes) -> None:
        """Send to somebody who may hang up meanwhile."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def line(self) -> bytes:
        """One line with its end; b"" at the end of the stream."""
        while b"\n" not in self.rest:
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                return b""
            if not data:
                return b""
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line + b"\n"

    def reply(self, tag: bytes) -> bytes:
        """The tagged answer, or the BYE before the end; b"" if there is neither."""
        last = b""
        while True:
            line = self.line()
            if line.startswith(tag + b" "):
                return line
            if not line:
                return last
            if line.startswith(b"* BYE"):
                last = line

    def ask(self, command: bytes) -> bytes:
        self.send(command + b"\r\n")
        return self.reply(command.split(b" ", 1)[0])

    def everything(self) -> bytes:
        """Until the end of the stream."""
        data, self.rest = self.rest, b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while more := self.sock.recv(65536):
                data += more
        return data

    def reset(self) -> None:
        """End with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def tls_context(highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = highest
    return context


Behaviour = Callable[[Peer], None]


class Backend:
    """Listens on `port`; each connection runs the behaviour in a thread of its own, then ends."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.listener = socket.create_server((HOST, 0), backlog=200)
        self.port: int = self.listener.getsockname()[1]
        self.count = 0
        self.seen: list[bytes] = []
        self._peers: set[Peer] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def user(self, how: str = "plain") -> bytes:
        return b"%d@%b" % (self.port, how.encode())

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self._closed:
                sock.close()
                return
            sock.settimeout(300.0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer.__new__(Peer)
            peer.sock, peer.rest = sock, b""
            self.count += 1
            self._peers.add(peer)
            threading.Thread(target=self._play, args=(peer,), daemon=True).start()

    def _play(self, peer: Peer) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.behaviour(peer)
        peer.close()
        self._peers.discard(peer)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for peer in list(self._peers):
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)


GREETING = b"* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+] ready\r\n"


def dialogue(peer: Peer) -> bytes:
    """A good backend's part up to its OK; returns the LOGIN line."""
    peer.send(GREETING)
    while True:
        line = peer.line()
        tag, _, rest = line.partition(b" ")
        if not line:
            raise ConnectionError
        if rest.upper().startswith(b"LOGIN"):
            whole = line
            while whole.endswith(b"+}\r\n"):
                size = int(whole[whole.rindex(b"{") + 1:-4])
                while len(peer.rest) < size:
                    peer.rest += peer.sock.recv(65536)
                whole += peer.rest[:size]
                peer.rest = peer.rest[size:]
                whole += peer.line()
            peer.send(tag + b" OK logged in\r\n")
            return whole
        peer.send(tag + b" OK done\r\n")


def good(peer: Peer) -> None:
    """A good backend: logs in, then answers every line with OK; `x LOGOUT` ends."""
    dialogue(peer)
    while line := peer.line():
        tag, _, rest = line.partition(b" ")
        if rest.upper().startswith(b"LOGOUT"):
            peer.send(b"* BYE bye\r\n" + tag + b" OK bye\r\n")
            return
        peer.send(tag + b" OK " + rest.strip()[:100] + b"\r\n")


@contextlib.contextmanager
def backend(behaviour: Behaviour) -> Iterator[Backend]:
    one = Backend(behaviour)
    try:
        yield one
    finally:
        one.close()


def role(process: psutil.Process) -> str:
    """`imap-login`, `auth`, ...; "" for one that is just going."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    return words[0].split(" ")[0].rpartition("/")[2] if words else ""


class Target:
    """A running proxy with a session on it that must survive everything: the canary."""

    def __init__(self, text: str, *, argv: list[str] | None = None) -> None:
        directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        directory.chmod(0o755)
        self.server = servers.Server(argv, text, directory) if argv else servers.mailproxy(text, directory)
        try:
            self.server.wait("imap", "imaps")
        except BaseException:
            self.server.stop()
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self.backend = Backend(good)
        self.canary = self.login()
        self.pids = self.workers()

    def port(self, name: str = "imap") -> int:
        return self.server.port[name]

    def peer(self, *, tls: bool = False, receive: int = 0, greeted: bool = True) -> Peer:
        peer = Peer(self.port("imaps" if tls else "imap"), tls=tls, receive=receive)
        if greeted:
            assert peer.line().startswith(b"* OK [CAPABILITY ")
        return peer

    def login(self, user: bytes = b"", *, tls: bool = False) -> Peer:
        """A client that is logged in at the good backend (or another)."""
        peer = self.peer(tls=tls)
        answer = peer.ask(b"a LOGIN %b %b" % (user or self.backend.user(), PASSWORD.encode()))
        assert answer.startswith(b"a OK "), answer
        return peer

    def processes(self, name: str) -> list[psutil.Process]:
        return [child for child in self.server.children() if role(child) == name]

    def workers(self) -> set[int]:
        return {process.pid for process in self.processes("imap-login")}

    def process(self, name: str) -> psutil.Process:
        found = self.processes(name)
        assert len(found) == 1, f"{len(found)} {name} processes"
        return found[0]

    def log(self) -> str:
        return self.server.log_text()

    def logged(self, text: str, timeout: float = 5.0) -> None:
        servers.wait_until(lambda: text in self.log(), timeout, f"log line {text!r}")

    def quiet(self) -> None:
        """Until only the canary is left."""
        worker = self.process("imap-login")
        servers.wait_until(lambda: len(worker.net_connections("tcp")) <= 4, PATIENCE, "the end of the sessions")

    def check(self) -> None:
        """The worker, its other sessions and the service live."""
        assert self.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
        assert self.workers() == self.pids, f"the worker died:\n{self.log()[-3000:]}"
        with self.login() as fresh:
            assert fresh.ask(b"d NOOP") == b"d OK NOOP\r\n"

    def stop(self) -> list[str]:
        self.canary.close()
        problems = self.server.stop()
        self.backend.close()
        shutil.rmtree(self.server.directory, ignore_errors=True)
        return problems


def memory(process: psutil.Process) -> int:
    """Bytes that belong to this process alone."""
    return int(process.memory_full_info().uss)


class Load:
    """Clients that log in again and again in the background; `failures` are their refusals and lost connections."""

    def __init__(self, target: Target, threads: int = 3, *, tls: bool = False) -> None:
        self.target = target
        self.tls = tls
        self.done = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self._stop = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        user = self.target.backend.user()
        while not self._stop:
            start = time.monotonic()
            try:
                with Peer(self.target.port("imaps" if self.tls else "imap"), tls=self.tls) as peer:
                    greeting = peer.line()
                    answer = peer.ask(b"a LOGIN %b %b" % (user, PASSWORD.encode())) if greeting else b""
                    if answer.startswith(b"a OK"):
                        answer = peer.ask(b"z LOGOUT")
            except OSError as error:
                answer = str(error).encode()
            self.slowest = max(self.slowest, time.monotonic() - start)
            if answer.startswith(b"z OK"):
                self.done += 1
            else:
                self.failures.append(answer.decode("ascii", "replace"))
                time.sleep(0.02)
            time.sleep(0.005)

    def stop(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join(PATIENCE + 5)
