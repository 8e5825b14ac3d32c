"""A scripted backend: one listening socket per scenario, one thread per connection.

In: the scripts, one for each connection in the order they come.  Out: the transcripts in that order.
"""
from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping

from .certs import Certs
from .conversation import Conversation, Ended
from .script import Step, parse_connections

#: Connections that one scenario may cause.
MAX_CONNECTIONS = 20
#: Seconds that the last connections get to end after the client went.
GRACE = 4.0


class Backend:
    """Listens from the start, so that its port is known before the daemon runs; accepts between start and stop."""

    __slots__ = ("_certs", "_conversations", "_listener", "_names", "_scripts", "_stopping", "_threads", "port")

    def __init__(self, script: str, certs: Certs) -> None:
        self._scripts = parse_connections(script)
        self._certs = certs
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=MAX_CONNECTIONS)
        self.port: int = self._listener.getsockname()[1]
        self._names: Mapping[str, str] = {}
        self._conversations: list[Conversation] = []
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def start(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._listener.settimeout(0.2)
        self._spawn(self._accept)

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)    # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping and len(self._conversations) < MAX_CONNECTIONS:
            try:
                sock, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script = self._scripts[min(len(self._conversations), len(self._scripts) - 1)]
            conversation = Conversation(sock, self._names, self._certs, server=True)
            if peer[0] != "127.0.0.1":
                conversation.note(f"-- from {peer[0]}")
            self._conversations.append(conversation)
            self._spawn(_play, conversation, script)

    def stop(self) -> list[list[str]]:
        """Wait for the connections to end; the transcripts."""
        until = time.monotonic() + GRACE
        for thread in self._threads[1:]:
            thread.join(max(0.0, until - time.monotonic()))
        self._stopping = True
        self._threads[0].join(1.0)
        return [list(conversation.lines) for conversation in self._conversations]

    def close(self) -> None:
        self._listener.close()
        for conversation in self._conversations:
            conversation.finish()


def _play(conversation: Conversation, script: tuple[Step, ...]) -> None:
    with contextlib.suppress(Ended):
        for step in script:
            conversation.step(step)
        if not script or script[-1].verb != "eof":
            conversation.eof()
    conversation.finish()
