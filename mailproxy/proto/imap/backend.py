"""The IMAP client side towards a backend: banner, ID, STARTTLS, CAPABILITY, login, and what its answer means.

In: an Order and the backend's bytes.  Out: one of MORE, START_TLS, READY, REFUSED, FAILED from every `feed`, bytes
through `take_output`.  It must not know of sockets or clients.  Limits: lines.LINE_MAX per line of the backend,
FORWARD_MAX bytes of untagged lines that are passed on to the client before the answer, IGNORED_MAX lines that nobody
understands.
"""
from __future__ import annotations

import re

from mailproxy.proto import spec
from mailproxy.proto.imap import wire
from mailproxy.proto.lines import Dialogue, shown
from mailproxy.proto.spec import MORE, READY, REFUSED, START_TLS, Order

#: Untagged chatter of a backend before it answers the login; a backend that sends more is broken.
FORWARD_MAX = 65536
#: Lines that are neither answers nor untagged; each is logged.
IGNORED_MAX = 100

# Commands without an answer yet (bits), in the order in which logs name them.
_ID, _STARTTLS, _CAPABILITY, _AUTHENTICATE, _AUTH_CONTINUE, _LOGIN = (1 << n for n in range(6))
_SENT_NAMES = ("id", "starttls", "capability", "authenticate", "auth-continue", "login")
_RECEIVED_NAMES = ("none", "banner", "id", "starttls", "capability", "auth-continue", "login")

#: How the first six pairs of an identity are said.
_KEYS = ("x-session-id", "x-originating-ip", "x-originating-port", "x-connected-ip", "x-connected-port", "x-proxy-ttl")
_IDENTITY = " ".join(f'"{key}" "%b"' for key in _KEYS).encode()
_BANNER_CAPS = re.compile(rb"\[CAPABILITY ([^\]]*)\]", re.I)
_CODE = re.compile(rb"\[[^\]]*\] ?")


