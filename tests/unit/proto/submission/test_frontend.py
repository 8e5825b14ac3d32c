"""The Submission server side: commands, limits, AUTH, STARTTLS, XCLIENT, in any cut of the input."""
from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.proto import spec
from mailproxy.proto.commands import CLOSED, SASL
from mailproxy.proto.events import Event, Identify, Quit, SaslAbort, SaslResponse, SaslStart, StartTls
from mailproxy.proto.spec import Offer
from mailproxy.proto.submission.backend import SubmissionBackend
from mailproxy.proto.submission.dialect import Submission
from mailproxy.proto.submission.frontend import SubmissionFrontend
from mailproxy.secret import Secret

NOOP = b"250 2.0.0 OK\r\n"


def frontend(*, secured: bool = True, tls: bool = False, trusted: bool = False, needs_tls: bool = False,
             required: bool = False, **settings: Any) -> SubmissionFrontend:
    """Greeted, the banner taken."""
    dialect = Submission()
    made = dialect.frontend(dialect.share(Offer("hello", (("PLAIN", True), ("SCRAM-SHA-1", False)), True,
                                                needs_tls or required, required, settings, "proxy.test")))
    made.greet(tls, secured, trusted)
    assert made.take_output() == b"220 proxy.test hello\r\n"
    return made


def tell(machine: SubmissionFrontend, data: bytes, size: int = 0) -> tuple[list[Event], bytes]:
    """Feed in pieces of `size`; (events, output)."""
    events: list[Event] = []
    for start in range(0, max(len(data), 1), size or len(data) or 1):
        machine.feed(data[start:start + (size or len(data))])
        while (event := machine.next_event()) is not None:
            events.append(event)
            if isinstance(event, SaslAbort):
                machine.refuse(spec.ABORTED)
    return events, machine.take_output()


@pytest.mark.parametrize("size", [1, 3, 0])
def test_a_dialogue_in_any_cut(size: int) -> None:
    events, out = tell(frontend(), b"EHLO a\r\nNOOP\nFOO\r\nMAIL FROM:<a>\r\nRSET\r\nQUIT\r\nNOOP\r\n", size)
    assert [type(event) for event in events] == [Quit]
    assert out.endswith(NOOP + b"500 5.5.1 Unknown command\r\n530 5.7.0 Authentication required.\r\n" + NOOP
                        + b"221 2.0.0 Bye\r\n")


def test_ehlo_lines() -> None:
    _, out = tell(frontend(secured=False, needs_tls=True, submission_max_mail_size=1000), b"EHLO a\r\n")
    assert out == (b"250-proxy.test\r\n250-8BITMIME\r\n250-AUTH SCRAM-SHA-1\r\n250-BURL imap\r\n250-CHUNKING\r\n"
                   b"250-ENHANCEDSTATUSCODES\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 PIPELINING\r\n")
    _, out = tell(frontend(secured=False, required=True), b"EHLO a\r\n")
    assert b"AUTH" not in out


@pytest.mark.parametrize("size", [1, 100, 0])
def test_overlong_lines_are_answered_once_and_left_out(size: int) -> None:
    machine = frontend()
    assert tell(machine, b"NOOP " + b"x" * 50_000 + b"\r\nNOOP\r\n", size)[1] == b"500 5.5.2 Line too long\r\n" + NOOP
    assert tell(machine, b"X" * 50_000 + b"\r\nNOOP\r\n", size)[1] == b"500 5.5.2 Invalid command syntax\r\n" + NOOP
    assert len(machine.leftover()) == 0


def test_an_endless_line_is_not_kept() -> None:
    machine = frontend()
    for _ in range(1000):
        tell(machine, b"x" * 1000)
    assert len(machine.leftover()) < 2000


@pytest.mark.parametrize("size", [1, 5, 0])
def test_a_chunk_is_never_read_as_commands(size: int) -> None:
    """Bug class: message bytes read as commands."""
    events, out = tell(frontend(), b"BDAT 30 LAST\r\n" + b"QUIT\r\nAUTH PLAIN x\r\n".ljust(30) + b"NOOP\r\n", size)
    assert events == []
    assert out == b"530 5.7.0 Authentication required.\r\n" + NOOP


@pytest.mark.parametrize("line", [b"NOOP\rQUIT\r\n", b"NOOP\0\r\n", b"NOOP \x80\r\n", b"NOOP\r\r\n", b"NO\x0bOP\r\n"])
def test_bare_cr_and_the_like_are_no_line_ends(line: bytes) -> None:
    """Bug class: SMTP smuggling."""
    assert tell(frontend(), line + b"NOOP\r\n") == ([], b"500 5.5.2 Invalid command syntax\r\n" + NOOP)


def test_eleven_bad_commands_in_a_row() -> None:
    machine = frontend()
    assert tell(machine, b"FOO\r\n" * 10 + b"NOOP\r\n" + b"NOOP a b\r\n" * 10)[0] == []
    (event,), out = tell(machine, b"NOOP a b\r\nNOOP\r\n")
    assert isinstance(event, Quit)
    assert event.reason == "Too many invalid commands. (unfinished NOOP command)"
    assert out == b"421 4.7.0 proxy.test Too many invalid commands.\r\n"
    assert machine.state == CLOSED


