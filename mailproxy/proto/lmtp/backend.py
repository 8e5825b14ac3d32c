"""The client side of LMTP (or, with `protocol=smtp`, SMTP) for one transaction on one backend.

In: the backend's bytes, recipients, the size of the message.  Out: bytes for the backend, and calls of the owner:
    recipient(token, reply)     the answer to a RCPT (or to MAIL, or to what came before it, if that was a refusal)
    go(chunked)                 send the message now; `chunked`: it goes out as it is, else with its dots doubled
    final(token, reply)         the answer for one recipient after the message
    secure()                    handshake now, then call secured()
    ready()                     greetings are over, the envelope begins
    failed(kind, text, log)     nothing more will come; tokens without an answer have failed
It must not know of sockets or times.  Nothing is said before all that came was read, and a reply that nothing was
sent for is the end: the backend's replies and our commands no longer match.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mailproxy.proto.smtp import wire
from mailproxy.proto.smtp.wire import Reply, ReplyReader

# What a connection can die of; the words are those of the client's reply.
CONNECT, LOST, BAD_REPLY, TIMED_OUT = "connect", "connection lost", "bad reply", "timed out"

#: What a reply answers; IGNORED: a RCPT behind a refused MAIL.
GREETING, HELLO, STARTTLS, XCLIENT, MAIL, RCPT, DATA, FINAL, IGNORED = range(9)
#: What is to be said next, when all replies are in.
_SAY_NOTHING, _SAY_HELLO, _SAY_STARTTLS, _SAY_XCLIENT, _SAY_ENVELOPE = range(5)
Token = Any

#: Our wire's words for a broken reply -> Dovecot's.
_REASONS = (("Invalid SMTP reply", "Invalid status code in reply"), ("Too long input line", "Reply exceeds size limit"))


class Owner(Protocol):
    def recipient(self, token: Token, reply: Reply) -> None: ...
    def go(self, *, chunked: bool) -> None: ...
    def final(self, token: Token, reply: Reply) -> None: ...
    def secure(self) -> None: ...
    def ready(self) -> None: ...
    def failed(self, kind: str, text: str, log: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What is the same for all recipients on this backend."""

    hostname: bytes
    sender: bytes                       # between < and >
    body: bytes = b""                   # BODY= of the client's MAIL
    smtp: bool = False
    starttls: bool = False
    identity: tuple[tuple[bytes, bytes], ...] = ()      # XCLIENT keys in the order in which they go out


def shown(reply: Reply) -> str:
    """In one line, for logs and verbose replies."""
    words = (b"%d" % reply.code, reply.enhanced, *reply.lines)
    return b" ".join(word for word in words if word).decode("utf-8", "replace")


