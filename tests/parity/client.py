"""The scripted client: connects, also from other loopback addresses, and follows its script."""
from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping

from .certs import Certs
from .conversation import AFTERMATH, PATIENCE, Conversation, Ended
from .script import Step, parse

_FINAL = ("eof", "close", "notify", "rst", "quiet")


#: Client ports that this process has had: log lines are told apart by them, so none may serve twice.
_USED: set[int] = set()
_USED_LOCK = threading.Lock()


def fresh_connection(source: str, port: int) -> socket.socket:
    """A connection to the listener from a port that nobody in this process has had."""
    while True:
        sock = socket.socket()
        sock.bind((source, 0))
        own: int = sock.getsockname()[1]
        with _USED_LOCK:
            fresh = own not in _USED
            _USED.add(own)
        if not fresh:
            sock.close()
            continue
        sock.settimeout(PATIENCE)
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return sock


class Client:
    """One client, which may use several connections one after the other."""

    __slots__ = ("_certs", "_current", "_listeners", "_names", "_steps", "lines", "ports")

    def __init__(self, script: str, names: Mapping[str, str], certs: Certs, listeners: tuple[str, str]) -> None:
        """`listeners`: the names of those without and with TLS."""
        self._listeners = listeners
        self._steps = parse(script)
        self._names = names
        self._certs = certs
        self._current: Conversation | None = None
        self.lines: list[str] = []
        self.ports: list[int] = []

    def run(self) -> list[str]:
        steps = self._steps
        if not steps or steps[0].verb != "connect":
            steps = (Step("connect"), *steps)
        try:
            for step in steps:
                if step.verb == "connect":
                    self._leave()
                    self._connect(step.arg.split())
                elif self._current is not None:
                    self._do(step)
            self._aftermath(steps[-1])
        except OSError as error:
            self.lines.append(f"! {error.strerror}")
        self._leave()
        return self.lines

    def _do(self, step: Step) -> None:
        assert self._current is not None
        try:
            self._current.step(step)
        except Ended:
            self._leave()

    def _aftermath(self, last: Step) -> None:
        if self._current is not None and last.verb not in _FINAL:
            with contextlib.suppress(Ended):
                self._current.quiet(AFTERMATH, eof_matters=False)

    def _connect(self, words: list[str]) -> None:
        source = words[words.index("from") + 1] if "from" in words else "127.0.0.1"
        named = [word for word in words if word not in ("tls", "from", source)]
        listener = named[0] if named else self._listeners["tls" in words]
        try:
            sock = fresh_connection(source, int(self._names[listener]))
        except ConnectionRefusedError:
            self.lines.append(f"-- connect {' '.join(words)}: refused")
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ports.append(sock.getsockname()[1])
        self._current = Conversation(sock, self._names, self._certs, server=False)
        self._current.note(f"-- connect {' '.join(words)}".rstrip())
        if "tls" in words:
            self._do(Step("tls"))

    def _leave(self) -> None:
        if self._current is not None:
            self.lines += self._current.lines
            self._current.finish()
            self._current = None
