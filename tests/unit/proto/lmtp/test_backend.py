"""The backend's side of LMTP: orders of replies that servers should not, and do, produce."""
from __future__ import annotations

from typing import Any

import pytest

from mailproxy.proto.lmtp.backend import BAD_REPLY, CONNECT, LOST, Backend, Order
from mailproxy.proto.smtp.wire import Reply

LHLO = b"250-be\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 STARTTLS\r\n"
PLAIN = b"250 be\r\n"


class Owner:
    """Writes down what happens; `said` is what the backend got."""

    def __init__(self, **order: Any) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.backend = Backend(Order(b"proxy.test", b"s@x", **order), self)

    def recipient(self, token: Any, reply: Reply) -> None:
        self.events.append(("rcpt", token, reply.code))

    def go(self, *, chunked: bool) -> None:
        self.events.append(("go", chunked))

    def final(self, token: Any, reply: Reply) -> None:
        self.events.append(("final", token, reply.code))

    def secure(self) -> None:
        self.events.append(("secure",))

    def ready(self) -> None:
        """Only clocks want to know."""

    def failed(self, kind: str, text: str, log: str) -> None:
        self.events.append(("failed", kind))

    def said(self, *answers: bytes) -> bytes:
        for answer in answers:
            self.backend.feed(answer)
        return self.backend.take_output()


def ready(*tokens: str, **order: Any) -> Owner:
    owner = Owner(**order)
    for token in tokens:
        owner.backend.add(token, f"<{token}>".encode(), b"")
    owner.said(b"220 hi\r\n", LHLO)
    return owner


def test_envelope_is_pipelined_where_that_is_allowed() -> None:
    owner = Owner()
    owner.backend.add("a", b"<a>", b"")
    owner.backend.add("b", b"<b>", b"")
    assert owner.said(b"220 hi\r\n") == b"LHLO proxy.test\r\n"
    assert owner.said(LHLO) == b"MAIL FROM:<s@x>\r\nRCPT TO:<a>\r\nRCPT TO:<b>\r\n"
    slow = Owner()
    slow.backend.add("a", b"<a>", b"")
    slow.backend.add("b", b"<b>", b"")
    slow.said(b"220 hi\r\n")
    assert slow.said(PLAIN) == b"MAIL FROM:<s@x>\r\n"
    assert slow.said(b"250 ok\r\n") == b"RCPT TO:<a>\r\n"
    assert slow.said(b"550 no\r\n") == b"RCPT TO:<b>\r\n"


def test_each_recipient_has_its_own_answer() -> None:
    owner = ready("a", "b", "c")
    owner.said(b"250 ok\r\n250 a\r\n550 b\r\n250 c\r\n")
    owner.backend.send_message(10)
    assert owner.backend.take_output() == b"BDAT 10 LAST\r\n"
    owner.backend.sent()
    assert owner.said(b"250 a\r\n452 c\r\n") == b"QUIT\r\n"
    assert owner.events[-3:] == [("go", True), ("final", "a", 250), ("final", "c", 452)]


def test_one_answer_counts_for_all_over_smtp() -> None:
    owner = ready("a", "b", smtp=True)
    owner.said(b"250 ok\r\n250 a\r\n250 b\r\n")
    owner.backend.send_message(10)
    owner.backend.sent()
    owner.said(b"250 both\r\n")
    assert owner.events[-2:] == [("final", "a", 250), ("final", "b", 250)]


def test_success_before_the_message_is_out_is_a_lie() -> None:
    owner = ready("a")
    owner.said(b"250 ok\r\n250 a\r\n")
    owner.backend.send_message(10)
    owner.said(b"250 saved\r\n")
    assert owner.events[-1] == ("failed", BAD_REPLY)


def test_refusal_before_the_message_is_out_counts_and_nothing_is_said_into_it() -> None:
    owner = ready("a")
    owner.said(b"250 ok\r\n250 a\r\n")
    owner.backend.send_message(10)
    owner.backend.take_output()
    assert owner.said(b"552 too big\r\n") == b""
    assert owner.events[-1] == ("final", "a", 552)


