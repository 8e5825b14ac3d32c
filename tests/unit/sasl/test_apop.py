"""APOP's server half: what it takes, and from whom."""
from __future__ import annotations

import hashlib

import pytest

from mailproxy.sasl.apop import Server
from mailproxy.sasl.mechanism import Answer, Challenge, Refusal, Verdict, Wanted

CHALLENGE = b"<1f4.2.6b03.nonce==@host>"


def message(challenge: bytes = CHALLENGE, password: bytes = b"secret", user: bytes = b"alice") -> bytes:
    return challenge + b"\0" + user + b"\0" + hashlib.md5(challenge + password).digest()


def server() -> Server:
    return Server(0x1f4, 2, 0x6b03 + 0.9)


def right(answer: Answer) -> bool:
    assert isinstance(answer, Verdict)
    return answer.right


def test_a_right_proof_holds_for_the_right_password_alone() -> None:
    mechanism = server()
    answer = mechanism.respond(message())
    assert isinstance(answer, Wanted)
    assert (answer.scheme, answer.authcid) == ("PLAIN", "alice")
    assert right(mechanism.check(b"secret"))
    assert not right(mechanism.check(b"Secret"))
    assert not right(mechanism.check(b""))
    assert not right(mechanism.check(None))


@pytest.mark.parametrize("challenge", [
    b"<1f5.2.6b03.x@h>", b"<1f4.3.6b03.x@h>", b"<1f4.2.6b02.x@h>", b"1f4.2.6b03.x@h", b"<1f4.2>", b"",
    b"<-1f4.2.6b03.x@h>", b"<1f4.2.6b03", b"<" + b"f" * 5000])
def test_a_challenge_of_somebody_else_or_of_another_time(challenge: bytes) -> None:
    answer = server().respond(message(challenge))
    assert isinstance(answer, Refusal)
    assert answer.text == "invalid challenge"


@pytest.mark.parametrize("data", [b"", CHALLENGE, CHALLENGE + b"\0alice", CHALLENGE + b"\0alice\0short",
                                  message() + b"x"])
def test_malformed(data: bytes) -> None:
    assert isinstance(server().respond(data), Refusal)


def test_without_an_initial_response() -> None:
    assert isinstance(server().respond(None), Challenge)
