"""The client's side of LMTP: nothing depends on how packets are cut, data is never read as commands."""
from __future__ import annotations

import random

import pytest

from mailproxy.proto.lmtp import frontend as machine
from mailproxy.proto.lmtp.frontend import Chunk, Done, Frontend, Mail, Offer, Quit, Recipient, Reset

OFFER = Offer(b"proxy.test", b"ready", True)
BEGIN = b"LHLO mx\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@b>\r\n"


class Drive:
    """A frontend whose recipients are all taken at once, and whose messages are all saved."""

    def __init__(self, *, trusted: bool = False, accept: bool = True) -> None:
        self.machine = Frontend(OFFER, trusted=trusted)
        self.accept = accept
        self.out = b""
        self.body = b""
        self.messages: list[bytes] = []
        self.names: list[str] = []

    def feed(self, data: bytes) -> None:
        self.machine.feed(data)
        while (event := self.machine.next_event()) is not None:
            if not isinstance(event, Chunk):
                self.names.append(type(event).__name__)
            if isinstance(event, Recipient):
                reply = b"250 2.1.5 OK\r\n" if self.accept else b"550 5.1.1 no\r\n"
                self.machine.answer(event, reply, accepted=self.accept)
            elif isinstance(event, (Mail, Reset)):
                self.body = b""
            elif isinstance(event, Chunk):
                self.body += event.data
            elif isinstance(event, Done):
                self.messages.append(self.body)
                for _ in range(self.machine.accepted):
                    self.machine.final(b"250 2.0.0 Saved\r\n")
                self.machine.finished()
            elif isinstance(event, Quit):
                break
        self.out += self.machine.take_output()

    def codes(self) -> list[bytes]:
        return [line[:3] for line in self.out.splitlines() if line[3:4] == b" "]


DIALOGUES = [
    BEGIN + b"DATA\r\na: b\r\n\r\n..x\r\n.y\r\n.\r\nNOOP\r\nQUIT\r\n",
    BEGIN + b"BDAT 5\r\nQUIT\rBDAT 3 LAST\r\n\n.\r\nNOOP\r\nQUIT\r\n",
    b"BDAT 6 LAST\r\nQUIT\r\nBDAT 6\r\nQUIT\r\nRSET\r\nNOOP\r\n",
    b"NOOP " + b"x" * 9000 + b"\r\nNOOP\r\n",
    b"LHLO\r\nLHLO a\nMAIL FROM:<>\nRCPT TO:<a>\nDATA\nx\n.\ny\n\r\n.\r\nNOOP\n",
    b"NO\0OP\r\n\r\n NOOP\r\nFOO\r\n" * 4 + b"NOOP\r\n",
]


@pytest.mark.parametrize("data", DIALOGUES)
def test_packets_do_not_matter(data: bytes) -> None:
    whole = Drive()
    whole.feed(data)
    for seed in range(4):
        choice, cut, left = random.Random(seed), Drive(), data
        while left:
            size = 1 if not seed else choice.randrange(1, 12)
            cut.feed(left[:size])
            left = left[size:]
        assert (cut.out, cut.messages, cut.names) == (whole.out, whole.messages, whole.names)


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r"])
def test_only_crlf_dot_crlf_ends_a_message(end: bytes) -> None:
    drive = Drive()
    drive.feed(BEGIN + b"DATA\r\nx" + end + b"MAIL FROM:<evil@x>\r\nRCPT TO:<v@b>\r\nDATA\r\nevil\r\n.\r\n")
    assert len(drive.messages) == 1
    assert b"evil@x" in drive.messages[0]


def test_refused_chunks_are_not_commands() -> None:
    drive = Drive()
    drive.feed(b"BDAT 6 LAST\r\nQUIT\r\nBDAT 6 FOO\r\nQUIT\r\nNOOP\r\n")
    assert drive.codes() == [b"220", b"503", b"501", b"250"]


@pytest.mark.parametrize("size", [b"-1", b"1x", b"0x10", b"9" * 19, b"+3", b"1.5"])
def test_sizes_that_lie(size: bytes) -> None:
    drive = Drive()
    drive.feed(BEGIN + b"BDAT " + size + b" LAST\r\nNOOP\r\n")
    assert drive.codes()[-2:] == [b"501", b"250"]
    assert not drive.messages