@pytest.mark.parametrize("answers", [
    (b"220 hi\r\n250 early\r\n",), (b"220 hi\r\n", LHLO, b"250 ok\r\n250 a\r\n250 again\r\n"),
    (b"220 hi\r\n", LHLO + b"250 mail\r\n"), (b"220 hi\r\n", LHLO, b"250 ok\r\n354 go\r\n"),
])
def test_replies_that_nobody_asked_for(answers: tuple[bytes, ...]) -> None:
    owner = Owner()
    owner.backend.add("a", b"<a>", b"")
    owner.said(*answers)
    if owner.events[-1] != ("failed", BAD_REPLY):
        owner.backend.send_message(3)
    assert ("failed", BAD_REPLY) in owner.events
    assert not any(event[0] in ("go", "final") for event in owner.events)


@pytest.mark.parametrize(("answer", "kind"), [
    (b"421 busy\r\n", LOST), (b"hello\r\n", BAD_REPLY), (b"250 " + b"x" * 5000 + b"\r\n", BAD_REPLY),
    (b"250 a\0b\r\n", BAD_REPLY), (b"250-a\r\n" * 200, BAD_REPLY), (b"250-a\r\n550 b\r\n", BAD_REPLY),
    (b"x" * 9000, BAD_REPLY),
])
def test_broken_replies(answer: bytes, kind: str) -> None:
    owner = ready("a")
    owner.said(b"250 ok\r\n", answer)
    assert owner.events == [("failed", kind)]


def test_nothing_from_before_tls_counts() -> None:
    owner = Owner(starttls=True)
    owner.backend.add("a", b"<a>", b"")
    owner.said(b"220 hi\r\n")
    assert owner.said(LHLO) == b"STARTTLS\r\n"
    injected = Owner(starttls=True)
    injected.said(b"220 hi\r\n", LHLO, b"220 go\r\n250 CHUNKING\r\n")
    assert injected.events == [("failed", CONNECT)]
    owner.said(b"220 go\r\n")
    assert owner.events == [("secure",)]
    owner.backend.secured()
    assert owner.backend.take_output() == b"LHLO proxy.test\r\n"
    assert owner.said(PLAIN) == b"MAIL FROM:<s@x>\r\n"


def test_starttls_that_is_not_offered() -> None:
    owner = Owner(starttls=True)
    owner.said(b"220 hi\r\n", PLAIN)
    assert owner.events == [("failed", CONNECT)]


def test_identity_is_for_those_who_want_it() -> None:
    identity = ((b"HELO", b"mx"), (b"ADDR", b"1.2.3.4"), (b"SESSION", b"x" * 600))
    owner = Owner(identity=identity)
    owner.backend.add("a", b"<a>", b" XRCPTFORWARD=x+3Dy")
    owner.said(b"220 hi\r\n")
    asked = owner.said(b"250-be\r\n250-XCLIENT ADDR SESSION\r\n250 XRCPTFORWARD\r\n")
    assert asked.count(b"XCLIENT") == 2
    assert b"HELO" not in asked
    assert owner.said(b"220 ok\r\n") == b""
    assert owner.said(b"220 ok\r\n") == b"LHLO proxy.test\r\n"
    owner.said(b"250-be\r\n250-XRCPTFORWARD\r\n250 PIPELINING\r\n")
    assert Owner(identity=identity).said(b"220 hi\r\n", PLAIN) == b"LHLO proxy.test\r\n"


def test_a_refused_sender_is_every_recipients_refusal() -> None:
    owner = ready("a", "b")
    owner.said(b"550 bad sender\r\n")
    owner.backend.add("c", b"<c>", b"")
    owner.said(b"503 no\r\n503 no\r\n")
    assert owner.events == [("rcpt", "a", 550), ("rcpt", "b", 550), ("rcpt", "c", 550)]


@pytest.mark.parametrize(("answer", "event"), [
    (b"554 no\r\n", ("final", "a", 554)), (b"250 what\r\n", ("failed", BAD_REPLY))])
def test_data_that_is_not_wanted(answer: bytes, event: tuple[Any, ...]) -> None:
    owner = Owner()
    owner.backend.add("a", b"<a>", b"")
    owner.said(b"220 hi\r\n", PLAIN, b"250 ok\r\n", b"250 a\r\n")
    owner.backend.send_message(3)
    assert owner.backend.take_output() == b"DATA\r\n"
    owner.said(answer)
    assert owner.events[-1] == event
