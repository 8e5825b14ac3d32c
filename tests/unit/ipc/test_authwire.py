"""The line discipline of the auth sockets."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import MAX_LINE, Lines, encode, escape, pair, unescape
from tests.fuzz import examples

#: Any bytes, as text.
TEXTS = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(("value", "field"), [
    ("", ""), ("plain", "plain"), ("a\tb", "a\x01tb"), ("a\nb", "a\x01nb"), ("a\rb", "a\x01rb"), ("a\0b", "a\x010b"),
    ("a\x01b", "a\x011b"), ("\x01t", "\x011t"), ("a=b", "a=b"), ("ä €", "ä €"), ("\x7f\x85\u2028", "\x7f\x85\u2028"),
    ("\udcff\t", "\udcff\x01t"),
])
def test_escaping(value: str, field: str) -> None:
    assert escape(value) == field
    assert unescape(field) == value


@pytest.mark.parametrize(("field", "value"), [("\x01", ""), ("a\x01", "a"), ("\x01x", "x"), ("\x01\x01", "\x01"),
                                              ("\x01=", "=")])
def test_unescaping_what_nobody_escapes(field: str, value: str) -> None:
    assert unescape(field) == value


@given(TEXTS)
@examples(200)
def test_every_value_survives_and_keeps_to_its_field(value: str) -> None:
    field = escape(value)
    assert unescape(field) == value
    assert not set(field) & set("\t\r\n\0")
    assert Lines().feed(encode(field) + b"\n") == [field]


@pytest.mark.parametrize(("field", "expected"), [
    ("user=a", ("user", "a")), ("bare", ("bare", "")), ("pass=a=b\x01t", ("pass", "a=b\t")), ("=x", ("", "x")), ("",
                                                                                                                 ("",
                                                                                                                  "")),
])
def test_pairs(field: str, expected: tuple[str, str]) -> None:
    assert pair(field) == expected


@given(st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"").rstrip(b"\r")), max_size=8), st.data())
@examples(100)
def test_splits_make_no_difference(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = Lines()
    got: list[str] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert got == Lines().feed(stream) == [line.decode("utf-8", "surrogateescape") for line in lines]


def test_crlf_is_an_end_too() -> None:
    assert Lines().feed(b"a\r\nb\n\r\n\nrest") == ["a", "b", "", ""]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_longest_line(whole: bool, ended: bool) -> None:
    line = b"x" * MAX_LINE
    chunks = [line, b"x"] if not whole else [line + b"x"]
    reader = Lines()
    assert Lines().feed(line + b"\n") == [line.decode()]
    with pytest.raises(ProtocolError, match="more than 16384 bytes"):
        list(map(reader.feed, [*chunks, *([b"\n"] if ended else [])]))


def test_memory_is_bounded_by_one_line() -> None:
    reader = Lines(100)
    for _ in range(1000):
        reader.feed(b"x" * 90 + b"\n" + b"y" * 5)
        reader.feed(b"\n")
    assert len(reader._rest) == 0
