"""The server side of LMTP, towards a client that may be hostile.

In: the client's bytes.  Out: events for the transaction, bytes for the client.  Replies keep the order of commands:
RCPT commands are handed on while earlier ones are still being answered, everything else waits for its turn.
It must not know where recipients live.  Limits: LINE_MAX bytes a command, BAD_MAX bad commands, RECIPIENTS_MAX.
(Long, because one table names all commands and each row's handler stands below it.)
"""
from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mailproxy.errors import ProtocolError
from mailproxy.proto.lmtp import address
from mailproxy.proto.lmtp.address import Address
from mailproxy.proto.smtp import message, wire, xclient

#: Arguments of a command (Dovecot's limit).
LINE_MAX = 4096
#: Bad commands that a client may send before it is sent away.
BAD_MAX = 10
#: Recipients of one message: each costs a lookup and some memory.
RECIPIENTS_MAX = 10_000
#: RCPT commands that are answered at the same time.
PENDING_MAX = 50

GREETING, READY, MAIL, RCPT, DATA = range(5)
#: As logs name the states.
STATES = ("GREETING", "READY", "MAIL FROM", "RCPT TO", "DATA")


class Mail:
    """A transaction begins."""

    __slots__ = ("body", "sender")

    def __init__(self, sender: Address, body: bytes) -> None:
        self.sender = sender
        self.body = body


class Recipient:
    """One RCPT; answer it with Frontend.answer(self, …)."""

    __slots__ = ("accepted", "address", "forward", "number", "orcpt", "reply")

    def __init__(self, number: int, to: Address, orcpt: bytes, forward: bytes) -> None:
        self.number = number            # counts the RCPT commands of the transaction
        self.address = to
        self.orcpt = orcpt              # as it came, `type;xtext`
        self.forward = forward          # XRCPTFORWARD, decoded
        self.reply = b""
        self.accepted = False


class Reset:
    """The transaction, if there is one, is given up."""

    __slots__ = ()


