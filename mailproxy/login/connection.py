"""One client's two connections and its timers: what a session's ports are made of.

In: an accepted socket.  Out: calls of the session; finally a relay between the two connections, and a word to the
worker when it is over.  Limits: OUT_MAX bytes that the client does not read, one read of READ bytes at a time.
(Long, because the ports of both sides share one owner of descriptors and masks.)
"""
from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailproxy.log.pipe import DEBUG
from mailproxy.login import session as states
from mailproxy.login.handoff import Handoff, MailService
from mailproxy.login.proxied import Lent, Proxied, ProxiedTls
from mailproxy.login.proxying import Proxying
from mailproxy.login.session import Session
from mailproxy.login.setup import Setup
from mailproxy.login.target import Target
from mailproxy.net import connect
from mailproxy.net.loop import ERR, HUP, IN, OUT, RDHUP, Loop, Timer
from mailproxy.net.proxyhdr import WITH_TLS, TlsInfo
from mailproxy.net.tls import server_name, subject_line, subject_name
from mailproxy.net.transport import Broken, Plain, Tls, ended_rudely
from mailproxy.proto import spec
from mailproxy.relay.relay import Relay

if TYPE_CHECKING:
    from mailproxy.login.worker import Worker

#: Bytes taken from a client or backend at once before login.
READ = 4096
#: Bytes that wait for a client who does not read; more, and it is disconnected.
OUT_MAX = 4096
#: Bytes that wait for a backend before login: many times the longest dialogue of one that reads.
BACKEND_OUT_MAX = 65536
_RESET = os.strerror(errno.ECONNRESET)


def _unasked() -> None:
    """Nobody waits for a handshake."""


def _nothing(mask: int) -> None:
    """The handler of a descriptor that a relay takes over at once."""