class ImapBackend(Dialogue):
    """One attempt at one backend."""

    __slots__ = (
        "_caps",
        "_flags",
        "_ignored",
        "_later",
        "_ok",
        "_ok_caps",
        "_order",
        "_queue",
        "_received",
        "_sent",
    )

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._ignored = 0
        self._order = order
        self._sent = 0
        self._received = 0
        self._caps: bytes | None = None
        self._flags: frozenset[bytes] = frozenset()
        self._queue: list[tuple[int, bytes]] = []       # commands that wait their turn (no pipelining)
        self._later: list[bytes] = []                   # parts of the login command that wait for a `+`
        self._ok = b""
        self._ok_caps: bytes | None = None

    # --- what the session calls ------------------------------------------------------------------------------------

    def tls_started(self) -> int:
        """The TLS session stands; whatever was buffered before it is not trusted (nothing may be)."""
        if self._buf:
            return self.fail(spec.REMOTE, "Plaintext data received after STARTTLS")
        if self._order.starttls:
            return self._login()
        return MORE

    def describe(self) -> str:
        """SENT/RCVD, for logs."""
        sent = "+".join(name for bit, name in enumerate(_SENT_NAMES) if self._sent & 1 << bit)
        return f"{sent}/{_RECEIVED_NAMES[self._received]}"

    def success(self, tag: bytes, listed: bool) -> bytes:
        """What the client sees; `listed`: it has asked for capabilities before."""
        text, caps = self._ok, self._ok_caps
        known = caps if caps is not None else self._caps
        if known is None:
            return b"%b OK %b\r\n" % (tag, text)
        if listed:
            return b"* CAPABILITY %b\r\n%b OK %b\r\n" % (
                known, tag, text if caps is None else b"[CAPABILITY %b] %b" % (caps, text))
        return b"%b OK [CAPABILITY %b] %b\r\n" % (tag, known, _CODE.sub(b"", text, 1) if text[:1] == b"[" else text)

    # --- the dialogue ----------------------------------------------------------------------------------------------

    def line(self, line: bytes) -> int:
        if not self._received:
            return self._banner(line)
        head, _, rest = line.partition(b" ")
        if head == b"L" and self._sent & (_LOGIN | _AUTHENTICATE):      # never an OK before TLS stands
            return self._login_answer(rest)
        if head == b"*":
            return self._untagged(line, rest)
        if head == b"+":
            return self._continuation(rest)
        if head in (b"I", b"i"):
            return self._answered(_ID, 2)
        if head == b"C":
            return self._answered(_CAPABILITY, 4)
        if head == b"S" and self._sent & _STARTTLS:
            return self._starttls_answer(rest)
        self._ignored += 1
        if self._ignored > IGNORED_MAX:
            return self.fail(spec.PROTOCOL, "Too many unexpected lines before login")
        self.ignored += (f"Unexpected input, ignoring: {shown(line)}",)
        return MORE

    def _banner(self, line: bytes) -> int:
        if not line.startswith(b"* OK "):
            return self.fail(spec.PROTOCOL, f"Invalid banner: {shown(line)}")
        match = _BANNER_CAPS.match(line, 5)
        if match is not None:
            self._know(match[1])
        self._received = 1
        order = self._order
        if not order.starttls:
            if order.identity and b"ID" in self._flags:
                self._command(_ID, self._id_line())
            return self._login()
        if self._caps is not None and b"STARTTLS" not in self._flags:
            return self.fail(spec.REMOTE_CONFIG, "STARTTLS not supported")
        self._command(_STARTTLS, b"S STARTTLS\r\n")
        return MORE

    def _know(self, caps: bytes) -> None:
        self._caps = caps
        self._flags = frozenset(caps.upper().split())

    def _id_line(self) -> bytes:
        """The client's identity, always in this order; then what is forwarded of it."""
        identity = self._order.identity
        values = [value.encode("utf-8", "surrogateescape") for _, value in identity[:len(_KEYS)]]
        if not wire.is_plain(b"".join(values)):
            # only a session id of a trusted proxy can be unfit; one that cannot be quoted is worth nothing
            values = [(wire.as_quoted(value) or b'""')[1:-1] for value in values]
        text = _IDENTITY % tuple(values)
        for name, value in identity[len(_KEYS):]:
            raw = value.encode("utf-8", "surrogateescape")
            key = wire.quoted(b"x-forward-" + name[8:].encode("utf-8", "surrogateescape"))
            text += b" %b %b" % (key, self._string(raw) if raw else b"NIL")
        return b"I ID (%b%b)\r\n" % (self._order.client_id, text)

    def _string(self, value: bytes) -> bytes:
        """A string in a place where we do not wait for a `+`."""
        text = wire.as_quoted(value)
        if text is not None:
            return text
        if b"LITERAL+" in self._flags or b"LITERAL-" in self._flags:
            return b"{%d+}\r\n" % len(value) + value
        return b"NIL"

    def _login(self) -> int:
        """CAPABILITY if needed, and the login command."""
        order = self._order
        if order.starttls and order.identity and b"ID" in self._flags:
            self._command(_ID, self._id_line())          # only now: it tells who the client is
        if self._caps is None or order.client_listed:
            self._command(_CAPABILITY, b"C CAPABILITY\r\n")
        if order.mechanism:
            return self._authenticate(order)
        if b"LOGINDISABLED" in self._flags and not (order.starttls or order.implicit_tls):
            return self.fail(spec.REMOTE_CONFIG, "LOGINDISABLED advertised, but SSL/TLS not enabled")
        user = order.user.encode("utf-8", "surrogateescape")
        password = order.password.reveal().encode("utf-8", "surrogateescape")
        name, secret = wire.as_quoted(user), wire.as_quoted(password)
        if name is not None and secret is not None:
            self._command(_LOGIN, b"L LOGIN %b %b\r\n" % (name, secret))
            return MORE
        parts = wire.pieces([user, password], non_sync=b"LITERAL+" in self._flags)
        self._later = [*parts[1:-1], parts[-1] + b"\r\n"] if len(parts) > 1 else []
        self._command(_LOGIN, b"L LOGIN " + parts[0] + (b"" if self._later else b"\r\n"))
        return MORE

    def _authenticate(self, order: Order) -> int:
        mech = order.sasl
        assert mech is not None
        line = b"L AUTHENTICATE " + order.mechanism.encode()
        if b"SASL-IR" in self._flags:
            line += b" " + (self.encoded(mech.initial() or b"") or b"=")
        self._command(_AUTHENTICATE, line + b"\r\n")
        return MORE

    def _command(self, bit: int, line: bytes) -> None:
        if self._sent and not self._order.pipelining:
            self._queue.append((bit, line))
            return
        self._sent |= bit
        self._out += line

    def _answered(self, bit: int, received: int) -> int:
        """A side command is done, whether OK or NO; without pipelining the next one goes out."""
        self._sent &= ~bit
        self._received = received
        if not self._sent and self._queue:
            self._command(*self._queue.pop(0))
        return MORE

    def _untagged(self, line: bytes, rest: bytes) -> int:
        word = rest[:11].upper()
        if word == b"CAPABILITY ":
            self._know(rest[11:])
        elif not word.startswith((b"ID ", b"BYE ")) and word not in (b"BYE", b"ID"):
            if len(self.forward) + len(line) > FORWARD_MAX:
                return self.fail(spec.PROTOCOL, "Too many untagged replies before login")
            self.forward += line + b"\r\n"
        return MORE

    def _continuation(self, rest: bytes) -> int:
        if self._later and self._sent & _LOGIN:
            return self.send(self._later.pop(0))
        if self._order.sasl is None or not self._sent & (_AUTHENTICATE | _AUTH_CONTINUE):
            return MORE                     # of a LOGIN: ignored
        result = self.respond(self._order, rest, "AUTHENTICATE")
        if result == MORE:
            self._received = 5
        return result

    def _starttls_answer(self, rest: bytes) -> int:
        self._sent &= ~_STARTTLS
        self._received = 3
        if rest[:3] == b"OK ":
            return START_TLS
        _, space, text = rest.partition(b" ")
        return self.fail(spec.REMOTE, "STARTTLS failed: " + (shown(text) if space else "?"))

    def _login_answer(self, rest: bytes) -> int:
        """Exact words only: clients of Dovecot's proxy are used to `ok` being a refusal."""
        self._received = 6
        if rest[:3] == b"OK ":
            self._sent &= ~(_LOGIN | _AUTHENTICATE)
            text = rest[3:]
            match = _BANNER_CAPS.match(text)
            if match is not None:
                self._ok_caps = match[1]
                text = text[match.end():].lstrip(b" ")
            self._ok = text
            return READY
        self.reason = (rest[3:] if rest[:3].upper() == b"NO " else rest).decode("utf-8", "backslashreplace")
        if rest[:4] == b"NO [":
            self.temporary = rest.startswith(b"[UNAVAILABLE]", 3)
            if not rest.startswith(b"[AUTHENTICATIONFAILED]", 3):
                self.reply = rest
        return REFUSED
