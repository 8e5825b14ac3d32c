"""One backend in one transaction: its socket under proto.lmtp.backend, and the message on its way out.

In: a Route, recipients, at last the spooled message.  Out: calls of the owner.  What the backend does not take stays
in the spool: at most PIECE bytes of a message are in memory here, however slow the backend is.
"""
from __future__ import annotations

import ssl
from typing import Any, Protocol

from mailproxy.delivery.route import Route
from mailproxy.delivery.spool import Spool
from mailproxy.log.pipe import Log
from mailproxy.net import connect
from mailproxy.net.loop import ERR, HUP, IN, OUT, Loop, Timer
from mailproxy.net.rawlog import Rawlog
from mailproxy.net.transport import Broken, Plain, Tls
from mailproxy.proto.lmtp import backend as machine
from mailproxy.proto.lmtp.backend import Backend, Order
from mailproxy.proto.smtp.message import DotWriter
from mailproxy.proto.smtp.wire import Reply

#: Seconds until a backend has taken our greeting (Dovecot's), and for the answer to any later command.
CONNECT_TIMEOUT = 30.0
COMMAND_TIMEOUT = 300.0
#: Bytes of a message that are read from the spool at once.
PIECE = 65536
_READ = 16384
#: Seconds that the farewell may take.
QUIT_TIMEOUT = 5.0


class Contexts(Protocol):
    verified: ssl.SSLContext
    any_cert: ssl.SSLContext


class Owner(Protocol):
    """Tokens are the transaction's recipients."""

    def recipient(self, token: Any, reply: Reply) -> None: ...
    def final(self, token: Any, reply: Reply) -> None: ...
    def lost(self, link: Outgoing, kind: str, text: str) -> None: ...


