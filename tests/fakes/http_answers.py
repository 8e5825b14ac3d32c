"""A small HTTP server with prepared answers, for drivers that ask one (oauth2, http).

In: `answers`, path -> function of the Asked to an Answer.  Out: what came in, in `asked`.  Keeps connections open,
speaks TLS with `tls`; every way of misbehaving that a test needs is a field of Answer.
"""
from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        text = self.body if self.method == "POST" else urlsplit(self.target).query
        return {key: values[-1] for key, values in parse_qs(text, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Answer:
    """`raw`: sent as it is instead of everything else, then the connection closes.  `drip`: seconds between bytes."""

    body: str = "{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay: float = 0.0
    drip: float = 0.0
    close: bool = False


class HttpAnswers:
    def __init__(self, answers: dict[str, Callable[[Asked], Answer]], tls: ssl.SSLContext | None = None) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self.connections = 0
        self._tls = tls
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Also again after stop(), at the same port."""
        self._server = _Server(self, self.port)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_all()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, owner: HttpAnswers, port: int) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, peer = super().get_request()
        self.owner.connections += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(connection)
        return connection, peer

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.owner._tls is not None:
            request.settimeout(5)
            try:
                request = self.owner._tls.wrap_socket(request, server_side=True)
            except OSError:
                return
            self._open.add(request)
        super().finish_request(request, client_address)

    def drop_all(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size).decode("utf-8", "surrogateescape")
        asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        owner = self.server.owner
        owner.asked.append(asked)
        maker = owner.answers.get(asked.path)
        answer = maker(asked) if maker is not None else Answer('{"error":"no such path"}', 404)
        time.sleep(answer.delay)
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        data = answer.body.encode("utf-8", "surrogateescape")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        if answer.close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        for part in ([data] if not answer.drip else [data[at:at + 1] for at in range(len(data))]):
            self.wfile.write(part)
            time.sleep(answer.drip)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def http_answers(answers: dict[str, Callable[[Asked], Answer]], tls: ssl.SSLContext | None = None
                 ) -> Iterator[HttpAnswers]:
    server = HttpAnswers(answers, tls)
    try:
        yield server
    finally:
        server.stop()
