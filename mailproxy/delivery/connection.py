"""One client of the LMTP service: its socket, TLS, and the order of what it asks for.

In: an accepted socket.  Out: calls of the transaction and of the worker.  Limits: BUFFER_MAX bytes of commands that
wait for earlier ones, OUT_MAX bytes that the client does not read, IDLE seconds without a word.
"""
from __future__ import annotations

import os
import ssl
import struct
import time
import zlib
from binascii import b2a_base64
from typing import TYPE_CHECKING

from mailproxy.delivery.lookup import Lookups
from mailproxy.delivery.transaction import Transaction
from mailproxy.log.pipe import Log
from mailproxy.net.addr import packed
from mailproxy.net.loop import IN, OUT, Loop, Timer
from mailproxy.net.proxyhdr import build
from mailproxy.net.transport import Broken, Plain, Tls, reason
from mailproxy.proto.lmtp import frontend as machine
from mailproxy.proto.lmtp.frontend import (
    Begin,
    Chunk,
    Done,
    Event,
    Forwarded,
    Frontend,
    Mail,
    Quit,
    Recipient,
    StartTls,
)

if TYPE_CHECKING:
    from mailproxy.delivery.setup import Setup
    from mailproxy.delivery.worker import Worker

#: Seconds (Dovecot's).
IDLE = 300.0
READ = 65536
#: A client that pipelines more than this behind a command that is not answered yet is not read from.
BUFFER_MAX = 65536
#: A client that does not take its replies is not read from, and above this is disconnected.
OUT_PAUSE, OUT_MAX = 65536, 4 << 20
TTL = 5


