"""Asking an HTTP server from an auth-worker: one request at a time, never longer than a deadline.

In: a URL, method, headers, body and the time until which an answer counts.  Out: a Reply, or HttpFailure with a text
for the log (it holds no query and no header: those may be secrets).  Connections stay open between requests; one that
the server has closed meanwhile is replaced without a word.  A server that let us wait in vain is left alone for a
while, so that it cannot keep all workers.  No redirects, no cookies, no proxies.
Limit: the resolver has its own patience.
"""
from __future__ import annotations

import base64
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.errors import MailproxyError

#: Bytes of an answer's body.
MAX_BODY = 1024 * 1024
#: Seconds for a server that did not answer in time: first, and at most.
_REST, _MAX_REST = 1.0, 15.0
#: What may not be in a URL, a header's name or its value.
_NOT_URL = re.compile(r"[\x00-\x20\x7f-\U0010ffff]")
_NOT_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\U0010ffff]")


class HttpFailure(MailproxyError):
    """No answer; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Names as in settings files; with neither file nor directory the system's authorities are trusted."""

    ca_cert_file: str = ""
    ca_cert_dir: str = ""
    cert_file: str = ""
    key_file: str = ""
    cipher_suite: str = ""
    allow_invalid_cert: bool = False

    def context(self) -> ssl.SSLContext:
        """ArgsInvalid: a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.allow_invalid_cert:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            elif self.ca_cert_file or self.ca_cert_dir:
                context.load_verify_locations(self.ca_cert_file or None, self.ca_cert_dir or None)
            else:
                context.load_default_certs()
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file or None)
            if self.cipher_suite:
                context.set_ciphers(self.cipher_suite)
        except (OSError, ValueError) as error:      # SSLError is an OSError
            names = ", ".join(name for name in (self.ca_cert_file, self.ca_cert_dir, self.cert_file, self.key_file)
                              if name)
            raise ArgsInvalid(f"TLS settings cannot be used ({names or self.cipher_suite}): {error}") from None
        return context


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def check_url(url: str) -> SplitResult:
    """ArgsInvalid: nothing that can be asked."""
    if _NOT_URL.search(url):
        raise ArgsInvalid(f"a URL may not contain spaces, control characters or other than ASCII: {url!r}")
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        known = None
    if not known:
        raise ArgsInvalid(f"not an http:// or https:// URL: {url}")
    return parts


def check_header(name: str, value: str) -> None:
    """ArgsInvalid: not a header line."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or _NOT_HEADER.search(value):
        raise ArgsInvalid(f"not a header: {name}")


class _Wire:
    """What http.client needs of a socket; it closes that after many an answer, which here means nothing."""

    __slots__ = ("_clock", "_socket", "deadline")

    def __init__(self, connection: socket.socket, clock: Callable[[], float]) -> None:
        self._socket = connection
        self._clock = clock
        self.deadline = 0.0

    def _hurry(self) -> None:
        left = self.deadline - self._clock()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._hurry()
        self._socket.sendall(data)

    def receive(self, buffer: memoryview) -> int:
        self._hurry()
        return self._socket.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Bounded(self))

    def close(self) -> None:
        """Not yet."""

    def end(self) -> None:
        self._socket.close()