class Connection:
    """Implements login.ports.Io."""

    __slots__ = ("_backend", "_backend_fd", "_backend_mask", "_backend_out", "_client", "_connected", "_fd", "_loop",
                 "_mask", "_out", "_reading", "_sent", "_sent_backend", "_shaken", "session", "worker")

    session: Session

    def __init__(self, worker: Worker, fd: int, setup: Setup, remote: tuple[str, int],
                 local: tuple[str, int], listener: str) -> None:
        self.worker = worker
        self._loop: Loop = worker.loop
        self._client: Plain | Tls = Plain(fd)
        self._fd = fd
        self._mask = IN
        self._out = b""
        self._sent = 0
        self._reading = False
        self._backend: Plain | Tls | None = None
        self._backend_fd = -1
        self._backend_mask = 0
        self._backend_out = b""
        self._sent_backend = 0
        self._connected = False
        self._shaken: Callable[[], None] = _unasked     # what follows the client's TLS handshake
        self.session = Session(setup, self, setup.frontend(remote[0], local[0]),
                               remote, local, listener)

    def begin(self, *, implicit_tls: bool) -> None:
        self._loop.register(self._fd, IN, self._on_client)
        if implicit_tls:
            self.session.handshaking()
            self.start_tls(self._implicit_ready)
        else:
            self.session.begin()

    def _implicit_ready(self) -> None:
        self.session.begin(tls=True)

    # --- client ----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._loop.now

    def later(self, delay: float, call: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, call)

    def send(self, data: bytes) -> None:
        if self._out:
            self._out += data
        else:
            try:
                sent = self._client.send(data)
            except Broken:              # the next read tells the session
                return
            self._sent += sent
            if sent == len(data):
                return
            self._out = data[sent:]
        self._flush_client()
        if len(self._out) > OUT_MAX and self.session.state not in (states.CLOSED, states.RELAY):
            self._out = b""
            self.session.close("Client output buffer full")

    def _flush_client(self) -> None:
        try:
            while self._out:
                sent = self._client.send(self._out)
                if not sent:
                    break
                self._sent += sent
                self._out = self._out[sent:]
        except Broken:
            self._out = b""
        self._arm()

    def _arm(self) -> None:
        mask = (self._client.wants if self._reading or self.session.state == states.HANDSHAKE else RDHUP) \
            | (OUT if self._out else 0)
        if mask != self._mask and self._mask >= 0:
            self._mask = mask
            self._loop.modify(self._fd, mask)

    def resume_reading(self) -> None:
        """The session wants commands: give it what waits in the TLS layer or the socket."""
        if self._reading:
            return
        self._reading = True
        if self._mask != IN:
            self._arm()
        client = self._client
        if isinstance(client, Tls) and client.pending():
            # decrypted bytes raise no event; a batch later, so that a flood of commands is no recursion
            self._loop.call_later(0, self._read_waiting)

    def _read_waiting(self) -> None:
        if self._reading and self.session.state not in (states.CLOSED, states.RELAY):
            self._read()

    def _on_client(self, mask: int) -> None:
        if self._out and mask & OUT:
            self._flush_client()
        if self._reading:
            self._read()
        elif mask & (IN | RDHUP | HUP | ERR):
            self._while_busy(mask)

    def _read(self) -> None:
        session = self.session
        client = self._client
        try:
            while True:
                data = client.recv(READ)
                if data is None:
                    if client.tls:
                        self._arm()
                    return
                if not data:
                    self._reading = False
                    if isinstance(client, Tls) and client.failure:
                        session.tls_end = f": {client.failure}"
                    session.client_gone()
                    return
                if not session.client_data(data):
                    self._reading = False
                    return
                if not isinstance(client, Tls) or not client.pending():
                    return              # others get their turn before the kernel is asked again
        except Broken as error:
            self._reading = False
            if isinstance(client, Tls):
                session.tls_end = f": {error}"
            session.client_gone(str(error))

    def _while_busy(self, mask: int) -> None:
        """A login is in progress and the client's bytes are left alone.  But one who is gone needs no backend."""
        client = self._client
        if mask & (HUP | ERR) or (mask & RDHUP if isinstance(client, Tls) else client.at_end()):
            if self.session.state in (states.BACKEND, states.RETRY) or mask & (HUP | ERR):
                self.session.client_gone()
                return
            self._mask = 0              # half-closed: it may still want to hear the answer
            self._loop.modify(self._fd, 0)
            return
        self._mask = RDHUP
        self._loop.modify(self._fd, RDHUP)

    # --- client TLS ------------------------------------------------------------------------------------------------

    def start_tls(self, ready: Callable[[], None] | None = None) -> None:
        """Handshake as the server; `ready` is called when it is done (None: STARTTLS)."""
        context = self.session.shared.contexts.server
        self._reading = False
        if context is None or self._out:    # clear text that the client has not taken must not go through TLS
            self.session.tls_failed()
            return
        assert isinstance(self._client, Plain)
        if ready is None:
            self._sent = 0              # logs count what goes through TLS
        try:
            self._client = Tls(self._client, context, server_side=True)
        except Broken:
            self.session.tls_failed()
            return
        done = ready or self.session.tls_ready
        self._shaken = done
        self._loop.swap(self._fd, self._shake)
        self._arm()                     # the first message is the client's

    def _shake(self, mask: int) -> None:
        client = self._client
        assert isinstance(client, Tls)
        try:
            finished = client.handshake()
        except (Broken, ssl.SSLError) as error:
            text = _handshake_words(error)
            self.session.tls_error = text or "Connection closed"
            if self.session.shared.policy.verbose_tls:
                self.session.shared.log.write(DEBUG, f"SSL error: {self.session.tls_error}")
            self.session.client_gone(text)
            return
        if not finished:
            self._arm()
            return
        self._loop.swap(self._fd, self._on_client)
        self.session.local_name = server_name(client.sock)
        policy = self.session.shared.policy
        if policy.wants_cert:           # now: a stream that has ended rudely tells no more
            self.session.cert_name = subject_name(client.sock, policy.cert_field)
            if policy.verbose_tls and self.session.cert_name is not None:
                self.session.shared.log.info(f"Received valid SSL certificate: {subject_line(client.sock)}")
        done, self._shaken = self._shaken, _unasked     # no reference to ourselves stays behind
        done()

    def cipher(self) -> str:
        """%k"""
        if not isinstance(self._client, Tls):
            return ""
        used = self._client.sock.cipher()
        if used is None:
            return ""
        return f"{used[1]} with cipher {used[0]} ({used[2]}/{used[2]} bits)"

    def close(self) -> None:
        """The client's connection, once what waits for it is out (as far as it takes it now)."""
        self._reading = False
        if self._out:
            try:
                self._client.send(self._out)
            except Broken:
                self._out = b""
        self._loop.forget(self._fd)
        self._client.close()
        self.worker.ended(self)

    def fail(self) -> None:
        """End it without a word: the session is not to be trusted any more."""
        self.session.abandon()
        self.backend_close()
        self._out = b""
        self.close()

    # --- backend ---------------------------------------------------------------------------------------------------

    def connect(self, target: Target, source: str | None) -> str:
        """Start connecting; "" or why it failed at once."""
        self._connected = False
        self._backend_out = b""
        self._sent_backend = 0
        try:
            fd = connect.start(target.ip, target.port, source)
        except connect.ConnectFailed as error:
            if error.bind:
                self.session.shared.log.error(f"bind({source}) failed: {error.text}")
            return error.text
        self._backend = Plain(fd)
        self._backend_fd = fd
        self._backend_mask = OUT if target.tls or target.haproxy else IN
        self._loop.register(self._backend_fd, self._backend_mask, self._on_backend)
        return ""

    def _proxying(self) -> Proxying:
        """Whose connection to a backend this is."""
        proxying = self.session.proxying
        assert proxying is not None
        return proxying

    def backend_connected(self) -> bool:
        return self._backend is not None and connect.connected(self._backend_fd)

    def backend_local(self) -> str:
        return connect.local_name(self._backend_fd) if self._backend is not None else ""

    def _on_backend(self, mask: int) -> None:
        backend = self._backend
        if backend is None:
            return
        if not self._connected:
            if mask & (ERR | HUP):
                error = connect.outcome(self._backend_fd)
                if error == _RESET:         # a connection that is only being made is refused, not reset
                    self._proxying().gone(f"read(size={READ}) failed: {error}")
                    return
                if error:
                    self._proxying().unreachable(error)
                    return
            self._connected = True
            target = self._proxying().target
            rawlog = self.session.shared.rawlog
            if rawlog is not None:
                assert isinstance(backend, Plain)
                self._backend = backend = rawlog.record(backend)
            if target.haproxy and not self._introduce(backend, target):
                return
            if target.tls:
                self.backend_tls(target)
                return
        if self._backend_out and mask & OUT:
            self._flush_backend()
        session = self.session
        proxying = self._proxying()
        try:
            while True:
                data = backend.recv(READ)
                if data is None:
                    self._arm_backend()
                    return
                if not data:
                    proxying.gone("")
                    return
                proxying.data(data)
                if session.state != states.BACKEND or self._backend is not backend \
                        or not isinstance(backend, Tls) or not backend.pending():
                    return              # others get their turn before the kernel is asked again
        except Broken as error:
            proxying.gone(str(error))

    def _introduce(self, backend: Plain | Tls, target: Target) -> bool:
        """Say whom the connection is for, before anything else; False if that was its end."""
        header = self.session.proxy_header(self._client_tls() if target.haproxy == WITH_TLS else None)
        try:
            whole = backend.send(header) == len(header)     # nothing else is in the socket's buffer
        except Broken as error:
            self._proxying().gone(str(error))
            return False
        if not whole:
            self._proxying().gone("write() of the PROXY header failed")
        return whole

    def _client_tls(self) -> TlsInfo | None:
        session = self.session
        if not isinstance(self._client, Tls):
            return TlsInfo("", "", session.cert_name or "") if session.outer_tls else None
        used = self._client.sock.cipher()
        # %{local_name} and the name in the certificate are those of the handshake
        return TlsInfo(self._client.sock.version() or "", used[0] if used else "", session.cert_name or "")

    def backend_send(self, data: bytes) -> None:
        if self._backend_out:
            self._backend_out += data
        else:
            assert self._backend is not None
            try:
                sent = self._backend.send(data)
            except Broken:              # the read that follows tells why
                return
            self._sent_backend += sent
            if sent == len(data):
                return
            self._backend_out = data[sent:]
        self._flush_backend()
        if len(self._backend_out) > BACKEND_OUT_MAX:
            self._proxying().fail(spec.REMOTE, "Output buffer full", retry=False)

    def _flush_backend(self) -> None:
        assert self._backend is not None
        try:
            while self._backend_out:
                sent = self._backend.send(self._backend_out)
                if not sent:
                    break
                self._sent_backend += sent
                self._backend_out = self._backend_out[sent:]
        except Broken:
            self._backend_out = b""
        self._arm_backend()

    def _arm_backend(self) -> None:
        assert self._backend is not None
        mask = self._backend.wants | (OUT if self._backend_out else 0)
        if mask != self._backend_mask:
            self._backend_mask = mask
            self._loop.modify(self._backend_fd, mask)

    def backend_tls(self, target: Target) -> None:
        """TLS towards the backend, now."""
        contexts = self.session.shared.contexts
        context = contexts.any_cert if target.any_cert else contexts.verified
        assert isinstance(self._backend, Plain)
        try:
            self._backend = self._backend.secure(context, server_side=False, name=target.host)
        except Broken as error:
            self._proxying().broken(str(error))
            return
        self._sent_backend = 0
        self._loop.swap(self._backend_fd, self._shake_backend)
        self._shake_backend(IN)

    def _shake_backend(self, mask: int) -> None:
        backend = self._backend
        assert isinstance(backend, Tls)
        try:
            finished = backend.handshake()
        except ssl.SSLCertVerificationError as error:
            self._proxying().gone(_certificate_words(error, self._proxying().target.host), final=True)
            return
        except Broken as error:
            if not self.backend_connected() or str(error).startswith("Connection") or "eof" in str(error).lower():
                self._proxying().gone(str(error))
            else:
                self._proxying().broken(f"SSL_connect() failed: {error}")
            return
        if not finished:
            if self._backend_mask != backend.wants:
                self._backend_mask = backend.wants
                self._loop.modify(self._backend_fd, backend.wants)
            return
        self._loop.swap(self._backend_fd, self._on_backend)
        self._arm_backend()
        self._proxying().tls_ready()
        # the banner may have come in the same record as the end of the handshake
        if self._backend is backend and self.session.state == states.BACKEND:
            self._on_backend(IN)

    def backend_close(self) -> None:
        if self._backend is not None:
            self._loop.forget(self._backend.fd)
            self._backend.close()
            self._backend = None

    # --- relay -----------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Break the reference cycles of a connection that has ended, so that its memory is free at once."""
        self.session.let_go()
        self._backend = None

    def hand_over(self, label: str, elements: str, to_backend: bytes, to_client: bytes) -> None:
        """The login is done: from now on only bytes.  The session and this object end here."""
        backend = self._backend
        assert backend is not None
        session = self.session
        kind = ProxiedTls if self._client.tls else Proxied
        proxied = kind(self.worker, session.shared, label, elements, session.real_rip)
        self._relay(proxied, backend, to_backend, to_client)
        target = self._proxying().target
        if target.refresh and proxied in self.worker.proxied:       # it may have ended already
            self.worker.refresh(proxied, target.destuser, target.refresh)

    def _relay(self, proxied: Proxied, backend: Plain | Tls, to_backend: bytes, to_client: bytes) -> None:
        proxied.relay = relay = Relay(self._loop, self._client, backend, proxied.done)
        self.worker.proxying(self, proxied)
        relay.start(to_client=self._out + to_client, to_backend=self._backend_out + to_backend,
                    sent_client=self._sent, sent_backend=self._sent_backend,
                    client_mask=self._mask, backend_mask=self._backend_mask)

    # --- hand-off to a mail process --------------------------------------------------------------------------------

    def hand_off(self, request: int, service: MailService, said: bytes, leftover: bytes) -> Handoff:
        return Handoff(self._loop, self, request, service, said, leftover)

    def lend(self, may_have_all: bool) -> tuple[int, bool]:
        """A descriptor for a mail process; is it the client's own, and all of what it is to have?  Else it is one end
        of a pair, to be closed when it was sent, and we relay to the other."""
        if may_have_all and not self._client.tls and not self._out:
            self._loop.unregister(self._fd)         # a copy elsewhere would keep it in our epoll set
            self._mask = -1                         # not watched any more
            return self._fd, True
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._backend = Plain(ours.detach())
        return theirs.detach(), False

    def taken(self, leftover: bytes) -> None:
        """The mail process has it, or has told the client why not: what is left to do is relaying, if anything."""
        backend = self._backend
        if backend is None:
            self.close()
            return
        self._loop.register(backend.fd, 0, _nothing)
        self._backend_mask = 0
        session = self.session
        self._relay(Lent(self.worker, session.shared, "", "", session.real_rip), backend, leftover, b"")


def _handshake_words(error: Exception) -> str:
    """Why a client's handshake failed; "" if it just went."""
    cause = error.__cause__
    if ended_rudely(cause):
        return ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Received invalid SSL certificate: {error.verify_message}"
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        return f"read(size={READ}) failed: {error}"
    return f"SSL_accept() failed: {error}"


def _certificate_words(error: ssl.SSLCertVerificationError, host: str) -> str:
    """Dovecot's words for a certificate that was refused."""
    if error.verify_code in (62, 64):       # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
        return (f"SSL certificate doesn't match expected host name {host}: "
                "did not match to any IP or DNS fields")
    return f"Received invalid SSL certificate: {error.verify_message} (check ssl_client_ca_* settings?)"