class Outgoing:
    """Implements proto.lmtp.backend.Owner.  `waiting`: tokens without an answer."""

    __slots__ = (
        "_backend",
        "_closed",
        "_context",
        "_deadline",
        "_dots",
        "_fd",
        "_head",
        "_label",
        "_log",
        "_loop",
        "_mask",
        "_offset",
        "_out",
        "_owner",
        "_preface",
        "_rawlog",
        "_ready",
        "_sending",
        "_spool",
        "_timer",
        "_transport",
        "_why",
        "dead",
        "route",
        "waiting",
    )

    def __init__(self, loop: Loop, log: Log, route: Route, order: Order, contexts: Contexts, owner: Owner,
                 number: int, *, preface: bytes = b"", rawlog: Rawlog | None = None) -> None:
        """`preface`: what is said before all else, and before TLS."""
        self._preface = preface
        self._rawlog = rawlog
        self._loop = loop
        self._log = log
        self._owner = owner
        self.route = route
        self._context = contexts.any_cert if route.any_cert else contexts.verified
        host = f"[{route.ip}]" if ":" in route.ip else route.ip
        self._label = f"lmtp-client: conn {host}:{route.port} [{number}]: "
        self.waiting: dict[Any, None] = {}
        self.dead = False
        self._closed = False
        self._backend = Backend(order, self)
        self._transport: Plain | Tls | None = None
        self._fd = -1
        self._mask = 0
        self._out = b""
        self._ready = False             # connected
        self._sending = False
        self._spool: Spool | None = None
        self._head = b""
        self._offset = 0
        self._dots: DotWriter | None = None
        self._why = ("", "")
        self._deadline = 0.0
        self._timer: Timer | None = None
        self._connect()

    # --- what the transaction calls --------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """It may take more recipients."""
        return not self.dead and not self._closed and not self._backend.refuses

    def add(self, token: Any, recipient: bytes, forward: bytes) -> None:
        self.waiting[token] = None
        if self.dead:
            return                      # `lost` is on its way
        if self._timer is None:
            self._watch(COMMAND_TIMEOUT)
        self._backend.add(token, recipient, forward)
        self._flush()

    def send(self, head: bytes, spool: Spool, timeout: float) -> None:
        """The message, to those whom it has accepted."""
        if self.dead:
            self._tell()
            return
        self._head = head
        self._spool = spool
        self._watch(timeout)
        self._backend.send_message(len(head) + spool.size)
        self._flush()

    def end(self) -> None:
        """The transaction is over: say goodbye, whatever the state."""
        if self._closed:
            return
        if self._ready and not self.dead and not self._sending:
            self._backend.quit()
            self._flush()
        if not self._closed:
            self._shut()

    # --- proto.lmtp.backend.Owner ----------------------------------------------------------------------------------

    def recipient(self, token: Any, reply: Reply) -> None:
        self.waiting.pop(token, None)
        if not self.waiting and self._timer is not None:
            self._timer.cancel()        # nobody waits: the client may take its time for the message
            self._timer = None
        elif self._spool is None and not self._closed:
            self._watch(COMMAND_TIMEOUT)    # it answers: the next one has its own time
        self._owner.recipient(token, reply)

    def final(self, token: Any, reply: Reply) -> None:
        self.waiting.pop(token, None)
        self._owner.final(token, reply)

    def go(self, *, chunked: bool) -> None:
        self._dots = None if chunked else DotWriter()
        self._sending = True

    def secure(self) -> None:
        self._start_tls()

    def ready(self) -> None:
        if self._timer is not None:
            self._watch(COMMAND_TIMEOUT)

    def failed(self, kind: str, text: str, log: str) -> None:
        if log:
            self._log.error(self._label + log)
        self._say_quit()
        self._lose(kind, text)

    # --- the connection --------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._watch(CONNECT_TIMEOUT)
        route = self.route
        try:
            self._fd = connect.start(route.ip, route.port, route.source)
        except connect.ConnectFailed as error:
            if error.bind:
                self._log.error(f"bind({route.source}) failed: {error.text}")
            self._unreachable(error.text)
            return
        self._transport = Plain(self._fd)
        self._mask = OUT
        self._loop.register(self._fd, OUT, self._on_connected)

    def _unreachable(self, reason: str) -> None:
        host = f"[{self.route.ip}]" if ":" in self.route.ip else self.route.ip
        self._log.error(f"{self._label}connect({host}:{self.route.port}) failed: {reason}")
        self._lose(machine.CONNECT, "Failed to connect to remote server")

    def _on_connected(self, mask: int) -> None:
        error = connect.outcome(self._fd) if mask & (ERR | HUP) else ""
        if error:
            self._unreachable(error)
            return
        self._ready = True
        transport = self._transport
        assert isinstance(transport, Plain)
        if self._preface:
            try:
                transport.send(self._preface)       # nothing else is in the socket's buffer
            except Broken as broken:
                self._unreachable(str(broken))
                return
        if self._rawlog is not None:
            self._transport = self._rawlog.record(transport)
        self._loop.swap(self._fd, self._on_event)
        self._arm(IN)
        if self.route.mode == "ssl":
            self._start_tls()

    def _start_tls(self) -> None:
        assert isinstance(self._transport, Plain)
        try:
            self._transport = self._transport.secure(self._context, server_side=False, name=self.route.host)
        except Broken as error:
            self._tls_failed(str(error))
            return
        self._loop.swap(self._fd, self._shake)
        self._shake(IN)

    def _tls_failed(self, reason: str) -> None:
        where = self._label.partition("conn ")[2].partition(" ")[0]
        self._log.error(f"{self._label}SSL handshaking with {where} failed: {reason}")
        self._lose(machine.CONNECT, "Failed to connect to remote server")

    def _shake(self, mask: int) -> None:
        transport = self._transport
        assert isinstance(transport, Tls)
        try:
            if not transport.handshake():
                self._arm(transport.wants)
                return
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in (62, 64):       # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
                self._tls_failed(f"SSL certificate doesn't match expected host name {self.route.host}: "
                                 f"{error.verify_message}")
            else:
                self._tls_failed(f"Received invalid SSL certificate: {error.verify_message} "
                                 "(check ssl_client_ca_* settings?)")
            return
        except Broken as error:
            self._tls_failed(f"SSL_connect() failed: {error}")
            return
        self._loop.swap(self._fd, self._on_event)
        self._arm(IN)
        if self.route.mode == "starttls":
            self._backend.secured()
            self._flush()
        if self._transport is transport:
            self._on_event(IN)          # the greeting may have come with the end of the handshake

    def _on_event(self, mask: int) -> None:
        transport = self._transport
        try:
            if mask & OUT:
                self._flush()
            while self._transport is transport and transport is not None:
                data = transport.recv(_READ)
                if data is None:
                    break
                if not data:
                    self._closed_by_peer()
                    return
                self._backend.feed(data)
                self._flush()
                if self.dead:
                    return
                if isinstance(self._transport, Plain):
                    break               # others get their turn before the kernel is asked again
        except Broken as error:
            self._lose(machine.LOST, f"Lost connection to remote server: {error}")

    def _closed_by_peer(self) -> None:
        if self._backend.over:
            self._shut()
        else:
            self._lose(machine.LOST, "Lost connection to remote server: Remote closed connection unexpectedly")

    # --- output ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Commands first, then as much of the message as the backend takes now."""
        transport = self._transport
        if transport is None or self._closed:
            return
        self._out += self._backend.take_output()
        if not self._ready:
            return
        try:
            while True:
                if not self._out and not self._refill():
                    break
                sent = transport.send(self._out)
                if not sent:
                    break
                self._out = self._out[sent:]
                if self._sending:
                    self._progress()
        except Broken as error:
            if not self._backend.over:  # what it said before it went may still be there to be read
                self._read_last_words(str(error))
            return
        if self._transport is transport:
            self._arm(transport.wants | (OUT if self._out else 0))

    def _refill(self) -> bool:
        """The next piece of the message into the output; False: there is none."""
        if not self._sending or self._spool is None or self.dead:
            return False
        if self._head:
            piece, self._head = self._head, b""
        else:
            piece = self._spool.read(self._offset, PIECE)
            self._offset += len(piece)
        if not piece:
            self._sending = False
            self._backend.sent()
            self._out = self._dots.end() if self._dots is not None else b""
            return bool(self._out)
        self._out = self._dots.feed(piece) if self._dots is not None else piece
        return True

    def _read_last_words(self, error: str) -> None:
        transport = self._transport
        try:
            data = transport.recv(_READ) if transport is not None else None
        except Broken:
            data = None
        if data:
            self._backend.feed(data)
        if not self.dead and not self._backend.over:
            self._lose(machine.LOST, f"Lost connection to remote server: {error}")

    def _arm(self, mask: int) -> None:
        if mask != self._mask and not self._closed:
            self._mask = mask
            self._loop.modify(self._fd, mask)

    # --- time ------------------------------------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        """The next answer must be there by then."""
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = seconds
        self._timer = self._loop.call_later(seconds, self._overdue)

    def _progress(self) -> None:
        """A message that moves is not late; the timer is put off once a second at the most."""
        if self._timer is not None and self._timer.when - self._loop.now < self._deadline - 1:
            self._watch(self._deadline)

    def _overdue(self) -> None:
        if not self._ready:
            self._unreachable(f"Connection timed out after {self._deadline:.0f} seconds")
        elif self._spool is not None:
            self._say_quit()
            self._lose(machine.TIMED_OUT, "")
        else:
            self._log.error(f"{self._label}Command timed out after {self._deadline:.0f} seconds")
            self._lose(machine.TIMED_OUT, "Command timed out")

    # --- the end ---------------------------------------------------------------------------------------------------

    def _lose(self, kind: str, text: str) -> None:
        """All that wait here have failed; the owner hears of it a batch later, so that nobody is called from within
        his own call."""
        if self.dead:
            return
        self.dead = True
        self._why = kind, text
        self._shut()
        self._tell()

    def _tell(self) -> None:
        self._loop.call_later(0, lambda: self._owner.lost(self, *self._why))

    def _say_quit(self) -> None:
        """As far as it goes now, and not in the middle of the message."""
        if self._transport is None or self._sending or self._out:
            return
        try:
            self._transport.send(b"QUIT\r\n")
        except Broken:                  # it is gone already
            return

    def _shut(self) -> None:
        """Close; a farewell that could not be written at once is not worth waiting for."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._spool = None
        if self._transport is not None:
            self._loop.unregister(self._fd)
            self._transport.close()
            self._transport = None