class _Bounded(io.RawIOBase):
    """A file that gives up at the deadline, however slowly bytes drip in."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:      # type: ignore[override]
        return self._wire.receive(buffer)


class _Server:
    """One scheme, host and port, with its open connection."""

    __slots__ = ("_clock", "_context", "_host", "_port", "_rest", "_until", "connection", "used", "wire")

    def __init__(self, parts: SplitResult, context: ssl.SSLContext | None, clock: Callable[[], float]) -> None:
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context
        self._clock = clock
        self.connection: http.client.HTTPConnection | None = None
        self.wire: _Wire | None = None
        self.used = 0.0
        self._until = self._rest = 0.0

    @property
    def resting(self) -> bool:
        return self._clock() < self._until

    def tired(self) -> None:
        """It did not answer in time."""
        self._rest = min(self._rest * 2 or _REST, _MAX_REST)
        self._until = self._clock() + self._rest

    def answered(self) -> None:
        self._rest = self._until = 0.0
        self.used = self._clock()

    def connect(self, deadline: float) -> None:
        plain = socket.create_connection((self._host, self._port), max(deadline - self._clock(), 0.001))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                plain.settimeout(max(deadline - self._clock(), 0.001))
                plain = self._context.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise
        self.wire = _Wire(plain, self._clock)
        self.connection = http.client.HTTPConnection(self._host, self._port)
        self.connection.sock = self.wire
        self.connection.auto_open = 0

    def close(self) -> None:
        if self.wire is not None:
            self.wire.end()
        self.connection = self.wire = None


class Client:
    """`agent`: what it calls itself; `idle`: seconds that an unused connection is worth keeping."""

    __slots__ = ("_agent", "_clock", "_context", "_idle", "_servers")

    def __init__(self, agent: str, context: ssl.SSLContext | None, idle: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._context = context
        self._idle = idle
        self._clock = clock
        self._servers: dict[tuple[str, str | None, int | None], _Server] = {}

    def resting(self, url: str) -> bool:
        """The server has kept us waiting in vain just now."""
        return self._server(urlsplit(url)).resting

    def _server(self, parts: SplitResult) -> _Server:
        key = (parts.scheme, parts.hostname, parts.port)
        server = self._servers.get(key)
        if server is None:
            context = self._context if parts.scheme == "https" else None
            server = self._servers[key] = _Server(parts, context, self._clock)
        return server

    def request(self, method: str, url: str, headers: Mapping[str, str], body: str | None, deadline: float) -> Reply:
        """The answer, whatever its status.  HttpFailure.  `url` has been checked."""
        parts = urlsplit(url)
        server = self._server(parts)
        place = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        if server.resting:
            raise HttpFailure(f"{place}: did not answer in time before, waiting before it is asked again")
        lines = {"User-Agent": self._agent, "Accept": "application/json, */*", **_authorization(parts), **headers}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        data = None if body is None else body.encode("utf-8", "surrogateescape")
        try:
            reply = self._ask(server, method, target, lines, data, deadline)
        except TimeoutError:
            server.close()
            server.tired()
            raise HttpFailure(f"{place}: timed out") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            server.close()
            raise HttpFailure(f"{place}: {_reason(error)}") from None
        server.answered()
        return reply

    def _ask(self, server: _Server, method: str, target: str, headers: Mapping[str, str], body: bytes | None,
             deadline: float) -> Reply:
        if server.connection is not None and self._clock() - server.used > self._idle:
            server.close()
        if server.connection is not None:
            try:
                return self._exchange(server, method, target, headers, body, deadline)
            except ConnectionError:
                server.close()              # closed while unused: the request has not been seen
        server.connect(deadline)
        return self._exchange(server, method, target, headers, body, deadline)

    def _exchange(self, server: _Server, method: str, target: str, headers: Mapping[str, str], body: bytes | None,
                  deadline: float) -> Reply:
        connection, wire = server.connection, server.wire
        assert connection is not None
        assert wire is not None
        wire.deadline = deadline
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        data = answer.read(MAX_BODY + 1)
        if len(data) > MAX_BODY:
            raise ValueError(f"the answer is longer than {MAX_BODY} bytes")
        if answer.length:                   # read() with a limit does not mind
            raise ValueError("the answer is cut short")
        if answer.will_close:
            server.close()
        return Reply(answer.status, answer.reason, answer.headers, data)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}" if not isinstance(error, ssl.SSLCertVerificationError) \
            else f"TLS: certificate verify failed: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, http.client.HTTPException):
        return f"not an HTTP answer ({type(error).__name__})"
    return str(error)