def test_replies_keep_the_order_of_recipients() -> None:
    frontend = Frontend(OFFER)
    frontend.feed(b"LHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a>\r\nRCPT TO:<>\r\nRCPT TO:<b>\r\nNOOP\r\n")
    waiting = []
    while (event := frontend.next_event()) is not None:
        if isinstance(event, Recipient):
            waiting.append(event)
    assert [bytes(each.address) for each in waiting] == [b"a", b"b"]
    frontend.take_output()
    frontend.answer(waiting[1], b"250 b\r\n", accepted=True)
    assert frontend.take_output() == b""
    frontend.answer(waiting[0], b"550 a\r\n", accepted=False)
    assert frontend.next_event() is None
    assert frontend.take_output() == (b"550 a\r\n501 5.5.4 Invalid TO: Null path not allowed\r\n250 b\r\n"
                                      b"250 2.0.0 OK\r\n")


def test_number_of_recipients_is_limited() -> None:
    drive = Drive()
    drive.feed(b"LHLO x\r\nMAIL FROM:<s@x>\r\n" + b"RCPT TO:<a>\r\n" * (machine.RECIPIENTS_MAX + 2))
    assert drive.codes().count(b"452") == 2
    assert drive.machine.accepted == machine.RECIPIENTS_MAX


def test_a_line_without_end_takes_no_memory() -> None:
    frontend = Frontend(OFFER)
    for _ in range(200):
        frontend.feed(b"x" * 4096)
        assert frontend.next_event() is None
        assert frontend.buffered <= machine.LINE_MAX + 4096
    frontend.feed(b"\r\nNOOP\r\n")
    assert frontend.next_event() is None
    assert frontend.take_output().endswith(b"500 5.5.2 Line too long\r\n250 2.0.0 OK\r\n")


def test_xclient_only_for_the_trusted() -> None:
    for trusted, code in ((False, b"550"), (True, b"220")):
        drive = Drive(trusted=trusted)
        drive.feed(b"XCLIENT ADDR=1.2.3.4 PORT=5\r\n")
        assert drive.codes()[-1] == code
        assert ("Forwarded" in drive.names) is trusted


@pytest.mark.parametrize("value", [b"ADDR=1.2.3", b"ADDR=fe80::1%evil", b"ADDR=IPV6:1.2.3.4", b"PORT=0", b"PORT=+0A1",
                                   b"TTL=4294967296", b"TTL=-1", b"SESSION=a+0D+0AX-Evil:", b"LOGIN=a+00",
                                   b"PROTO=UUCP"])
def test_xclient_values_that_mean_nothing_are_refused(value: bytes) -> None:
    drive = Drive(trusted=True)
    drive.feed(b"XCLIENT " + value + b"\r\n")
    assert drive.codes()[-1] == b"501"
    assert "Forwarded" not in drive.names


def test_random_input_is_survived() -> None:
    choice = random.Random(11)
    words = [b"LHLO x", b"MAIL FROM:<a@b>", b"RCPT TO:<a@b>", b"DATA", b"BDAT 3", b"BDAT 2 LAST", b"RSET", b"NOOP",
             b".", b"\0", b"\xff", b"RCPT TO:<", b"XCLIENT ADDR=", b"\r", b"..", b"VRFY x", b"ORCPT=",
             b" ", b"MAIL FROM:<"]
    for _ in range(600):
        drive = Drive(trusted=True, accept=choice.random() < 0.8)
        for _ in range(30):
            drive.feed(choice.choice(words) + choice.choice((b"\r\n", b"\n", b"", b" ", b"\r\n.\r\n")))
        assert all(line[:3].isdigit() for line in drive.out.splitlines())


def test_a_bad_recipient_waits_for_those_before_it() -> None:
    frontend = Frontend(Offer(b"h", b"g", False))
    frontend.take_output()
    frontend.feed(b"LHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>  \x0b\r\nRCPT TO:<c@x>\r\n")
    asked = []
    while (event := frontend.next_event()) is not None:
        if isinstance(event, Recipient):
            asked.append(event)
    frontend.take_output()
    for each in asked:
        frontend.answer(each, b"250 2.1.5 OK\r\n", accepted=True)
        while (event := frontend.next_event()) is not None:
            if isinstance(event, Recipient):
                asked.append(event)
    assert [line[:3] for line in frontend.take_output().splitlines()] == [b"250", b"500", b"250"]
