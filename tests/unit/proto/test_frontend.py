"""The IMAP dialogue before login: what a client sends, what it gets, what the session is told."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailproxy.proto import spec
from mailproxy.proto.commands import CLOSED, COMMAND, SASL_MAX, WAIT
from mailproxy.proto.events import PlainLogin, SaslStart, StartTls
from mailproxy.proto.imap import wire
from tests.fuzz import examples
from tests.unit.proto.drive import CLIENT_INPUT, converse, cut, frontend, singly

FAILED = b"a NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"


@pytest.mark.parametrize(("data", "user", "password"), [
    (b"a LOGIN alice sesame\r\n", b"alice", b"sesame"), (b"a login alice sesame\n", b"alice", b"sesame"),
    (b'a LOGIN "alice" "se\\"sa\\\\me"\r\n', b"alice", b'se"sa\\me'), (b'a LOGIN "" ""\r\n', b"", b""),
    (b"a LOGIN {5+}\r\nalice {6+}\r\nsesame\r\n", b"alice", b"sesame"),
    (b"a LOGIN alice {4+}\r\na\r\nb\r\n", b"alice", b"a\r\nb"), (b"a LOGIN alice {0+}\r\n\r\n", b"alice", b""),
    (b"a LOGIN NIL nil\r\n", b"NIL", b"nil"), (b'a LOGIN "al ice" s\xc3\xa4\r\n', None, None),
    (b'a LOGIN alice "s\xc3\xa4"\r\n', b"alice", "sä".encode()),
])
@pytest.mark.parametrize("whole", [True, False])
def test_login(data: bytes, user: bytes | None, password: bytes | None, whole: bool) -> None:
    events, out = converse(frontend(), [data] if whole else singly(data))
    if user is None:
        assert events == []
        assert b"a BAD " in out
    else:
        assert events == [("PlainLogin", password, user)]
        assert out == FAILED


def test_synchronising_literal_is_invited_once() -> None:
    machine = frontend()
    for chunk, reply in ((b"a LOGIN {5}\r\n", b"+ OK\r\n"), (b"ali", b""), (b"ce {6}\r\n", b"+ OK\r\n"), (b"sesame",
                                                                                                          b"")):
        machine.feed(chunk)
        assert machine.next_event() is None
        assert machine.take_output() == reply
    machine.feed(b"\r\nb NOOP\r\n")
    event = machine.next_event()
    assert isinstance(event, PlainLogin)
    assert (event.user, event.password) == (b"alice", b"sesame")
    assert machine.state == WAIT
    assert machine.next_event() is None
    assert machine.leftover() == b"b NOOP\r\n"


@pytest.mark.parametrize(("data", "expected"), [
    (b"a NOOP\r\n", [b"a OK"]), (b"a CAPABILITY\r\n", [b"* CAPABILITY IMAP4rev1", b"a OK"]),
    (b"a LOGOUT\r\n", [b"* BYE", b"a OK"]), (b"a ID NIL\r\n", [b"* ID (", b"a OK"]),
    (b'a ID ("name" "x")\r\n', [b"* ID (", b"a OK"]), (b"a ID (\r\n", [b"a BAD"]), (b"a FOO\r\n", [b"a BAD"]),
    (b"a LOGIN x\r\n", [b"a BAD"]), (b"a LOGIN x y z\r\n", [b"a BAD"]), (b"a LOGIN (x) y\r\n", [b"a BAD"]),
    (b"* NOOP\r\n", [b"* BAD"]), (b'"a" NOOP\r\n', [b"* BAD"]), (b"x" * 127 + b" NOOP\r\n", [b"* BAD"]),
    (b'a LOGIN "x\r\n', [b"a BAD"]), (b"a LOGIN x\0 y\r\n", [b"a BAD"]), (b'a LOGIN "x\0" y\r\n', [b"a BAD"]),
    (b"a LOGIN ((((((((x\r\n", [b"a BAD"]), (b"a ENABLE X\r\n", [b"* ENABLED", b"a OK"]),
])
def test_commands(data: bytes, expected: list[bytes]) -> None:
    for chunks in ([data], singly(data)):
        _, out = converse(frontend(), chunks)
        lines = out.split(b"\r\n")[:-1]
        assert [line[:len(start)] for line, start in zip(lines, expected, strict=True)] == expected


def test_capabilities_depend_on_security() -> None:
    for options, tls, words, absent in (
            ({}, False, [b"STARTTLS", b"AUTH=PLAIN"], [b"LOGINDISABLED"]),
            ({"tls": False}, False, [b"AUTH=PLAIN"], [b"STARTTLS", b"LOGINDISABLED"]),
            ({"needs_tls": True}, False, [b"STARTTLS", b"LOGINDISABLED"], [b"AUTH=PLAIN"]),
            ({"needs_tls": True}, True, [b"AUTH=PLAIN"], [b"STARTTLS", b"LOGINDISABLED"]),
            ({"required": True}, False, [b"STARTTLS", b"LOGINDISABLED"], [b"AUTH="])):
        machine = frontend(**options)  # type: ignore[arg-type]
        machine.greet(tls, tls)
        greeting = machine.take_output()
        assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
        assert all(word in greeting for word in words), greeting
        assert not any(word in greeting for word in absent), greeting


# --- STARTTLS ---

def test_starttls_and_nothing_that_came_before_it() -> None:
    machine = frontend()
    machine.feed(b"a STARTTLS\r\nb LOGIN eve injected\r\n")
    assert isinstance(machine.next_event(), StartTls)
    assert machine.take_output().startswith(b"a OK")
    assert machine.next_event() is None
    machine.secure()
    machine.resume()
    assert machine.next_event() is None
    assert machine.leftover() == b""
    machine.feed(b"c STARTTLS\r\nd CAPABILITY\r\n")
    assert machine.next_event() is None
    out = machine.take_output()
    assert out.startswith(b"c BAD")
    assert b"STARTTLS" not in out[out.index(b"* CAPABILITY"):]


def test_half_a_command_before_starttls_is_forgotten() -> None:
    machine = frontend()
    machine.feed(b"a STARTTLS\r\nb LOG")
    machine.next_event()
    machine.secure()
    machine.resume()
    machine.take_output()
    machine.feed(b"IN eve injected\r\n")
    assert machine.next_event() is None
    assert b"BAD" in machine.take_output()


def test_starttls_without_tls() -> None:
    events, out = converse(frontend(tls=False), [b"a STARTTLS\r\n"])
    assert events == []
    assert out.startswith(b"a BAD")


# --- ID ---

def test_identity() -> None:
    data = (b'a ID ("x-originating-ip" "10.1.1.1" "X-Session-ID" "s" "x-forward-color" "blue" "name" "mutt" '
            b'"x-proxy-ttl" NIL "odd")\r\nb ID ("x-originating-ip" "10.2.2.2")\r\n')
    events, _ = converse(frontend(), [data])
    assert [event[0] for event in events] == ["Identify", "Identify"]
    first = dict(zip(("first", "forwarded", "said"), events[0][1:], strict=True))
    assert first["first"] is True
    assert {"rip": "10.1.1.1", "session": "s", "forward_color": "blue"}.items() <= first["forwarded"].items()
    assert ("name", "mutt") in first["said"]
    assert events[1][1] is False


def test_identity_is_bounded() -> None:
    pairs = b" ".join(b'"k%d" "v"' % number for number in range(500))
    events, out = converse(frontend(), [b"a ID (" + pairs + b")\r\n"])
    assert out.endswith(b"a OK ID completed.\r\n")
    assert len(events[0][3]) <= 64


@pytest.mark.parametrize("pairs", [
    b'"name" "x"', b'"x-originating-ip" "10.1.1.1" "name" "x" "x-forward-a" "b"', b'"name" {3+}\r\n\xff\r\n "a" "b"'])
def test_retained_identity_never_forges_ours(pairs: bytes) -> None:
    machine = frontend(imap_id_retain=True)
    converse(machine, [b"a ID (" + pairs + b")\r\n"])
    assert b"x-" not in machine.client_id
    assert not set(machine.client_id) & set(b"\r\n\0")


# --- SASL ---

@pytest.mark.parametrize(("line", "mechanism", "initial"), [
    (b"a AUTHENTICATE PLAIN\r\n", b"PLAIN", None), (b"a authenticate plain\r\n", b"PLAIN", None),
    (b"a AUTHENTICATE PLAIN =\r\n", b"PLAIN", b""), (b"a AUTHENTICATE PLAIN AGEAYg==\r\n", b"PLAIN", b"AGEAYg=="),
    (b"a AUTHENTICATE X " + b"A" * SASL_MAX + b"\r\n", b"X", b"A" * SASL_MAX),
])
def test_authenticate(line: bytes, mechanism: bytes, initial: bytes | None) -> None:
    for chunks in ([line], singly(line)):
        machine = frontend()
        event = None
        for chunk in chunks:
            assert event is None
            machine.feed(chunk)
            event = machine.next_event()
        assert isinstance(event, SaslStart)
        assert (event.mechanism, event.initial) == (mechanism, initial)


def test_sasl_lines() -> None:
    data = b"a AUTHENTICATE LOGIN\r\nYQ==\r\n*\r\nb NOOP\r\n"
    events, out = converse(frontend(), [data])
    assert [event[0] for event in events] == ["SaslStart", "SaslResponse", "SaslAbort"]
    assert out.count(b"+ Pz8=\r\n") == 2
    assert out.endswith(b"b OK NOOP completed.\r\n")


def test_too_long_sasl_line_ends_it() -> None:
    for data in (b"a AUTHENTICATE PLAIN " + b"A" * 10000, b"a AUTHENTICATE PLAIN\r\n" + b"A" * 10000):
        for chunks in ([data], cut(data, list(range(0, 10000, 100)))):
            machine = frontend()
            events, _ = converse(machine, chunks)
            assert events[-1][0] == "Quit"
            assert machine.state == CLOSED


# --- limits ---

@pytest.mark.parametrize("data", [
    b"x" * 5000, b"a " + b"x" * 5000, b"a FOO " + b"x" * 5000, b'a LOGIN "' + b"x" * 5000, b"a LOGIN {99999}\r\n",
    b"a LOGIN {5000+}\r\n" + b"x" * 6000, b"a LOGIN {" + b"1" * 3000, b"a" * 5000 + b" NOOP\r\n",
    b"a" + b" " * 5000 + b"x",
    b"a FOO\r\n" * 100, b"\r\n" * 100, b"a FOO " + b"x " * 20000,
])
def test_endless_input_is_held_within_bounds_and_ends(data: bytes) -> None:
    for size in (1, 100, 4096):
        machine = frontend()
        events: list[Any] = []
        for at in range(0, len(data), size):
            found, out = converse(machine, [data[at:at + size]])
            events += found
            assert len(machine.leftover()) <= wire.LINE_MAX + 4096
            assert len(out) < 20_000
            if machine.state == CLOSED:
                break
        assert machine.state in (CLOSED, COMMAND)


@pytest.mark.parametrize("why", range(18))
def test_every_refusal_is_one_tagged_line(why: int) -> None:
    for text in ("", "Come back later", "[ALERT] Look", "line\r\nbreak"):
        if why == spec.REFERRAL:
            continue
        machine = frontend()
        machine.feed(b"a AUTHENTICATE PLAIN AGEAYg==\r\nb NOOP\r\n")
        machine.next_event()
        machine.refuse(why, text.replace("\r\n", " "))
        assert machine.next_event() is None
        out = machine.take_output()
        lines = out.split(b"\r\n")[:-1]
        assert len(lines) == 2, out
        assert lines[0].startswith((b"a NO ", b"a BAD "))
        assert lines[1] == b"b OK NOOP completed."


def test_referral() -> None:
    machine = frontend()
    machine.feed(b"a LOGIN x y\r\n")
    machine.next_event()
    machine.refer(spec.Referral("al ice;@x", "PLAIN", "other.test", "144"), "")
    out = machine.take_output()
    assert out.startswith(b"a NO [REFERRAL imap://al%20ice%3b%40x;AUTH=PLAIN@other.test:144/] ")


# --- splits and garbage ---

@given(CLIENT_INPUT, st.lists(st.integers(0, 1 << 20), max_size=8))
@example(b"a LOGIN {5}\r\nalice {6}\r\nsesame\r\nb AUTHENTICATE LOGIN\r\nYQ==\r\nYg==\r\nc NOOP\r\n", [3])
@example(b'a ID ("a" {3+}\r\nx\r\n "b" NIL)\r\nb LOGIN "a\\"b" c\r\n', [9])
@example(b"a AUTHENTICATE PLAIN\r\n" + b"A" * SASL_MAX + b"\r\nb NOOP\r\n", [SASL_MAX + 23])
@example(b"y" * wire.TOKEN_MAX + b"\r\n", [wire.TOKEN_MAX])
@example(b"y" * wire.TOKEN_MAX + b" ", [wire.TOKEN_MAX])
@example(b"a a " + b"y" * (wire.TOKEN_MAX + 2) + b"\0\r\n", [wire.TOKEN_MAX + 4])
@example(b"A1 " + b"y" * (wire.TOKEN_MAX - 1) + b"\r\n", [wire.TOKEN_MAX])
@examples(300)
def test_cuts_make_no_difference(data: bytes, places: list[int]) -> None:
    whole = converse(frontend(), [data])
    assert converse(frontend(), cut(data, places)) == whole


@given(CLIENT_INPUT)
@examples(80)
def test_byte_by_byte_makes_no_difference(data: bytes) -> None:
    assert converse(frontend(), singly(data[:1500])) == converse(frontend(), [data[:1500]])


def test_the_largest_id_of_the_rfc_and_no_more() -> None:
    pairs = b" ".join(b'"%029d" "%b"' % (number, b"v" * 1018) for number in range(30))
    _, out = converse(frontend(), [b"a ID (%b)\r\n" % pairs])
    assert b"a OK ID completed." in out
    _, out = converse(frontend(), [b"b ID (%b)\r\nc NOOP\r\n" % b" ".join([pairs] * 3)])
    assert b"b BAD IMAP command line too large" in out
    assert b"c OK" in out