class Connection:
    """`rip`, `rport`, `ttl`, …: what a trusted proxy in front says of the client, else what the socket says."""

    __slots__ = ("_closing", "_fd", "_forwarded", "_idle", "_links", "_mask", "_messages", "_number", "_out", "_peer",
                 "_session", "_shaking", "_transport", "closed", "frontend", "local", "rip", "rport", "setup",
                 "transaction", "ttl", "worker")

    def __init__(self, worker: Worker, fd: int, setup: Setup, remote: tuple[str, int], local: tuple[str, int],
                 number: int) -> None:
        self.worker = worker
        self.setup = setup
        self._fd = fd
        self._transport: Plain | Tls = Plain(fd)
        if setup.client_rawlog is not None:
            self._transport = setup.client_rawlog.record(self._transport)
        self.rip, self.rport = remote
        self._peer = remote[0]
        self.local = local
        self.ttl: int | None = None
        self._forwarded: dict[str, str] = {}
        self._number = number
        self._session = session_id(setup.hostname)
        self._messages = 0
        self._links = 0
        self.transaction: Transaction | None = None
        self._out = b""
        self._mask = IN
        self._closing = ""              # why, once the farewell is in the output
        self._shaking = False
        self.closed = False
        self._idle: Timer | None = None
        self.frontend = Frontend(setup.offer, trusted=remote[0] in setup.trusted)

    def begin(self, *, implicit_tls: bool) -> None:
        self.worker.log.info(f"Connect from {self._who}")
        self._touch()
        self.worker.loop.register(self._fd, IN, self._event)
        if implicit_tls:
            self._start_tls()
        else:
            self._advance()

    # --- what the transaction asks for -----------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        return self.worker.loop

    @property
    def log(self) -> Log:
        return self.worker.log

    @property
    def lookups(self) -> Lookups:
        return self.worker.lookups

    def answer(self, recipient: Recipient, reply: bytes, *, accepted: bool, tried: bool = True) -> None:
        self.frontend.answer(recipient, reply, accepted=accepted, tried=tried)
        self._soon()

    def final(self, reply: bytes) -> None:
        self.frontend.final(reply)
        self._soon()

    def delivered(self) -> None:
        """Every recipient is answered."""
        self.transaction = None
        self.frontend.finished()
        if self.closed:
            self.worker.ended(self)
        else:
            self._touch()               # it waited for us
            self._soon()

    def next_link(self) -> int:
        self._links += 1
        return self._links

    def lookup_parameters(self, recipient: Recipient) -> dict[str, str]:
        found = {"service": "lmtp"}
        for key, value in (("lip", self.local[0]), ("rip", self.rip), ("lport", self.local[1]), ("rport", self.rport)):
            if value:
                found[key] = str(value)
        if recipient.forward:
            # the auth server takes a word without = for a field of its own, such as `proxy`: not from here
            words = recipient.forward.decode("utf-8", "surrogateescape").split("\t")
            found["forward_fields"] = "\t".join(word if "=" in word else word + "=" for word in words if word)
        return found

    def identity(self, session: str, *, smtp: bool) -> tuple[tuple[bytes, bytes], ...]:
        """XCLIENT parameters: who the client is, in Dovecot's order."""
        said = self._forwarded
        helo = said.get("helo", "") or self.frontend.helo.decode("ascii", "replace")
        address = f"IPV6:{self.rip}" if smtp and ":" in self.rip else self.rip
        rows = (("HELO", helo), ("PROTO", said.get("proto", "LMTP")), ("LOGIN", said.get("login", "")),
                ("SESSION", session), ("TTL", str(TTL if self.ttl is None else max(self.ttl - 1, 0))),
                ("PORT", str(self.rport or "")), ("ADDR", address))
        return tuple((key.encode(), value.encode("utf-8", "surrogateescape")) for key, value in rows if value)

    def proxy_header(self) -> bytes:
        """What a backend behind a PROXY header is told."""
        return build((packed(self.rip), self.rport), (packed(self.local[0]), self.local[1]))

    def tls_words(self) -> str:
        transport = self._transport
        used = transport.sock.cipher() if isinstance(transport, Tls) else None
        if used is None:
            return ""
        assert isinstance(transport, Tls)
        return f"{transport.sock.version()} with cipher {used[0]} ({used[2]}/{used[2]} bits)"

    def _label(self) -> str:
        if not self.rip:
            return f"lmtp-server: conn unix [{self._number}]: "
        host = f"[{self.rip}]" if ":" in self.rip else self.rip
        return f"lmtp-server: conn {host}:{self.rport} [{self._number}]: "

    def log_info(self, text: str) -> None:
        self.worker.log.info(self._label() + text)

    def log_error(self, text: str) -> None:
        self.worker.log.error(self._label() + text)

    @property
    def _who(self) -> str:
        return self.rip or "local"

    # --- events ----------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Replies are written, and commands that waited go on, when the present batch is done."""
        self.worker.touched[self] = None

    def advance(self) -> None:
        if not self.closed:
            self._advance()

    def _event(self, mask: int) -> None:
        if self._shaking:
            self._shake()
            return
        if mask & OUT:
            self._write()
        if self.closed or not mask & ~OUT:
            return
        try:
            data = self._transport.recv(READ)
            while data is not None:
                if not data:
                    self._gone("Connection closed")
                    return
                self._touch()
                self.frontend.feed(data)
                self._advance()
                if self.closed or self._shaking or not isinstance(self._transport, Tls) or not self._reads():
                    return
                data = self._transport.recv(READ)
            self._arm()
        except Broken as error:
            self._gone(f"Connection closed: {error}")

    def _advance(self) -> None:
        """Do what is asked for, as far as it goes now."""
        frontend = self.frontend
        while not self.closed and not self._closing and not self._shaking:
            event = frontend.next_event()
            if event is None:
                break
            self._handle(event)
        self._write()

    def _handle(self, event: Event) -> None:
        transaction = self.transaction
        if isinstance(event, Chunk):
            if transaction is not None:
                transaction.chunk(event.data)
        elif isinstance(event, Recipient):
            if transaction is not None:
                transaction.add(event)
        elif isinstance(event, Mail):
            self._messages += 1
            session = self._session if self._messages == 1 else f"{self._session}:T{self._messages}"
            self.transaction = Transaction(self, event, session)
        elif isinstance(event, Begin):
            if transaction is not None:
                transaction.begin()
        elif isinstance(event, Done):
            if transaction is not None:
                transaction.deliver()
        elif isinstance(event, StartTls):
            self._write()
            if self.frontend.buffered:
                self._gone("Connection closed: Plain text behind STARTTLS")
            else:
                self._start_tls()
        elif isinstance(event, Forwarded):
            self._forward(event.said)
        elif isinstance(event, Quit):
            self._closing = event.reason
        elif transaction is not None:       # Reset
            self.transaction = None
            transaction.end()

    def _forward(self, said: dict[str, str]) -> None:
        self._forwarded.update(said)
        self.rip = said.get("rip", self.rip)
        if "rport" in said:
            self.rport = int(said["rport"])
        if "ttl" in said:
            self.ttl = int(said["ttl"])
        self._session = said.get("session", self._session)

    # --- output ----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self._out += self.frontend.take_output()
        try:
            while self._out:
                sent = self._transport.send(self._out)
                if not sent:
                    break
                self._out = self._out[sent:]
        except Broken:
            self._out = b""             # the next read tells why
        if self._closing and (not self._out or len(self._out) > OUT_MAX):
            self._gone(self._closing)
        elif len(self._out) > OUT_MAX:
            self._gone("Client output buffer full")
        else:
            self._arm()

    def _reads(self) -> bool:
        return not self._closing and self.frontend.buffered < BUFFER_MAX and len(self._out) < OUT_PAUSE

    def _arm(self) -> None:
        if self.closed or self._shaking:
            return
        mask = (self._transport.wants if self._reads() else 0) | (OUT if self._out else 0)
        if mask != self._mask:
            self._mask = mask
            self.worker.loop.modify(self._fd, mask)
        if isinstance(self._transport, Tls) and self._transport.pending() and self._reads():
            self._soon_read()

    def _soon_read(self) -> None:
        """Decrypted bytes raise no event."""
        self.worker.loop.call_later(0, lambda: None if self.closed or self._shaking else self._event(IN))

    # --- TLS -------------------------------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        context = self.setup.contexts.server
        if context is None or self._out or not isinstance(self._transport, Plain):
            self._gone("TLS initialization failed")
            return
        try:
            self._transport = self._transport.secure(context, server_side=True)
        except Broken as error:
            self._gone(f"Connection closed: {error}")
            return
        self._shaking = True
        self._shake()

    def _shake(self) -> None:
        transport = self._transport
        assert isinstance(transport, Tls)
        try:
            done = transport.handshake()
        except (Broken, ssl.SSLError) as error:
            words = str(error) if isinstance(error, Broken) else reason(error)
            self._gone(f"Connection closed: SSL_accept() failed: {words}")
            return
        if not done:
            if self._mask != transport.wants:
                self._mask = transport.wants
                self.worker.loop.modify(self._fd, self._mask)
            return
        self._shaking = False
        self._mask = -1
        self.frontend.secured()
        self._advance()

    # --- the end ---------------------------------------------------------------------------------------------------

    def _touch(self) -> None:
        if self._idle is None or self._idle.when - self.worker.loop.now < IDLE - 1:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = self.worker.loop.call_later(IDLE, self._is_idle)

    def _is_idle(self) -> None:
        if self.transaction is not None and self.transaction.delivering:
            self._idle = self.worker.loop.call_later(IDLE, self._is_idle)
        else:
            self.hang_up(b"4.4.2", "Disconnected for inactivity")

    def hang_up(self, code: bytes, why: str, text: str = "") -> None:
        """We end it, and say so."""
        if self.closed:
            return
        self.frontend.bye(code, (text or why).encode())
        self._closing = why
        self._write()
        if not self.closed:
            self._gone(why)

    def _gone(self, why: str) -> None:
        """The connection is over.  A message that is complete goes its way all the same."""
        if self.closed:
            return
        self.closed = True
        if self._idle is not None:
            self._idle.cancel()
        state = machine.STATES[self.frontend.state]
        if why.startswith("Connection closed") and self.frontend.unfinished:
            why = why.replace("Connection closed", f"Connection closed (unfinished {self.frontend.unfinished} command)",
                              1)
        self.worker.loop.unregister(self._fd)
        self._transport.close()
        self.worker.log.info(f"Disconnect from {self._who}: {why} (state={state})")
        transaction = self.transaction
        if transaction is not None:
            if transaction.delivering:
                return                  # the worker hears of us when it is done
            transaction.end()
            self.transaction = None
        self.worker.ended(self)

    def fail(self) -> None:
        """A bug of ours: without a word."""
        if self.transaction is not None:
            self.transaction.end()
            self.transaction = None
        self._gone("Internal error")


_last = 0


def session_id(hostname: bytes) -> str:
    """22 characters, unique among all processes and machines: time, process, machine."""
    global _last
    _last = max(time.time_ns(), _last + 1)
    raw = struct.pack("<IIII", _last % 1_000_000_000, _last // 1_000_000_000, os.getpid(), zlib.crc32(hostname))
    return b2a_base64(raw, newline=False).decode().rstrip("=")
