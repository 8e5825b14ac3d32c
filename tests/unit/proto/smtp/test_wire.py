"""Replies, parameters, xtext and XCLIENT lines."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.errors import ProtocolError
from mailproxy.proto.smtp import wire, xclient
from mailproxy.proto.smtp.wire import BadReply, ReplyReader

ROUND = b"250-be.example\r\n250-SIZE 10\r\n250 AUTH PLAIN\r\n535 5.7.8 no\n220\r\n"


def replies(data: bytes, size: int, *, enhanced: bool = True) -> list[tuple[int, bytes, tuple[bytes, ...]]]:
    reader, found = ReplyReader(enhanced=enhanced), []
    for start in range(0, len(data), size):
        reader.feed(data[start:start + size])
        while (reply := reader.next_reply()) is not None:
            found.append((reply.code, reply.enhanced, reply.lines))
    return found


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_replies(size: int) -> None:
    assert replies(ROUND, size) == [(250, b"", (b"be.example", b"SIZE 10", b"AUTH PLAIN")), (535, b"5.7.8", (b"no",)),
                                    (220, b"", (b"",))]


def test_enhanced_codes_are_text_if_not_promised() -> None:
    assert replies(b"535 5.7.8 no\r\n", 99, enhanced=False) == [(535, b"", (b"5.7.8 no",))]
    assert replies(b"535 4.7.8 no\r\n", 99) == [(535, b"", (b"4.7.8 no",))]


@pytest.mark.parametrize("line", [b"hello\r\n", b"99 x\r\n", b"600 x\r\n", b"2500 x\r\n", b"250x\r\n", b"250 a\0b\r\n",
                                  b"\r\n", b"250 a\rb\r\n", b"250-a\r\n251 b\r\n", b"250-a\r\nb\r\n",
                                  b"250 " + b"x" * 5000, b"250-x\r\n" * 200])
@pytest.mark.parametrize("size", [1, 10_000])
def test_bad_replies(line: bytes, size: int) -> None:
    with pytest.raises(BadReply):
        replies(line, size)


def test_a_lone_reply_does_not_swallow_what_follows() -> None:
    reader = ReplyReader()
    reader.feed(b"235 in\r\n421 bye\r\n25")
    first = reader.next_reply()
    assert first is not None
    assert first.raw == b"235 in\r\n"
    assert reader.leftover() == b"421 bye\r\n25"
    reader.drop()
    assert reader.leftover() == b""


@given(st.binary(max_size=30))
def test_xtext_round(value: bytes) -> None:
    coded = wire.to_xtext(value)
    assert wire.from_xtext(coded) == value
    assert all(33 <= byte <= 126 and byte != 61 for byte in coded)


@pytest.mark.parametrize("bad", [b"+", b"+2", b"+2b", b"+GG", b"a b", b"a=b", b"\0", b"\xe9"])
def test_xtext_broken(bad: bytes) -> None:
    assert wire.from_xtext(bad) is None


def test_reply_lines() -> None:
    assert wire.reply(250, b"a\nb") == b"250-a\r\n250 b\r\n"
    assert wire.reply(535, b"no", b"5.7.8") == b"535 5.7.8 no\r\n"


def test_xclient_lines_are_split_between_parameters() -> None:
    lines = wire.xclient_lines([(b"A", b"x" * 490), (b"B", b"y" * 20), (b"C", b"z" * 600), (b"D", b"+ =")])
    assert lines == [b"XCLIENT A=" + b"x" * 490 + b"\r\n", b"XCLIENT B=" + b"y" * 20 + b"\r\n",
                     b"XCLIENT C=" + b"z" * 600 + b"\r\n", b"XCLIENT D=+2B+20+3D\r\n"]
    assert len(wire.xclient_lines([(b"A", b"x" * 500)])[0]) == wire.XCLIENT_LINE_MAX
    assert wire.xclient_lines([]) == []


def test_identity() -> None:
    identity = (("session", "S+1"), ("rip", "2001:db8::1"), ("rport", "7"), ("lip", "10.0.0.1"), ("lport", "587"),
                ("ttl", "4"), ("forward_a", "1"))
    assert wire.xclient_pairs(identity) == [(b"TTL", b"4"), (b"PORT", b"7"), (b"ADDR", b"IPV6:2001:db8::1"),
                                            (b"SESSION", b"S+1"), (b"FORWARD", b"YT0x")]
    assert wire.xclient_pairs(()) == []


@pytest.mark.parametrize(("text", "said"), [
    (b"", {}), (b"FOO=bar baz", {}), (b"addr=10.0.0.1 PORT=7", {"rip": "10.0.0.1", "rport": "7"}),
    (b"ADDR=IPV6:2001:DB8::1", {"rip": "2001:db8::1"}), (b"ADDR=2001:db8::1", {"rip": "2001:db8::1"}),
    (b"ADDR=[UNAVAILABLE] PORT=[unavailable] LOGIN=[UNAVAILABLE]", {}), (b"PROTO=esmtp", {"proto": "ESMTP"}),
    (b"SESSION=a+2Bb", {"session": "a+b"}), (b"SESSION=" + b"x" * 65, {}), (b"SESSION=", {}),
    (b"TTL=0 TIMEOUT=5", {"ttl": "0", "timeout": "5"}), (b"FORWARD=YT0x", {"forward_a": "1"}),
    (b"HELO=a.b", {"helo": "a.b"}), (b"HELO=a+2Bb", {"helo": ""}), (b"HELO=[UNAVAILABLE]", {"helo": ""}),
    (b"LOGIN=a+20b", {"login": "a b"})])
def test_xclient(text: bytes, said: dict[str, str]) -> None:
    assert xclient.parse(text) == said


@pytest.mark.parametrize(("text", "problem"), [
    (b"ADDR=x", "Invalid ADDR parameter"), (b"ADDR", "Invalid ADDR parameter"),
    (b"ADDR=10.0.0.1\0", "Invalid parameter: Unexpected character in parameter value"),
    (b"ADDR=IPV6:10.0.0.1", "Invalid ADDR parameter"), (b"ADDR=fe80::1%eth0+0A", "Invalid ADDR parameter"),
    (b"ADDR=10.0.0.1+0D+0AQUIT", "Invalid ADDR parameter"),
    (b"PORT=0", "Invalid PORT parameter"), (b"PORT=65536", "Invalid PORT parameter"),
    (b"TTL=4294967296", "Invalid TTL parameter"), (b"TTL=+B2", "Invalid TTL parameter"),
    (b"PROTO=x", "Invalid PROTO parameter"), (b"HELO=+", "Invalid HELO parameter: Invalid hexchar after '+' in xtext"),
    (b"FORWARD=!", "Invalid FORWARD parameter"), (b"FORWARD=YQ", "Invalid FORWARD parameter"),
    (b"FORWARD=AGE+3D", "Invalid FORWARD parameter"), (b"=x", "Invalid parameter: Unexpected character in parameter "
                                                              "keyword"),
    (b"A=1  B=2", "Invalid parameter: Parameter is empty")])
def test_xclient_broken(text: bytes, problem: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{problem.replace('+', '[+]')}$"):
        xclient.parse(text)
