"""The dots of DATA and the head of BDAT, however packets are cut."""
from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.errors import ProtocolError
from mailproxy.proto.smtp.message import DotReader, DotWriter, bdat

TEXTS = st.binary(max_size=20).map(lambda raw: bytes(b"\r\n.a"[byte % 4] for byte in raw))
CUTS = st.lists(st.integers(1, 5), min_size=1, max_size=10)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    found, number = [], 0
    while data:
        size = cuts[number % len(cuts)]
        found.append(data[:size])
        data = data[size:]
        number += 1
    return found


@given(TEXTS, CUTS, CUTS)
def test_what_is_written_is_read(text: bytes, cuts: list[int], more: list[int]) -> None:
    writer, reader = DotWriter(), DotReader()
    wire = b"".join(writer.feed(piece) for piece in pieces(text, cuts)) + writer.end()
    parts = [reader.feed(piece) for piece in pieces(wire + b"QUIT", more)]
    expected = re.sub(rb"(?<!\r)\n|\r(?=\.)", b"\r\n", text)
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert reader.done
    assert b"".join(part for part, _ in parts) == expected
    assert b"".join(rest for _, rest in parts) == b"QUIT"
    assert wire.count(b"\r\n.\r\n") + wire.startswith(b".\r\n") == 1      # nobody reads two messages in it


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n"])
def test_smuggled_ends_are_no_end(end: bytes) -> None:
    reader = DotReader()
    text, rest = reader.feed(b"a" + end + b"MAIL FROM:<evil@example.org>\r\n")
    assert not reader.done
    assert rest == b""
    assert text.startswith(b"a")


@pytest.mark.parametrize(("text", "result"), [(b"5", (5, False)), (b"0 LAST", (0, True)), (b" 12  last ", (12, True))])
def test_bdat(text: bytes, result: tuple[int, bool]) -> None:
    assert bdat(text) == result


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"5 LAS", b"5LAST", b"1" * 30, b"5 LAST x", b"\xb2"])
def test_bdat_broken(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        bdat(text)
