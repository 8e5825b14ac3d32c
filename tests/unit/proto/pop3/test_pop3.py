"""The POP3 machines without a socket: whole input and single bytes mean the same, limits hold, nothing leaks."""
from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.proto.commands import CLOSED, SASL_MAX
from mailproxy.proto.events import StartTls
from mailproxy.proto.lines import LINE_MAX as BACKEND_LINE_MAX
from mailproxy.proto.pop3.backend import Pop3Backend
from mailproxy.proto.pop3.dialect import Pop3
from mailproxy.proto.pop3.frontend import LINE_MAX, Pop3Frontend
from mailproxy.proto.spec import FAILED, MORE, READY, REFUSED, START_TLS, Offer
from tests.fuzz import examples
from tests.unit.proto.drive import converse, cut, dialogue, order, singly

MECHANISMS = (("PLAIN", True), ("LOGIN", True))
CHALLENGE = "<1.2.3.nonce@here>"
IDENTITY = (("session", "S"), ("rip", "10.1.1.1"), ("rport", "1"), ("lip", "10.0.0.1"), ("lport", "110"), ("ttl", "4"))


def frontend(*, tls: bool = True, needs_tls: bool = False, secured: bool = False, trusted: bool = False,
             challenge: str = "") -> Pop3Frontend:
    dialect = Pop3()
    made = dialect.frontend(dialect.share(Offer("hello", MECHANISMS, tls, needs_tls, False, {}, "here")))
    made.greet(False, secured, trusted, challenge)
    made.take_output()
    return made


def test_banners() -> None:
    dialect = Pop3()
    shared = dialect.share(Offer("hello", MECHANISMS, True, False, False, {}, "here"))
    for trusted, challenge, banner in ((False, "", b"+OK hello\r\n"), (True, "", b"+OK [XCLIENT] hello\r\n"),
                                       (False, CHALLENGE, b"+OK hello <1.2.3.nonce@here>\r\n")):
        machine = dialect.frontend(shared)
        machine.greet(False, False, trusted, challenge)
        assert machine.take_output() == banner


@pytest.mark.parametrize(("data", "events"), [
    (b"USER alice\r\nPASS se same \r\n", [("PlainLogin", b"se same ", b"alice")]),
    (b"user\r\npass\n", [("PlainLogin", b"", b"")]),
    (b"AUTH PLAIN AGE=\r\nPz8=\r\n*\r\n", [("SaslStart", b"AGE=", b"PLAIN", False), ("SaslResponse", b"Pz8="),
                                          ("SaslAbort", "")]),
    (b"AUTH plain =\r\n", [("SaslStart", b"", b"PLAIN", False)]),
    (b"AUTH PLAIN \r\n", [("SaslStart", None, b"PLAIN", False)]),
    (b"QUIT\r\n", [("Quit", b"", "Aborted login by logging out")]),
    (b"FOO\r\nCAPA\r\nFOO\r\nBAR\r\nBAZ\r\n", [("Quit", b"", "Disconnected: Too many bad commands")]),
    (b"USER " + b"u" * LINE_MAX + b"\r\n", [("Quit", b"", "Input buffer full")]),
    (b"x" * (LINE_MAX + 20), [("Quit", b"", "Input buffer full")]),
    (b"AUTH PLAIN " + b"A" * (SASL_MAX + 1) + b"\r\n", [("Quit", b"PLAIN", "Authentication response too large")]),
])
def test_events(data: bytes, events: list[Any]) -> None:
    found, _ = converse(frontend(), [data])
    alone, out = converse(frontend(), singly(data))
    assert alone == found
    assert out == converse(frontend(), [data])[1]


def test_apop_carries_the_banner_s_challenge() -> None:
    digest = "00112233445566778899aabbccddeeff"
    found, _ = converse(frontend(challenge=CHALLENGE), [f"APOP alice {digest}\r\n".encode()])
    name, initial, mechanism, private = found[0]
    assert (name, mechanism, private) == ("SaslStart", b"APOP", True)
    assert base64.b64decode(initial) == CHALLENGE.encode() + b"\0alice\0" + bytes.fromhex(digest)
    found, out = converse(frontend(), [f"APOP alice {digest}\r\n".encode()])
    assert found == [("Remark", "APOP failed: APOP not enabled")]
    assert out == b"-ERR APOP not enabled.\r\n"


def test_nothing_said_before_stls_counts_behind_it() -> None:
    machine = frontend()
    machine.feed(b"USER eve\r\nSTLS\r\nPASS injected\r\n")
    assert isinstance(machine.next_event(), StartTls)
    assert machine.leftover() == b"PASS injected\r\n"
    machine.secure()
    machine.resume()
    machine.take_output()
    machine.feed(b"PASS x\r\n")
    assert machine.next_event() is None
    assert machine.take_output() == b"-ERR No username given.\r\n"