class Chunk:
    """A piece of the message."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Begin:
    """The message begins; its pieces follow."""

    __slots__ = ()


class Done:
    """The message is complete: Frontend.final for each accepted recipient, then Frontend.finished."""

    __slots__ = ()


class StartTls:
    __slots__ = ()


class Forwarded:
    """XCLIENT of a trusted peer."""

    __slots__ = ("said",)

    def __init__(self, said: dict[str, str]) -> None:
        self.said = said


class Quit:
    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


Event = Mail | Recipient | Reset | Begin | Chunk | Done | StartTls | Forwarded | Quit


@dataclass(frozen=True, slots=True)
class Offer:
    """What all clients of a view are offered."""

    hostname: bytes
    greeting: bytes
    tls: bool
    spaces: bool = False                # lmtp_client_workarounds
    bare: bool = False


_COMMAND = re.compile(rb"([A-Za-z]*)(?: (.*))?\Z", re.S)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TEXT = re.compile(rb"[!-~]*\Z")
_ADDR_TYPE = re.compile(rb"[A-Za-z0-9-]+;")


class Frontend:
    __slots__ = ("_bad", "_buf", "_chunk_left", "_chunk_size", "_chunked", "_dots", "_drop", "_failed", "_last",
                 "_offer", "_out", "_pending", "_refusal", "_skip_line", "_tls", "_waiting", "accepted", "events",
                 "helo", "message", "recipients", "state", "trusted")

    def __init__(self, offer: Offer, *, trusted: bool = False, tls: bool = False) -> None:
        self._offer = offer
        self._tls = tls
        self.trusted = trusted
        self.state = GREETING
        self.helo = b""
        self.events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._buf = b""
        self._bad = 0
        self._pending: deque[Recipient] = deque()
        self._skip_line = False
        self._waiting = False           # for the session: a message is being delivered, or TLS begins
        self._clear()
        self._reply(220, offer.hostname + b" " + offer.greeting)

    def _clear(self) -> None:
        self.recipients = 0
        self.accepted = 0
        self.message = False            # DATA or BDAT has begun
        self._dots: message.DotReader | None = None
        self._chunk_left = -1
        self._chunk_size = 0
        self._chunked = False
        self._last = False
        self._drop = False
        self._refusal = b""             # of a chunk that is thrown away
        self._failed = False            # a chunk was refused: so are all that follow

    # --- what the session calls ------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._buf = self._buf + data if self._buf else data

    @property
    def buffered(self) -> int:
        """Bytes that wait for something to be answered."""
        return len(self._buf)

    @property
    def unfinished(self) -> str:
        """The command in whose data the client is."""
        if self._chunk_left >= 0:
            return "BDAT"
        return "DATA" if self._dots is not None and not self._dots.done else ""

    def take_output(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def next_event(self) -> Event | None:
        """The next thing to do; None: more bytes or an answer are needed."""
        while not self.events:
            if self._waiting or not self._step():
                return None
        return self.events.popleft()

    def answer(self, recipient: Recipient, reply: bytes, *, accepted: bool, tried: bool = True) -> None:
        """The reply to a RCPT.  `tried`: a backend was asked (the state then shows it)."""
        recipient.reply = reply
        recipient.accepted = accepted
        if accepted:
            self.accepted += 1
        if tried and self.state == MAIL:
            self.state = RCPT
        pending = self._pending
        while pending and pending[0].reply:
            self._out.append(pending.popleft().reply)

    def final(self, reply: bytes) -> None:
        """The reply for the next accepted recipient."""
        self._out.append(reply)

    def finished(self) -> None:
        """All of them are answered."""
        self._waiting = False
        self._clear()
        self.state = READY

    def secured(self) -> None:
        """TLS runs: the client begins anew (RFC 3207)."""
        self._tls = True
        self._waiting = False
        self.helo = b""

    def bye(self, code: bytes, text: bytes) -> None:
        """We end the connection."""
        self._reply(421, self._offer.hostname + b" " + text, code)

    # --- input -----------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Make progress with what is buffered; False if there is none to be made."""
        if self._chunk_left >= 0:
            return self._read_chunk()
        if self._dots is not None:
            return self._read_dots(self._dots)
        return self._read_command()

    def _read_dots(self, dots: message.DotReader) -> bool:
        if not self._buf:
            return False
        text, self._buf = dots.feed(self._buf)
        if text:
            self.events.append(Chunk(text))
        if dots.done:
            self._waiting = True
            self.events.append(Done())
        return True

    def _read_chunk(self) -> bool:
        data = self._buf
        if data and self._chunk_left:
            piece = data[:self._chunk_left]
            self._buf = data[len(piece):]
            self._chunk_left -= len(piece)
            if not self._drop:
                self.events.append(Chunk(piece))
        if self._chunk_left:
            return bool(data) and not self._drop
        self._chunk_left = -1
        if self._drop:
            self._drop = False          # what it says was data: none of it is a command
            self._out.append(self._refusal)
        elif self._last:
            self._waiting = True
            self.events.append(Done())
        else:
            self._reply(250, b"Added %d octets" % self._chunk_size, b"2.0.0")
        return True

    def _chunk_refusal(self) -> bytes:
        """Why a chunk is thrown away; b"" if it is not."""
        if self._failed:
            text = b"Previous data chunk failed, issue RSET first"
        elif self.state >= MAIL and self.accepted:
            return b""
        else:
            text = b"MAIL needed first" if self.state < MAIL else b"No valid recipients"
        self._failed = True
        return wire.reply(503, text, b"5.5.0")

    def _read_command(self) -> bool:
        end = self._buf.find(b"\n")
        if end < 0:
            if len(self._buf) > LINE_MAX + 40 and not self._skip_line:
                self._skip_line = True
            if self._skip_line:
                self._buf = b""
            return False
        line = self._buf[:end].removesuffix(b"\r")
        match = _COMMAND.match(line)
        name = match[1].upper() if match is not None else b""
        long = self._skip_line or len(line) > LINE_MAX + len(name) + 1
        broken = match is None or _CONTROL.search(line) is not None or (match[2] or b"").startswith(b" ")
        if self._pending and (name != b"RCPT" or len(self._pending) >= PENDING_MAX or long or broken):
            return False                # its turn comes when the recipients before it are answered
        self._buf = self._buf[end + 1:]
        if long:
            self._skip_line = False
            self._bad_command(b"5.5.2", b"Line too long")
        elif match is None or broken:
            self._bad_command(b"5.5.2", b"Invalid command syntax")
        else:
            handler = _COMMANDS.get(name)
            if handler is None:
                self._bad_command(b"5.5.1", b"Unknown command")
            else:
                handler(self, (match[2] or b"").rstrip(b" ") if name != b"XCLIENT" else match[2] or b"")
        return True

    def _bad_command(self, enhanced: bytes, text: bytes) -> None:
        self._bad += 1
        if self._bad > BAD_MAX:
            self.bye(b"4.7.0", b"Too many invalid commands.")
            self._waiting = True
            self.events.append(Quit("Too many invalid commands."))
        else:
            self._reply(500, text, enhanced)

    # --- replies ---------------------------------------------------------------------------------------------------

    def _reply(self, code: int, text: bytes, enhanced: bytes = b"") -> None:
        self._out.append(wire.reply(code, text, enhanced))

    def _ok(self) -> None:
        self._reply(250, b"OK", b"2.0.0")

    def _invalid(self, text: bytes = b"Invalid parameters") -> None:
        self._reply(501, text, b"5.5.4")

    def _sequence(self, text: bytes) -> None:
        self._reply(503, text, b"5.5.0")

    def _refused(self, recipient: Recipient, code: int, text: bytes, enhanced: bytes) -> None:
        """A RCPT that is answered here still waits for those before it."""
        self._pending.append(recipient)
        self.answer(recipient, wire.reply(code, text, enhanced), accepted=False, tried=False)

    # --- commands --------------------------------------------------------------------------------------------------

    def _lhlo(self, args: bytes) -> None:
        if not args:
            self._reply(501, b"Missing hostname")
            return
        name = args.partition(b" ")[0]
        self.helo = name if _TEXT.match(name) is not None else b""
        self._restart()
        offers = [b"8BITMIME", b"CHUNKING", b"ENHANCEDSTATUSCODES", b"PIPELINING"]
        if self._offer.tls and not self._tls:
            offers.append(b"STARTTLS")
        if self.trusted:
            offers += [b"XCLIENT ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT", b"XRCPTFORWARD"]
        self._reply(250, b"\n".join((self._offer.hostname, *offers)))

    def _restart(self) -> None:
        self.state = READY
        self._clear()
        self.events.append(Reset())

    def _rset(self, args: bytes) -> None:
        if args:
            self._invalid()
            return
        self._restart()
        self._ok()

    def _noop(self, args: bytes) -> None:
        if _TEXT.match(args) is None:
            self._invalid(b"Invalid string parameter: Invalid character in string")
        else:
            self._ok()

    def _vrfy(self, args: bytes) -> None:
        if not args:
            self._invalid()
        else:
            self._reply(252, b"Try RCPT instead", b"2.3.3")

    def _auth(self, args: bytes) -> None:
        self._reply(502, b"Unsupported command", b"5.5.1")

    def _quit(self, args: bytes) -> None:
        if args:
            self._invalid()
            return
        self._reply(221, b"Bye", b"2.0.0")
        self._waiting = True
        self.events.append(Quit("Logged out"))

    def _starttls(self, args: bytes) -> None:
        if args:
            self._invalid()
        elif self._tls:
            self._reply(502, b"TLS is already active.", b"5.5.1")
        elif not self._offer.tls:
            self._reply(502, b"TLS support is not enabled.", b"5.5.1")
        else:
            self._restart()
            self._reply(220, b"Begin TLS negotiation now.", b"2.0.0")
            self._waiting = True
            self.events.append(StartTls())

    def _xclient(self, args: bytes) -> None:
        if self.state >= MAIL:
            self._sequence(b"XCLIENT not permitted during a mail transaction")
        elif not self.trusted:
            self._reply(550, b"You are not from trusted IP", b"5.7.14")
        else:
            try:
                said = xclient.parse(args, lmtp=True)
            except ProtocolError as error:
                self._invalid(str(error).encode())
                return
            self.state = GREETING
            self.helo = b""
            self._clear()
            self.events.append(Forwarded(said))
            self._reply(220, self._offer.hostname + b" " + self._offer.greeting)

    def _path(self, args: bytes, word: bytes) -> tuple[Address, list[tuple[bytes, bytes | None]]]:
        """The path and the parameters of MAIL or RCPT.  ProtocolError: the text of the reply."""
        if args[:len(word)].upper() != word:
            raise ProtocolError("Invalid parameters")
        try:
            found, rest = address.path(args[len(word):], spaces=self._offer.spaces, bare=self._offer.bare)
        except ProtocolError as error:
            raise ProtocolError(f"Invalid {word[:-1].decode()}: {error}") from None
        try:
            rest = rest.strip(b" ")
            return found, wire.parameters(rest) if rest else []
        except ProtocolError as error:
            command = "MAIL" if word == b"FROM:" else "RCPT"
            raise ProtocolError(f"Invalid {command} parameter: {error}") from None

    def _mail(self, args: bytes) -> None:
        if self.state >= MAIL:
            self._sequence(b"MAIL already given")
            return
        try:
            sender, params = self._path(args, b"FROM:")
        except ProtocolError as error:
            self._invalid(str(error).encode())
            return
        body = b""
        for key, value in params:
            if key != b"BODY" or value is None:
                self._reply(555, b"Unsupported parameters", b"5.5.4")
                return
            body = value.upper()
            if body not in (b"7BIT", b"8BITMIME"):
                self._reply(555, b"Unsupported mail BODY type", b"5.5.4")
                return
        self._clear()
        self.state = MAIL
        self.events.append(Mail(sender, body))
        self._reply(250, b"OK", b"2.1.0")

    def _rcpt(self, args: bytes) -> None:
        """Its answer comes later, but in its turn."""
        recipient = Recipient(self.recipients + 1, Address(b"", b""), b"", b"")
        if self.state < MAIL:
            self._refused(recipient, 503, b"MAIL needed first", b"5.5.0")
            return
        if self._chunked:
            self._refused(recipient, 503, b"Bad sequence of commands", b"5.5.0")
            return
        if self.recipients >= RECIPIENTS_MAX:
            self._refused(recipient, 452, b"Too many recipients", b"4.5.3")
            return
        try:
            recipient.address, params = self._path(args, b"TO:")
            if not recipient.address.local:
                raise ProtocolError("Invalid TO: Null path not allowed")
            problem = self._rcpt_parameters(recipient, params)
        except ProtocolError as error:
            self._refused(recipient, 501, str(error).encode(), b"5.5.4")
            return
        if problem is not None:
            self._refused(recipient, *problem)
            return
        self.recipients += 1
        self._pending.append(recipient)
        self.events.append(recipient)

    def _rcpt_parameters(self, recipient: Recipient, params: list[tuple[bytes, bytes | None]]
                         ) -> tuple[int, bytes, bytes] | None:
        for key, value in params:
            if key == b"ORCPT":
                if not value or _ADDR_TYPE.match(value) is None:
                    raise ProtocolError("Invalid addr-type for ORCPT= parameter")
                if wire.from_xtext(value.partition(b";")[2]) is None:
                    raise ProtocolError("Invalid ORCPT= parameter: Invalid xtext")
                recipient.orcpt = value
            elif key == b"XRCPTFORWARD":
                if not self.trusted:
                    return 550, b"Unacceptable XRCPTFORWARD= parameter: You are not from trusted IP", b"5.7.14"
                decoded = wire.from_xtext(value or b"")
                if decoded is None:
                    raise ProtocolError("Invalid XRCPTFORWARD= parameter: Invalid hexchar after '+' in xtext")
                recipient.forward = decoded
            else:
                return 555, b"Unsupported parameters", b"5.5.4"
        return None

    def _data(self, args: bytes) -> None:
        if args:
            self._invalid()
        elif self.state < MAIL:
            self._sequence(b"MAIL needed first")
        elif self._chunked:
            self._sequence(b"Bad sequence of commands")
        elif not self.accepted:
            self._sequence(b"No valid recipients")
        else:
            self.state = DATA
            self.message = True
            self._dots = message.DotReader()
            self.events.append(Begin())
            self._reply(354, b"OK")

    def _bdat(self, args: bytes) -> None:
        size, _, marker = args.partition(b" ")
        if not size.isdigit() or len(size) > message.SIZE_DIGITS:
            self._invalid(b"Invalid chunk size parameter")
            return
        self._last = bool(marker)
        self._chunk_left = self._chunk_size = int(size)
        if marker and marker.upper() != b"LAST":
            self._refusal = wire.reply(501, b"Invalid end marker parameter", b"5.5.4")
            self._failed = True         # without it the message is not whole
        else:
            self._refusal = self._chunk_refusal()
        self._drop = bool(self._refusal)
        if not self._drop and not self._chunked:
            self.state = DATA
            self._chunked = self.message = True
            self.events.append(Begin())


_COMMANDS: dict[bytes, Callable[[Frontend, bytes], None]] = {
    b"LHLO": Frontend._lhlo, b"MAIL": Frontend._mail, b"RCPT": Frontend._rcpt, b"DATA": Frontend._data,
    b"BDAT": Frontend._bdat, b"RSET": Frontend._rset, b"NOOP": Frontend._noop, b"VRFY": Frontend._vrfy,
    b"QUIT": Frontend._quit, b"STARTTLS": Frontend._starttls, b"XCLIENT": Frontend._xclient, b"AUTH": Frontend._auth,
}