class Backend:
    __slots__ = ("_accepted", "_caps", "_expected", "_identified", "_mailed", "_next", "_order", "_out", "_owner",
                 "_queue", "_reader", "_refused", "_secured", "_sending", "_size", "over")

    def __init__(self, order: Order, owner: Owner) -> None:
        self._order = order
        self._owner = owner
        self._reader = ReplyReader(enhanced=True)
        self._caps: dict[bytes, tuple[bytes, ...]] = {}
        self._expected: deque[tuple[int, Token]] = deque([(GREETING, None)])
        self._next = _SAY_NOTHING
        self._queue: deque[tuple[Token, bytes, bytes]] = deque()
        self._out: list[bytes] = []
        self._accepted: list[Token] = []
        self._secured = self._identified = self._mailed = False
        self._refused: Reply | None = None
        self._size = -1
        self._sending = False
        self.over = False               # nothing more happens here

    # --- what the owner calls --------------------------------------------------------------------------------------

    def add(self, token: Token, recipient: bytes, forward: bytes) -> None:
        """One more recipient: `recipient` is `<path> parameters`, `forward` is a parameter for backends that know it.
        The answer may come at once."""
        if self._refused is not None:
            self._owner.recipient(token, self._refused)
            return
        self._queue.append((token, recipient, forward))
        self._work()

    @property
    def refuses(self) -> bool:
        """It has refused the sender, or us."""
        return self._refused is not None

    def send_message(self, size: int) -> None:
        """To those who were accepted.  Owner.go says when."""
        self._size = size
        self._work()

    def sent(self) -> None:
        """The whole message is out."""
        self._sending = False

    def secured(self) -> None:
        """TLS runs: nothing that was said before counts."""
        self._secured = True
        self._caps = {}
        self._next = _SAY_HELLO
        self._work()

    def quit(self) -> None:
        """Say goodbye, unless what we say would be taken for the message."""
        if not self.over:
            self.over = True
            if not self._sending:
                self._out.append(b"QUIT\r\n")

    def take_output(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def feed(self, data: bytes) -> None:
        if self.over:
            return
        self._reader.feed(data)
        try:
            while not self.over:
                reply = self._reader.next_reply()
                if reply is None:
                    self._work()
                    return
                self._reply(reply)
        except wire.BadReply as error:
            if b"\0" in error.line:
                self._fail("Encountered stray 0x00 in reply text")
            else:
                text = str(error)
                self._fail(next((words for start, words in _REASONS if text.startswith(start)), text))

    # --- replies ---------------------------------------------------------------------------------------------------

    def _fail(self, what: str) -> None:
        self.over = True
        self._owner.failed(BAD_REPLY, "Got invalid reply", f"Invalid command reply: {what}")

    def _unexpected(self, reply: Reply) -> None:
        self.over = True
        self._owner.failed(BAD_REPLY, "Got unexpected reply", f"Unexpected reply: {shown(reply)}")

    def _reply(self, reply: Reply) -> None:
        if reply.code == 421:
            self.over = True
            self._owner.failed(LOST, shown(reply), "")
        elif not self._expected:
            self._unexpected(reply)
        else:
            state, token = self._expected.popleft()
            if 300 <= reply.code < 400 and state != DATA:
                self._unexpected(reply)
            else:
                _HANDLERS[state](self, reply, token)

    def _greeted(self, reply: Reply, token: Token) -> None:
        if reply.code == 220:
            self._next = _SAY_HELLO
        else:
            self._refuse(reply)

    def _offered(self, reply: Reply, token: Token) -> None:
        if not reply.is_success():
            self._refuse(reply)
            return
        self._caps = wire.capabilities(reply.lines)
        if self._order.starttls and not self._secured:
            self._next = _SAY_STARTTLS
        elif not self._identified and self._identity():
            self._next = _SAY_XCLIENT
        else:
            self._next = _SAY_ENVELOPE
            self._owner.ready()

    def _identity(self) -> list[tuple[bytes, bytes]]:
        """What the backend wants to know of the client."""
        wanted = self._caps.get(b"XCLIENT", ())
        return [(key, value) for key, value in self._order.identity if key in wanted]

    def _may_secure(self, reply: Reply, token: Token) -> None:
        if reply.code != 220:
            self._refuse(reply)
        elif self._reader.leftover():
            text = "Plain text behind the reply to STARTTLS"
            self.over = True
            self._owner.failed(CONNECT, text, text)
        else:
            self._next = _SAY_NOTHING
            self._owner.secure()

    def _identified_as(self, reply: Reply, token: Token) -> None:
        if not reply.is_success():
            self._refuse(reply)
        elif not self._expected:
            self._next = _SAY_HELLO

    def _mail_taken(self, reply: Reply, token: Token) -> None:
        if not reply.is_success():
            behind, self._expected = self._expected, deque((IGNORED, None) for _ in self._expected)
            self._refuse(reply)
            for _, recipient in behind:
                self._owner.recipient(recipient, reply)

    def _rcpt_taken(self, reply: Reply, token: Token) -> None:
        if reply.is_success():
            self._accepted.append(token)
        self._owner.recipient(token, reply)

    def _data_taken(self, reply: Reply, token: Token) -> None:
        if reply.code == 354:
            self._start(chunked=False)
        elif reply.code < 400:
            self._unexpected(reply)
        else:
            self.quit()
            for recipient in self._accepted:
                self._owner.final(recipient, reply)

    def _saved(self, reply: Reply, token: Token) -> None:
        if self._sending and reply.is_success():        # of a message that it does not have yet
            self._unexpected(reply)
            return
        done = not self._expected
        if done:
            self.quit()
        for recipient in self._accepted if self._order.smtp else (token,):
            self._owner.final(recipient, reply)

    def _ignore(self, reply: Reply, token: Token) -> None:
        """It is known already what became of it."""

    def _refuse(self, reply: Reply) -> None:
        """The backend wants no mail from us: its answer is that to every recipient."""
        self._refused = reply
        self._next = _SAY_NOTHING
        waiting, self._queue = self._queue, deque()
        for token, _, _ in waiting:
            self._owner.recipient(token, reply)

    # --- commands --------------------------------------------------------------------------------------------------

    def _say(self, line: bytes, state: int, token: Token = None) -> None:
        self._out.append(line + b"\r\n")
        self._expected.append((state, token))

    def _work(self) -> None:
        """Say what can be said now."""
        if self.over or self._next == _SAY_NOTHING:
            return
        if self._next == _SAY_ENVELOPE:
            self._envelope()
            return
        if self._expected:
            return
        said, self._next = self._next, _SAY_NOTHING
        if said == _SAY_HELLO:
            self._say((b"EHLO " if self._order.smtp else b"LHLO ") + self._order.hostname, HELLO)
        elif said == _SAY_XCLIENT:
            self._identified = True
            for line in wire.xclient_lines(self._identity()):
                self._say(line[:-2], XCLIENT)
        elif b"STARTTLS" in self._caps:
            self._say(b"STARTTLS", STARTTLS)
        else:
            text = "Requested STARTTLS, but server doesn't support it"
            self.over = True
            self._owner.failed(CONNECT, text, text)

    def _envelope(self) -> None:
        pipelining = b"PIPELINING" in self._caps
        if self._queue and not self._mailed:
            self._mailed = True
            body = b" BODY=" + self._order.body if self._order.body and b"8BITMIME" in self._caps else b""
            self._say(b"MAIL FROM:<%b>%b" % (self._order.sender, body), MAIL)
        while self._queue and (pipelining or not self._expected):
            token, recipient, forward = self._queue.popleft()
            if forward and b"XRCPTFORWARD" in self._caps:
                recipient += forward
            self._say(b"RCPT TO:" + recipient, RCPT, token)
        if self._size >= 0 and not self._expected and not self._queue:
            size, self._size = self._size, -1
            if b"CHUNKING" in self._caps:
                self._out.append(b"BDAT %d LAST\r\n" % size)
                self._start(chunked=True)
            else:
                self._say(b"DATA", DATA)

    def _start(self, *, chunked: bool) -> None:
        self._sending = True
        for token in self._accepted[:1] if self._order.smtp else self._accepted:
            self._expected.append((FINAL, token))
        self._owner.go(chunked=chunked)


_HANDLERS: dict[int, Callable[[Backend, Reply, Token], None]] = {
    GREETING: Backend._greeted, HELLO: Backend._offered, STARTTLS: Backend._may_secure, XCLIENT: Backend._identified_as,
    MAIL: Backend._mail_taken, RCPT: Backend._rcpt_taken, DATA: Backend._data_taken, FINAL: Backend._saved,
    IGNORED: Backend._ignore,
}
