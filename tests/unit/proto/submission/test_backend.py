"""The Submission client side: what it sends, and what it makes of the backend's answers."""
from __future__ import annotations

from typing import Any

import pytest

from mailproxy import sasl
from mailproxy.proto import spec
from mailproxy.proto.spec import FAILED, MORE, READY, REFUSED, START_TLS, Order
from mailproxy.proto.submission.backend import SubmissionBackend
from mailproxy.secret import Secret

IDENTITY = (("session", "S"), ("rip", "10.0.0.1"), ("rport", "7"), ("lip", "10.0.0.2"), ("lport", "587"), ("ttl", "4"))
CAPS = b"250-be\r\n250-AUTH PLAIN\r\n250 ENHANCEDSTATUSCODES\r\n"
XCLIENT = b"250-be\r\n250-AUTH PLAIN\r\n250 XCLIENT ADDR LOGIN HELO PROTO\r\n"


def backend(mechanism: str = "PLAIN", **more: Any) -> SubmissionBackend:
    half = sasl.client(mechanism, "alice", Secret("sesame"))
    return SubmissionBackend(Order("alice", Secret("sesame"), mechanism, half, machine="proxy.test",
                                   identity=more.pop("identity", IDENTITY), **more))


def play(machine: SubmissionBackend, *chunks: bytes, size: int = 0) -> tuple[int, bytes]:
    """(last result, all output)."""
    result, out = MORE, b""
    for chunk in chunks:
        for start in range(0, len(chunk), size or len(chunk)):
            result = machine.feed(chunk[start:start + (size or len(chunk))])
            out += machine.take_output()
            if result != MORE:
                return result, out
    return result, out


@pytest.mark.parametrize("size", [1, 3, 0])
def test_plain_login(size: int) -> None:
    machine = backend()
    result, out = play(machine, b"220-a\r\n220 b\r\n", CAPS, b"235 2.7.0 in\r\n", size=size)
    assert result == READY
    assert out == b"EHLO proxy.test\r\nAUTH PLAIN AGFsaWNlAHNlc2FtZQ==\r\n"
    assert machine.reply == b"235 2.7.0 in"


def test_leftover_behind_success() -> None:
    machine = backend()
    assert play(machine, b"220 a\r\n", CAPS, b"235 in\r\n421 4.4.0 relay\r\nx")[0] == READY
    assert machine.leftover() == b"421 4.4.0 relay\r\nx"


def test_xclient_then_ehlo_then_auth() -> None:
    machine = backend(client_id=b"HELO=c.test PROTO=SMTP")
    result, out = play(machine, b"220 a\r\n", XCLIENT)
    assert result == MORE
    assert out == b"EHLO proxy.test\r\nXCLIENT HELO=c.test PROTO=SMTP ADDR=10.0.0.1\r\nEHLO proxy.test\r\n"
    assert machine.describe() == "xclient"
    assert play(machine, b"220 again\r\n") == (MORE, b"")
    assert play(machine, CAPS)[1].startswith(b"AUTH PLAIN ")


def test_xclient_without_pipelining() -> None:
    machine = backend(pipelining=False)
    xclient = b"XCLIENT HELO=[UNAVAILABLE] PROTO=ESMTP ADDR=10.0.0.1\r\n"
    assert play(machine, b"220 a\r\n", XCLIENT) == (MORE, b"EHLO proxy.test\r\n" + xclient)
    assert play(machine, b"220 again\r\n") == (MORE, b"EHLO proxy.test\r\n")
    assert play(machine, CAPS)[1].startswith(b"AUTH PLAIN ")


def test_noauth() -> None:
    machine = backend(noauth=True)
    assert play(machine, b"220 a\r\n", XCLIENT)[1].endswith(
        b"XCLIENT HELO=[UNAVAILABLE] PROTO=ESMTP LOGIN=alice ADDR=10.0.0.1\r\nEHLO proxy.test\r\n")
    assert play(machine, b"220 again\r\n", XCLIENT) == (READY, b"")
    assert machine.reply == b"235 2.7.0 Logged in."


@pytest.mark.parametrize("identity", [IDENTITY, ()])
def test_noauth_without_an_identity_is_refused(identity: Any) -> None:
    machine = backend(noauth=True, identity=identity)
    assert play(machine, b"220 a\r\n", CAPS if identity else XCLIENT)[0] == FAILED
    assert machine.failure == spec.REMOTE_CONFIG
    machine = backend(noauth=True, anonymous=True, identity=identity)
    assert play(machine, b"220 a\r\n", CAPS)[0] == READY


def test_starttls() -> None:
    machine = backend(starttls=True)
    assert play(machine, b"220 a\r\n", b"250-b\r\n250-XCLIENT ADDR\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n",
                b"220 go\r\n") == (START_TLS, b"EHLO proxy.test\r\nSTARTTLS\r\n")
    assert machine.tls_started() == MORE
    assert machine.take_output() == b"EHLO proxy.test\r\n"
    assert play(machine, b"250 b\r\n")[0] == FAILED       # what was offered in the clear does not count
    assert machine.reason == "Authentication support not advertised (TLS required?)"


