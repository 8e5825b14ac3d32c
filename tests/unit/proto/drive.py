"""Running the two machines over any cut of their input, and writing down what happens."""
from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from mailproxy import sasl
from mailproxy.proto import spec
from mailproxy.proto.events import Identify, PlainLogin, Quit, Remark, SaslAbort, SaslResponse, SaslStart, StartTls
from mailproxy.proto.imap.dialect import Imap
from mailproxy.proto.imap.frontend import ImapFrontend
from mailproxy.proto.spec import MORE, READY, START_TLS, Offer, Order
from mailproxy.secret import Secret

MECHANISMS = (("PLAIN", True), ("LOGIN", True))


def frontend(*, tls: bool = True, needs_tls: bool = False, required: bool = False, secured: bool = False,
             **settings: Any) -> ImapFrontend:
    """A greeted frontend whose greeting was taken."""
    dialect = Imap()
    made = dialect.frontend(dialect.share(Offer("hello", MECHANISMS, tls, needs_tls or required, required, settings)))
    made.greet(False, secured)
    made.take_output()
    return made


def plain(event: Any) -> tuple[Any, ...]:
    """An event as something that can be compared."""
    return (type(event).__name__, *(getattr(event, name) for name in type(event).__slots__))


def converse(machine: spec.Frontend, chunks: list[bytes], *, answer: int = spec.AUTH_FAILED) -> tuple[list[Any], bytes]:
    """Feed chunk by chunk; every login is refused with `answer`, every SASL exchange asks twice, STARTTLS and the end
    stop it.  (events, all output)."""
    events: list[Any] = []
    out = b""
    asked = 0
    for chunk in chunks:
        machine.feed(chunk)
        while (event := machine.next_event()) is not None:
            events.append(plain(event))
            out += machine.take_output()
            if isinstance(event, StartTls | Quit):
                return events, out
            if isinstance(event, SaslStart):
                asked = 0
            if isinstance(event, SaslStart | SaslResponse) and asked < 2:
                asked += 1
                machine.challenge(b"Pz8=")
            elif isinstance(event, PlainLogin | SaslResponse):
                machine.refuse(answer)
            elif isinstance(event, SaslAbort):
                machine.refuse(spec.ABORTED)
            else:
                assert isinstance(event, Identify | Remark)
        out += machine.take_output()
    return events, out


def order(mechanism: str = "", **more: Any) -> Order:
    password = Secret("sesame")
    return Order(more.pop("user", "alice"), more.pop("password", password), mechanism=mechanism,
                 sasl=sasl.client(mechanism, "alice", password) if mechanism else None, **more)


def dialogue(machine: spec.Backend, chunks: list[bytes]) -> tuple[int, bytes, bytes, str, bytes, bytes]:
    """Feed until it is decided; (result, output, forwarded lines, reason, reply, what belongs to the client)."""
    out = forward = b""
    result = MORE
    for number, chunk in enumerate(chunks):
        result = machine.feed(chunk)
        out += machine.take_output()
        forward += machine.forward
        machine.forward = b""
        if result == START_TLS:
            return result, out, forward, machine.reason, machine.reply, b""
        if result == READY:
            return result, out, forward, "", b"", machine.leftover() + b"".join(chunks[number + 1:])
        if result != MORE:
            break
    return result, out, forward, machine.reason, machine.reply, b""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def singly(data: bytes) -> list[bytes]:
    return [data[at:at + 1] for at in range(len(data))]


#: What clients say, whole or in part, and what they should not say.
CLIENT_WORDS = st.sampled_from([
    b"a ", b"A1 ", b"LOGIN ", b"login ", b"CAPABILITY", b"NOOP", b"LOGOUT", b"STARTTLS", b"AUTHENTICATE ", b"PLAIN",
    b"LOGIN",
    b" AGFsaWNlAHNlc2FtZQ==", b"ID ", b"NIL", b"(", b")", b'"', b'"name" "x"', b'"x-session-id" "s"', b"alice", b" ",
    b"  ",
    b'"se\\"same"', b"{5}\r\nhello", b"{5+}\r\nhello", b"{0}\r\n", b"{9999999999}\r\n", b"{4000+}\r\n", b"{", b"}",
    b"{5", b"~{3}",
    b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"*", b"*\r\n", b"=", b"\0", b"\xff", b"\\", b"%", b"ENABLE x", b"x" * 130,
    b"y" * 1026,
    b"z" * 1025, b"q" * 8192, b"a LOGIN alice sesame\r\n", b"a NOOP\r\n", b"i ID (\"a\" NIL)\r\n",
    b"a AUTHENTICATE LOGIN\r\n",
])
CLIENT_INPUT = st.lists(CLIENT_WORDS | st.binary(max_size=8), max_size=14).map(b"".join)

#: What backends say.
BACKEND_WORDS = st.sampled_from([
    b"* OK ready\r\n", b"* OK [CAPABILITY IMAP4rev1 ID SASL-IR LITERAL+ STARTTLS] ready\r\n",
    b"* OK [CAPABILITY IMAP4rev1]\r\n",
    b"* ID (\"name\" \"x\")\r\n", b"I OK done\r\n", b"C OK done\r\n", b"S OK begin\r\n", b"S NO\r\n",
    b"* CAPABILITY IMAP4rev1\r\n",
    b"L OK [CAPABILITY IMAP4rev1 IDLE] in\r\n", b"L OK in\r\n", b"L OK\r\n", b"L NO [LIMIT] no\r\n", b"L NO no\r\n",
    b"L BAD x\r\n",
    b"L NO [UNAVAILABLE] later\r\n", b"L NO [AUTHENTICATIONFAILED] x\r\n", b"+ \r\n", b"+ Pz8=\r\n", b"+ !\r\n", b"+",
    b"* BYE\r\n",
    b"* OK [ALERT] noon\r\n", b"\r\n", b"\n", b"*", b"L", b" ", b"\0", b"\xff\r\n", b"x" * 4096, b"x" * 4097, b"L NO [",
    b"junk\r\n",
])
BACKEND_INPUT = st.lists(BACKEND_WORDS | st.binary(max_size=8), max_size=12).map(b"".join)
