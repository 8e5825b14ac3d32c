"""No file, however big or twisted, takes more than its share: each limit is an error with words."""
from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.config import includes, lexer, parser, variables
from mailproxy.config.dump import dump
from mailproxy.errors import ConfigInvalid

Refuse = Callable[..., list[str]]


def test_big_files(refuse: Refuse) -> None:
    assert refuse("#" * (includes.MAX_FILE + 1)) == [
        f"open(main.conf) failed: File is larger than {includes.MAX_FILE} bytes"]
    assert refuse("!include /dev/zero\n") == [
        "Error in configuration file main.conf line 1: Couldn't open include file /dev/zero:"
        f" File is larger than {includes.MAX_FILE} bytes"]


def test_long_lines(refuse: Refuse) -> None:
    assert refuse("login_greeting = " + "x" * lexer.MAX_LINE) == [
        "Error in configuration file main.conf line 1: Line is too long"]
    assert "Line is too long" in refuse("login_greeting = a\\\n" + "x\\\n" * lexer.MAX_LINE)[0]


def test_growing_values(refuse: Refuse) -> None:
    text = "mail_home = x\n" + "mail_home = $mail_home $mail_home\n" * 40
    assert refuse(text)[0].endswith(": Value of mail_home is too long")
    assert variables.MAX_VALUE <= 1 << 20


def test_deep_sections(refuse: Refuse) -> None:
    problems = refuse("local 10.0.0.0/8 {\n" * 1000)
    assert any("Sections are nested too deeply" in text for text in problems)
    assert len(problems) <= parser.MAX_PROBLEMS + 1


def test_deep_includes(refuse: Refuse) -> None:
    files = {f"{number}.inc": f"!include {number + 1}.inc\n" for number in range(parser.MAX_INCLUDES + 5)}
    assert refuse("!include 0.inc\n", files) == [
        f"Error in configuration file {parser.MAX_INCLUDES - 2}.inc line 1:"
        f" Recursive include file: {parser.MAX_INCLUDES - 1}.inc"]


def test_includes_that_multiply(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "MAX_FILES", 500)
    files = {f"{number}.inc": f"!include {number + 1}.inc\n" * 10 for number in range(9)}
    problems = refuse("!include 0.inc\n", {**files, "9.inc": ""})
    assert [text.rpartition(": ")[2] for text in problems] == ["Too many include files"]


def test_links_in_a_circle(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "loop.inc").symlink_to("loop.inc")
    assert refuse("!include loop.inc\n") == [
        "Error in configuration file main.conf line 1: Couldn't open include file loop.inc:"
        " Too many levels of symbolic links"]
    (tmp_path / "self.inc").symlink_to("main.conf")
    assert "Recursive include file" in refuse("!include self.inc\n")[0]


def test_pipes(refuse: Refuse, load: Callable[..., config.Config], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refuse("!include pipe\n") == [
        "Error in configuration file main.conf line 1: Couldn't open include file pipe: Is a FIFO"]
    reading, writing = os.pipe()        # as a shell's <(command)
    os.write(writing, b"mail_home = x\n")
    os.close(writing)
    conf = config.load(f"/dev/fd/{reading}")
    os.close(reading)
    assert conf.written("mail_home")


def test_many_problems(refuse: Refuse) -> None:
    assert len(refuse("foo = 1\n" * 10_000)) == parser.MAX_PROBLEMS


def test_braces(refuse: Refuse) -> None:
    assert refuse("!include " + "{a,b}" * 50 + "\n") == ["Error in configuration file main.conf line 1: No matches"]


@pytest.mark.parametrize("value", ["://" + ":" * 200_000, "\"" * 100_001, "pass=" * 50_000, "\\" * 100_001,
                                   "$" * 100_000, "{" * 100_000, "a " * 100_000])
def test_quick_values(value: str, load: Callable[..., config.Config]) -> None:
    """No pattern of ours takes quadratic time."""
    started = time.process_time()
    with contextlib.suppress(ConfigInvalid):
        dump(load(f"mail_home = {value}\n"), io.StringIO())
    assert time.process_time() - started < 2