def test_starttls_injection() -> None:
    machine = backend(starttls=True)
    assert play(machine, b"220 a\r\n", b"250 STARTTLS\r\n", b"x")[0] == FAILED
    machine = backend(starttls=True)
    injected = b"220 go\r\n" + CAPS + b"235 in\r\n"
    assert play(machine, b"220 a\r\n", b"250-b\r\n250 STARTTLS\r\n", injected)[0] == START_TLS
    assert machine.tls_started() == FAILED
    assert machine.reason == "Plaintext data received after STARTTLS"


def test_answers_before_their_commands() -> None:
    """Bug class: a backend replies to commands that were never sent; no 235 counts but the answer to AUTH."""
    for chunks in ((b"220 a\r\n235 in\r\n",), (b"220 a\r\n", CAPS + b"235 in\r\n")):
        machine = backend()
        assert play(machine, *chunks)[0] == FAILED
        assert machine.reason == "Unexpected reply: 235 in"
    machine = backend(starttls=True)
    assert play(machine, b"220 a\r\n250 b\r\n235 in\r\n")[0] == FAILED


@pytest.mark.parametrize(("answer", "temporary", "reason"), [
    (b"535 5.7.8 no\r\n", False, "no"), (b"454 4.7.0 later\r\n", True, "later"), (b"421 bye\r\n", False, "bye"),
    (b"535-5.7.8 a\r\n535 5.7.8 b\r\n", False, "a b"), (b"535\r\n", False, ""), (b"535 4.7.0 x\r\n", False, "4.7.0 x")])
def test_refusals(answer: bytes, temporary: bool, reason: str) -> None:
    machine = backend()
    assert play(machine, b"220 a\r\n", CAPS, answer)[0] == REFUSED
    assert (machine.temporary, machine.reason, machine.reply + b"\r\n") == (temporary, reason, answer)


@pytest.mark.parametrize(("chunks", "failure", "reason"), [
    ((b"hello\r\n",), spec.PROTOCOL, "Invalid banner: hello"),
    ((b"554 no\r\n",), spec.PROTOCOL, "Invalid banner: 554 no"),
    ((b"220 a\r\n", b"502 no\r\n"), spec.PROTOCOL, "Invalid EHLO line: 502 no"),
    ((b"220 a\r\n", b"250-a\r\nfoo\r\n"), spec.PROTOCOL, "Inconsistent SMTP reply: foo (status != 250)"),
    ((b"220 a\r\n", b"250 a\r\n"), spec.REMOTE_CONFIG, "Authentication support not advertised (TLS required?)"),
    ((b"220 a\r\n", XCLIENT, b"550 no\r\n"), spec.REMOTE, "XCLIENT failed: 550 no"),
    ((b"220 a\r\n", XCLIENT, b"no\r\n"), spec.REMOTE, "XCLIENT failed: no"),
    ((b"220 a\r\n", CAPS, b"334 !\r\n"), spec.PROTOCOL, "Invalid base64 data in AUTH response"),
    ((b"220 a\r\n", CAPS, b"334 eA==\r\n"), spec.PROTOCOL,
     "Invalid authentication data: Server didn't finish authentication"),
    ((b"220 a\r\n", CAPS, b"nonsense\r\n"), spec.PROTOCOL, "Invalid SMTP reply: nonsense"),
    ((b"220 " + b"x" * 5000,), spec.PROTOCOL, "Too long input line")])
def test_failures(chunks: tuple[bytes, ...], failure: int, reason: str) -> None:
    machine = backend()
    assert play(machine, *chunks)[0] == FAILED
    assert (machine.failure, machine.reason) == (failure, reason)


def test_long_credentials_wait_for_a_go_ahead() -> None:
    machine = SubmissionBackend(Order("u", Secret("x"), "PLAIN", sasl.client("PLAIN", "u", Secret("p" * 500)),
                                      machine="proxy.test"))
    assert play(machine, b"220 a\r\n", CAPS)[1] == b"EHLO proxy.test\r\nAUTH PLAIN\r\n"
    assert len(play(machine, b"334 \r\n")[1]) > 600
    assert play(machine, b"235 in\r\n")[0] == READY


def test_login_mechanism() -> None:
    machine = backend("LOGIN")
    assert play(machine, b"220 a\r\n", CAPS, b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 in\r\n") == (
        READY, b"EHLO proxy.test\r\nAUTH LOGIN\r\nYWxpY2U=\r\nc2VzYW1l\r\n")


def test_a_refused_token() -> None:
    machine = backend("XOAUTH2")
    assert play(machine, b"220 a\r\n", CAPS, b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")[0] == FAILED
    assert machine.reason == "Invalid authentication data: Failed to authenticate: 401"
