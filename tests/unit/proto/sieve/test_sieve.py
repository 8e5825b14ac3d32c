"""The ManageSieve machines without a socket: whole input and single bytes mean the same, limits hold, nothing leaks."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.proto import spec
from mailproxy.proto.commands import CLOSED, SASL_MAX
from mailproxy.proto.events import StartTls
from mailproxy.proto.lines import LINE_MAX as BACKEND_LINE_MAX
from mailproxy.proto.sieve import wire
from mailproxy.proto.sieve.backend import CAPABILITIES_MAX, SieveBackend
from mailproxy.proto.sieve.dialect import Sieve
from mailproxy.proto.sieve.frontend import SieveFrontend
from mailproxy.proto.spec import FAILED, MORE, READY, REFUSED, START_TLS, Offer
from tests.fuzz import examples
from tests.unit.proto.drive import converse, cut, dialogue, order, singly

MECHANISMS = (("PLAIN", True), ("LOGIN", True))
SETTINGS = {"managesieve_implementation_string": 'A "B" C', "managesieve_sieve_capability": "fileinto"}
IDENTITY = (("session", "S"), ("rip", "10.1.1.1"), ("rport", "1"), ("lip", "10.0.0.1"), ("lport", "110"), ("ttl", "4"))
BAD = b'NO "Error in MANAGESIEVE command received by server."\r\n'
TOO_LARGE = ("Quit", b"PLAIN", "Authentication response too large")


def frontend(*, tls: bool = True, needs_tls: bool = False, trusted: bool = False) -> SieveFrontend:
    dialect = Sieve()
    made = dialect.frontend(dialect.share(Offer("hello", MECHANISMS, tls, needs_tls, False, SETTINGS, "here")))
    made.greet(False, False, trusted)
    made.take_output()
    return made


def test_capabilities() -> None:
    machine = frontend(needs_tls=True, trusted=True)
    machine.feed(b"CAPABILITY\r\nSTARTTLS\r\n")
    assert isinstance(machine.next_event(), StartTls)
    assert machine.take_output() == (
        b'"IMPLEMENTATION" "A \\"B\\" C"\r\n"SIEVE" "fileinto"\r\n"SASL" ""\r\n"STARTTLS"\r\n"VERSION" "1.0"\r\n'
        b'"XCLIENT"\r\nOK "Capability completed."\r\nOK "Begin TLS negotiation now."\r\n')
    machine.secure()
    assert machine.take_output() == (
        b'"IMPLEMENTATION" "A \\"B\\" C"\r\n"SIEVE" "fileinto"\r\n"SASL" "PLAIN LOGIN"\r\n"VERSION" "1.0"\r\n'
        b'"XCLIENT"\r\nOK "TLS negotiation successful."\r\n')


@pytest.mark.parametrize(("data", "events", "out"), [
    (b'AUTHENTICATE "plain" "AGE="\r\n"Pz8="\r\n{4+}\r\nPz8=\r\n', [
        ("SaslStart", b"AGE=", b"PLAIN", False), ("SaslResponse", b"Pz8="), ("SaslResponse", b"Pz8=")],
     b'"Pz8="\r\n"Pz8="\r\nNO "Authentication failed."\r\n'),
    (b'AUTHENTICATE {5+}\r\nPLAIN {4+}\r\nAGE=\r\n"*"\r\n', [
        ("SaslStart", b"AGE=", b"PLAIN", False), ("SaslAbort", "")],
     b'"Pz8="\r\nNO "Authentication aborted by client."\r\n'),
    (b'AUTHENTICATE "PLAIN" ""\r\n*\r\n', [
        ("SaslStart", b"", b"PLAIN", False), ("SaslAbort", "Invalid AUTHENTICATE client response.")],
     b'"Pz8="\r\nNO "Authentication aborted by client."\r\n'),
    (b"NOOP {8+}\r\nLOGOUT\r\n\r\nLOGOUT\r\n", [("Quit", b"", "Aborted login by logging out")],
     b'OK (TAG {8}\r\nLOGOUT\r\n) "Done"\r\nOK "Logout completed."\r\n'),
    (b'NOOP "a\0b"\r\nNOOP "x\r\nNOOP (\r\nNOOP {x\r\nNOOP "\xff"\r\nNOOP "\\"\\\\"\r\n', [],
     b'NO "NULs not allowed in strings"\r\nNO "String contains invalid character."\r\nNO "Invalid characters in atom"'
     b'\r\nNO "Invalid literal size"\r\nNO "Invalid UTF-8 character in quoted-string."\r\n'
     b'OK (TAG "\\"\\\\") "Done"\r\n'),
    (b"FOO {4+}\r\nNOOP x\r\nAUTHENTICATE PLAIN\r\nBAR\r\n", [("Quit", b"", "Too many invalid commands.")],
     BAD + b'NO "Invalid echo tag."\r\n' + BAD + b'BYE "Too many invalid MANAGESIEVE commands."\r\n'),
    (b'NOOP "' + b"a" * wire.TOKEN_MAX + b'"\r\n', [("Quit", b"", "Input buffer full")],
     b'BYE "Input buffer full, aborting"\r\n'),
    (b"NOOP {%d+}\r\n" % (wire.TOKEN_MAX + 1), [("Quit", b"", "Input buffer full")],
     b'BYE "Input buffer full, aborting"\r\n'),
    (b'AUTHENTICATE "PLAIN" {%d+}\r\n' % (SASL_MAX + 1), [TOO_LARGE], b""),
    (b'AUTHENTICATE "PLAIN" "' + b"A" * (SASL_MAX + 9), [TOO_LARGE], b""),
    (b"X" * 2000, [("Quit", b"", "Input buffer full")], b'BYE "Input buffer full, aborting"\r\n'),
])
def test_events(data: bytes, events: list[Any], out: bytes) -> None:
    for chunks in ([data], singly(data)):
        assert converse(frontend(), chunks) == (events, out)


def test_nothing_said_before_starttls_counts_behind_it() -> None:
    machine = frontend()
    machine.feed(b'STARTTLS\r\nAUTHENTICATE "PLAIN" "AGE="\r\n')
    assert isinstance(machine.next_event(), StartTls)
    assert machine.leftover().startswith(b"AUTH")
    machine.secure()
    machine.resume()
    assert machine.next_event() is None
    assert machine.leftover() == b""


def test_xclient() -> None:
    line = b"XCLIENT ADDR=10.1.1.1 FORWARD=bm9wYXNzd29yZD15\r\n"
    assert converse(frontend(), [line]) == ([], b'NO "You are not from trusted IP"\r\n')
    found, out = converse(frontend(trusted=True), [line])
    assert out == b'OK "Updated"\r\n'
    assert {"rip": "10.1.1.1", "forward_nopassword": "y"} in found[0]
    assert converse(frontend(trusted=True), [b'XCLIENT "ADDR=10.1.1.1"\r\n']) == ([], BAD)


CAPABILITIES = b'"SASL" "PLAIN"\r\n"STARTTLS"\r\n"XCLIENT"\r\n'
PLAIN = b'AUTHENTICATE "PLAIN" "AGFsaWNlAHNlc2FtZQ=="\r\n'
XCLIENT = b"XCLIENT ADDR=10.1.1.1 PORT=1 SESSION=S TTL=4\r\n"


@pytest.mark.parametrize(("data", "result", "sent"), [
    (CAPABILITIES + b'OK "hi"\r\nOK\r\nOK "in"\r\n', READY, XCLIENT + PLAIN),
    (b'"SASL" "PLAIN"\r\nOK (TAG "x") "hi"\r\nOK (SASL "eA==")\r\n', READY, PLAIN),
    (b'"SASL" "PLAIN"\r\nOK\r\nNO "no"\r\n', REFUSED, PLAIN), (b'"SASL" "PLAIN"\r\nOK\r\nwhat\r\n', REFUSED, PLAIN),
    (b'"SASL" ""\r\nOK\r\n', FAILED, b""), (b"OK\r\n", FAILED, b""), (b'NO "x"\r\n', FAILED, b""),
    (b"* OK hi\r\n", FAILED, b""), (b"x" * (BACKEND_LINE_MAX + 1) + b"\r\n", FAILED, b""),
    (b'"X" "y"\r\n' * (CAPABILITIES_MAX + 1), FAILED, b""),
    (CAPABILITIES + b"OK\r\nNO\r\n", FAILED, XCLIENT),
    (b'"SASL" "PLAIN"\r\nOK\r\n"Pz8="\r\n', FAILED, PLAIN),
])
def test_backend(data: bytes, result: int, sent: bytes) -> None:
    for chunks in ([data], singly(data)):
        assert dialogue(SieveBackend(order("PLAIN", identity=IDENTITY)), chunks)[:2] == (result, sent)


def test_what_a_backend_said_before_tls_is_forgotten() -> None:
    machine = SieveBackend(order("PLAIN", starttls=True, identity=IDENTITY))
    assert machine.feed(CAPABILITIES + b'OK "hi"\r\n') == MORE
    assert machine.take_output() == b"STARTTLS\r\n"
    assert machine.feed(b"OK\r\n") == START_TLS
    assert machine.tls_started() == MORE
    assert machine.feed(b'"VERSION" "1.0"\r\nOK\r\n') == FAILED
    assert machine.failure == spec.REMOTE_CONFIG
    assert machine.take_output() == b""


def test_backend_that_injects_before_tls() -> None:
    machine = SieveBackend(order("PLAIN", starttls=True))
    machine.feed(CAPABILITIES + b"OK\r\n")
    machine.take_output()
    assert machine.feed(b'OK\r\n"SASL" "PLAIN"\r\nOK\r\n') == START_TLS
    assert machine.tls_started() == FAILED
    assert machine.take_output() == b""


_CLIENT = st.sampled_from([b"NOOP", b"AUTHENTICATE ", b'"PLAIN"', b" ", b'"AGE="', b"\r\n", b"\r\n", b"\n", b'"*"',
                           b"{4+}\r\n", b"{4}", b"{99999999999+}\r\n",
                           b"{9000+}\r\n", b"CAPABILITY\r\n", b"STARTTLS\r\n", b"LOGOUT",
                           b"XCLIENT ", b"ADDR=10.1.1.1", b'"', b"\\", b"(", b"\0", b"\xff", b"x" * 1030, b"A" * 8200])
_PLACES = st.lists(st.integers(0, 9999), max_size=4)
_BACKEND = st.sampled_from([CAPABILITIES, b"OK", b'OK "hi"', b"\r\n", b"\r\n", b'NO (TRYLATER) "x"', b"NO", b"BYE",
                            b'"', b'"Pz8="', b"\0", b"\xff", b"x" * 4096, b"OK\r\n", b'"SASL" "PLAIN"\r\n'])


@given(st.lists(_CLIENT | st.binary(max_size=8), max_size=14).map(b"".join), st.lists(st.integers(0, 9999), max_size=5),
       st.booleans(), st.booleans())
@examples(200)
def test_any_client(data: bytes, places: list[int], needs_tls: bool, trusted: bool) -> None:
    whole = converse(frontend(needs_tls=needs_tls, trusted=trusted), [data])
    machine = frontend(needs_tls=needs_tls, trusted=trusted)
    assert converse(machine, cut(data, places)) == whole
    assert whole[1] == b"" or whole[1].endswith(b"\r\n")
    assert b"\0" not in whole[1]
    if machine.state != CLOSED and whole[0][-1:] != [("StartTls",)]:
        assert len(machine.leftover()) <= SASL_MAX + 16


@given(st.lists(_BACKEND | st.binary(max_size=8), max_size=12).map(b"".join), _PLACES,
       st.sampled_from(["PLAIN", "LOGIN", "XOAUTH2"]), st.booleans())
@examples(200)
def test_any_backend(data: bytes, places: list[int], mechanism: str, starttls: bool) -> None:
    whole = dialogue(SieveBackend(order(mechanism, starttls=starttls, identity=IDENTITY)), [data])
    parts = dialogue(SieveBackend(order(mechanism, starttls=starttls, identity=IDENTITY)), cut(data, places))
    assert parts[:2] == whole[:2]
    assert not starttls or b"AUTHENTICATE" not in whole[1]
    assert b"\n" not in whole[4]
    assert whole[0] in (MORE, READY, REFUSED, FAILED, START_TLS)