def test_auth_with_and_without_initial_response() -> None:
    machine = frontend()
    (event,), _ = tell(machine, b"auth plain =\r\nNOOP\r\n")
    assert isinstance(event, SaslStart)
    assert (event.mechanism, event.initial) == (b"PLAIN", b"")
    assert machine.leftover() == b"NOOP\r\n"
    machine.refuse(spec.AUTH_FAILED)
    assert tell(machine, b"") == ([], b"535 5.7.8 Authentication failed.\r\n" + NOOP)
    (event,), _ = tell(machine, b"AUTH PLAIN\r\n")
    assert isinstance(event, SaslStart)
    assert event.initial is None
    machine.challenge(b"")
    (event,), out = tell(machine, b"AGEAYg==\r\n")
    assert out == b"334 \r\n"
    assert isinstance(event, SaslResponse)
    assert event.data == b"AGEAYg=="


@pytest.mark.parametrize(("line", "answer"), [
    (b"*", b"501 5.5.2 Authentication aborted by client."), (b"A" * 8193, b"500 5.5.2 Line too long"),
    (b"A\0A", b"500 5.5.2 Invalid AUTH response syntax"), (b"A\rA", b"500 5.5.2 Invalid AUTH response syntax")])
@pytest.mark.parametrize("size", [1, 0])
def test_an_exchange_that_ends_early(line: bytes, answer: bytes, size: int) -> None:
    machine = frontend()
    tell(machine, b"AUTH PLAIN\r\n")
    machine.challenge(b"")
    machine.take_output()
    events, out = tell(machine, line + b"\r\nNOOP\r\n", size)
    assert [type(event) for event in events] == [SaslAbort]
    assert out == answer + b"\r\n" + NOOP
    assert machine.state != SASL


def test_starttls_forgets() -> None:
    """Bug class: STARTTLS injection; what was said in the clear does not count either."""
    machine = frontend()
    (event,), out = tell(machine, b"EHLO evil\r\nSTARTTLS\r\nAUTH PLAIN AGEAYg==\r\n")
    assert isinstance(event, StartTls)
    assert out.endswith(b"220 2.0.0 Begin TLS negotiation now.\r\n")
    machine.secure()
    machine.resume()
    assert machine.next_event() is None
    assert machine.leftover() == machine.client_id == b""
    assert tell(machine, b"STARTTLS\r\n")[1] == b"502 5.5.1 TLS is already active.\r\n"


def test_tls_required() -> None:
    assert tell(frontend(secured=False, required=True), b"AUTH PLAIN x\r\nMAIL\r\nNOOP\r\n") == (
        [], b"530 5.7.0 TLS required.\r\n" * 2 + NOOP)


def test_xclient_of_strangers() -> None:
    assert tell(frontend(), b"XCLIENT ADDR=10.0.0.1\r\n") == ([], b"550 5.7.14 You are not from trusted IP\r\n")


def test_xclient_of_a_trusted_peer() -> None:
    forward = b64encode(b"nopassword=y\tproxy=y\tpass=x").replace(b"=", b"+3D")
    machine = frontend(trusted=True)
    (event,), out = tell(machine, b"EHLO own\r\nXCLIENT ADDR=10.0.0.1 HELO=theirs PROTO=SMTP LOGIN=a+20b TTL=3 FORWARD="
                         + forward + b"\r\nEHLO other\r\n")
    assert out.count(b"220 proxy.test hello\r\n") == 1
    assert isinstance(event, Identify)
    assert event.forwarded == {"rip": "10.0.0.1", "ttl": "3", "forward_nopassword": "y", "forward_proxy": "y",
                               "forward_pass": "x"}       # never a bare field
    assert machine.client_id == b"HELO=theirs PROTO=SMTP LOGIN=a+20b"


@pytest.mark.parametrize(("hello", "told"), [
    (b"EHLO a_b.c", b"HELO=a_b.c PROTO=ESMTP"), (b"HELO [1.2.3.4] x", b"HELO=[1.2.3.4] PROTO=SMTP"),
    (b"EHLO a..b", b"PROTO=ESMTP"), (b"EHLO a=b", b"PROTO=ESMTP"), (b"EHLO [1.2.3]", b"PROTO=ESMTP")])
def test_what_the_backend_is_told(hello: bytes, told: bytes) -> None:
    machine = frontend()
    tell(machine, hello + b"\r\n")
    assert machine.client_id == told


def test_words_of_the_session() -> None:
    machine = frontend()
    machine.bye("Disconnected for inactivity.")
    assert machine.take_output() == b"421 4.4.2 proxy.test Disconnected for inactivity.\r\n"
    machine.refer(spec.Referral("u", "PLAIN", "h", ""), "")
    assert machine.take_output() == b"535 5.7.8 Try this server instead.\r\n"
    machine = frontend()
    machine.backend_refused(b"421 4.3.2 bye")
    event = machine.next_event()
    assert isinstance(event, Quit)
    assert event.reason == "Server closed the connection: 421 4.3.2 bye"
    assert machine.take_output() == b"421 4.3.2 bye\r\n"


def test_every_refusal_has_words() -> None:
    for why in range(spec.INTERNAL + 1):
        machine = frontend()
        machine.refuse(why)
        assert machine.take_output()[:1] in b"45"


def test_welcome_passes_the_reply_on() -> None:
    machine, backend = frontend(), SubmissionBackend(spec.Order("u", Secret("p")))
    backend.reply = b"235-a\r\n235 b"
    machine.welcome(backend)
    assert machine.take_output() == b"235-a\r\n235 b\r\n"


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes(data: bytes, size: int) -> None:
    whole, cut = frontend(trusted=True), frontend(trusted=True)
    data = data.replace(b"\x07", b"\r\n").replace(b"\x08", b"XCLIENT ").replace(b"\x0e", b"BDAT ")
    assert tell(whole, data)[1] == tell(cut, data, size)[1]
