"""IMAP words read and written."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.errors import ProtocolError
from mailproxy.proto.imap import wire
from mailproxy.proto.imap.wire import ATOM, LIST, NIL, STRING, Arguments, TooLarge
from tests.fuzz import examples


def read(data: bytes) -> list[Any]:
    args = Arguments()
    done, end = args.read(data, 0)
    assert done
    assert end == len(data)
    return args.items


@pytest.mark.parametrize(("data", "items"), [
    (b"\r\n", []), (b"\n", []), (b" a\r\n", [(ATOM, b"a")]), (b" a b\n", [(ATOM, b"a"), (ATOM, b"b")]),
    (b' "a b" ""\r\n', [(STRING, b"a b"), (STRING, b"")]), (b' "\\"\\\\"\r\n', [(STRING, b'"\\')]),
    (b" NIL nil\r\n", [(NIL, b"NIL"), (NIL, b"nil")]), (b' "NIL"\r\n', [(STRING, b"NIL")]),
    (b" {3+}\r\na\0b x\r\n", [(STRING, b"a\0b"), (ATOM, b"x")]), (b" ()\r\n", [(LIST, [])]),
    (b' ("a" NIL b)\r\n', [(LIST, [(STRING, b"a"), (NIL, b"NIL"), (ATOM, b"b")])]),
    (b" (a) b\r\n", [(LIST, [(ATOM, b"a")]), (ATOM, b"b")]), (b"   a   b\r\n", [(ATOM, b"a"), (ATOM, b"b")]),
])
def test_read(data: bytes, items: list[Any]) -> None:
    assert read(data) == items


@pytest.mark.parametrize("data", [b" )\r\n", b" (a\r\n", b' "a\r\n', b" ((a\r\n", b" a\0\r\n", b' "\0"\r\n',
                                  b" {x}\r\n", b" {-1}\r\n",
                                  b" \x80\r\n", b" {3}x\r\n", b" a(b\r\n", b' a"\r\n', b" ~{3}\r\nabc\r\n",
                                  b" a\rb\r\n", b" {}\r\n"])
def test_grammar(data: bytes) -> None:
    with pytest.raises(ProtocolError) as raised:
        Arguments().read(data, 0)
    assert str(raised.value)


@pytest.mark.parametrize("data", [b" {8193}\r\n", b" {8193+}\r\n", b" {99999999999999999999}\r\n",
                                  b" {" + b"9" * 900 + b"}\r\n"])
def test_too_large_literals(data: bytes) -> None:
    with pytest.raises(TooLarge):
        Arguments().read(data, 0)


@given(st.binary(max_size=50), st.binary(max_size=50))
@examples(200)
def test_what_is_written_can_be_read(one: bytes, other: bytes) -> None:
    parts = wire.pieces([one, other], non_sync=True)
    assert len(parts) == 1
    assert read(b" " + parts[0] + b"\r\n") == [(STRING, one), (STRING, other)]
    for part in wire.pieces([one, other], non_sync=False)[:-1]:
        assert part.endswith(b"}\r\n")


@given(st.binary(max_size=50))
@examples(100)
def test_quoted_is_safe_when_no_literal_is_needed(value: bytes) -> None:
    if not wire.needs_literal(value):
        assert not set(wire.quoted(value)) & set(b"\r\n\0")
        assert read(b" " + wire.quoted(value) + b"\r\n") == [(STRING, value)]


@given(st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape")))
@examples(100)
def test_percent_leaves_only_url_characters(text: str) -> None:
    from urllib.parse import unquote_to_bytes
    shown = wire.percent(text)
    assert shown.isascii()
    assert not set(shown) & set(" \r\n\0\"<>[]{}/;@:?#")
    assert unquote_to_bytes(shown) == text.encode("utf-8", "surrogateescape")