def test_an_untrusted_peer_forwards_nothing() -> None:
    line = b"XCLIENT ADDR=10.1.1.1 FORWARD=bm9wYXNzd29yZD15\r\n"
    found, out = converse(frontend(), [line])
    assert found == []
    assert out == b"+OK You are not from trusted IP - ignoring\r\n"
    found, out = converse(frontend(trusted=True), [line])
    assert out == b"+OK Updated\r\n"
    assert {"rip": "10.1.1.1", "forward_nopassword": "y"} in found[0]


@pytest.mark.parametrize(("lines", "result", "sent"), [
    ([b"+OK [XCLIENT] hi", b"+OK", b"+OK", b"+OK in"], READY,
     b"XCLIENT ADDR=10.1.1.1 PORT=1 SESSION=S TTL=4\r\nUSER alice\r\nPASS sesame\r\n"),
    ([b"+OK hi", b"+OK", b"+OK in"], READY, b"USER alice\r\nPASS sesame\r\n"),
    ([b"+OK hi", b"-ERR no"], REFUSED, b"USER alice\r\n"),
    ([b"+OK hi", b"+OK", b"-ERR [SYS/TEMP] no"], REFUSED, b"USER alice\r\nPASS sesame\r\n"),
    ([b"* OK hi"], FAILED, b""), ([b"-ERR"], FAILED, b""), ([b"x" * (BACKEND_LINE_MAX + 1)], FAILED, b""),
    ([b"+OK [XCLIENT] hi", b"-ERR"], FAILED, b"XCLIENT ADDR=10.1.1.1 PORT=1 SESSION=S TTL=4\r\nUSER alice\r\n"),
])
def test_backend(lines: list[bytes], result: int, sent: bytes) -> None:
    data = b"".join(line + b"\r\n" for line in lines)
    for chunks in ([data], singly(data)):
        assert dialogue(Pop3Backend(order(identity=IDENTITY)), chunks)[:2] == (result, sent)


def test_backend_that_injects_before_tls() -> None:
    machine = Pop3Backend(order(starttls=True))
    assert machine.feed(b"+OK [XCLIENT] hi\r\n") == MORE
    assert machine.take_output() == b"STLS\r\n"
    assert machine.feed(b"+OK go\r\n+OK injected\r\n+OK\r\n") == START_TLS
    assert machine.tls_started() == FAILED
    assert machine.take_output() == b""


_CLIENT = st.sampled_from([b"USER ", b"alice", b"PASS ", b"\r\n", b"\r\n", b"\n", b"AUTH ", b"PLAIN", b" ", b"=", b"*",
                           b"CAPA\r\n", b"STLS\r\n", b"QUIT", b"XCLIENT ", b"ADDR=10.1.1.1", b"FORWARD=", b"Zm9v",
                           b"APOP ", b"x" * 1030, b"A" * 8200, b"\0", b"\xff", b"NOOP\r\n"])
_PLACES = st.lists(st.integers(0, 9999), max_size=4)
_BACKEND = st.sampled_from([b"+OK", b"+OK [XCLIENT]", b"\r\n", b"\r\n", b"+ ", b"Pz8=", b"-ERR ", b"[SYS/TEMP]", b"\0",
                            b"\xff", b"x" * 4096, b"+OK hi\r\n", b"+OK\r\n"])


@given(st.lists(_CLIENT | st.binary(max_size=8), max_size=14).map(b"".join), st.lists(st.integers(0, 9999), max_size=5),
       st.booleans(), st.booleans())
@examples(200)
def test_any_client(data: bytes, places: list[int], needs_tls: bool, trusted: bool) -> None:
    whole = converse(frontend(needs_tls=needs_tls, trusted=trusted), [data])
    machine = frontend(needs_tls=needs_tls, trusted=trusted)
    assert converse(machine, cut(data, places)) == whole
    assert whole[1] == b"" or whole[1].endswith(b"\r\n")
    assert b"\0" not in whole[1]
    if machine.state != CLOSED:
        assert len(machine.leftover()) <= SASL_MAX + LINE_MAX + 16 or whole[0][-1:] == [("StartTls",)]


@given(st.lists(_BACKEND | st.binary(max_size=8), max_size=12).map(b"".join), _PLACES,
       st.sampled_from(["", "PLAIN", "LOGIN", "XOAUTH2"]), st.booleans())
@examples(200)
def test_any_backend(data: bytes, places: list[int], mechanism: str, starttls: bool) -> None:
    whole = dialogue(Pop3Backend(order(mechanism, starttls=starttls, identity=IDENTITY)), [data])
    parts = dialogue(Pop3Backend(order(mechanism, starttls=starttls, identity=IDENTITY)),
                     cut(data, places))
    assert parts[:2] == whole[:2]
    assert not starttls or b"sesame" not in whole[1]
    assert b"\n" not in whole[4]
    assert whole[0] in (MORE, READY, REFUSED, FAILED, START_TLS)
