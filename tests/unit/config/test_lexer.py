"""Physical lines to logical ones."""
from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.config import lexer
from mailproxy.config.lexer import Line


def test_shapes() -> None:
    text = 'a = b c\nk="x\\"y "\nf =< g\ns {\ns n {\ns "a b" {\n}\n!include x y\n!include_try\tz\n'
    assert list(lexer.lines(text)) == [
        Line(1, lexer.SETTING, "a", "b c"), Line(2, lexer.QUOTED, "k", 'x"y '), Line(3, lexer.FILE, "f", "g"),
        Line(4, lexer.SECTION, "s", ""), Line(5, lexer.SECTION, "s", "n"), Line(6, lexer.SECTION, "s", "a b"),
        Line(7, lexer.END, "", ""), Line(8, lexer.INCLUDE, "!include", "x y"),
        Line(9, lexer.INCLUDE_TRY, "!include_try", "z")]


def test_a_comment_inside_a_continuation_is_skipped() -> None:
    assert list(lexer.lines("a = b \\\n# not now: c \\\n  d\n")) == [Line(3, lexer.SETTING, "a", "b d")]


def test_an_empty_line_inside_a_continuation_is_an_error() -> None:
    found = list(lexer.lines("a = b \\\n\nc = d\n"))
    assert [line.kind for line in found] == [lexer.ERROR, lexer.SETTING]
    assert found[0].number == 2


def test_a_continuation_at_the_end_is_an_error() -> None:
    for text in ("a = b \\\n", "a = b \\", "a = b \\\n# c"):
        assert [line.kind for line in lexer.lines(text)] == [lexer.ERROR], text


def test_nul_is_an_error() -> None:
    assert [line.kind for line in lexer.lines("a = b\0c\nd = e\n")] == [lexer.ERROR, lexer.SETTING]


def test_long_lines_are_refused() -> None:
    long = "a = " + "x" * lexer.MAX_LINE
    assert [line.kind for line in lexer.lines(long)] == [lexer.ERROR]
    many = "a = b \\\n" + ("x" * 1000 + " \\\n") * (lexer.MAX_LINE // 1000 + 2) + "y\n"
    assert lexer.ERROR in [line.kind for line in lexer.lines(many)]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab= \t\n\\'\"#{}!<$\0\r", max_size=60) | st.text(max_size=60))
def test_any_text_gives_lines(text: str) -> None:
    count = text.count("\n") + 1
    for line in lexer.lines(text):
        assert 1 <= line.number <= count
