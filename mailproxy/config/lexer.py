"""Physical lines -> logical lines of the configuration language.

In: the text of one file.  Out: `Line` tuples (number, kind, key, value).  Resolves comments, continuations, quotes and
the shape of a line; does not know any setting, section or file.  A continued line carries the number of its last part.
Limit: MAX_LINE characters in a logical line.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

SETTING, QUOTED, FILE, SECTION, END, INCLUDE, INCLUDE_TRY, ERROR, WARNING = range(9)
#: Longer than any certificate pasted into a setting, short enough to bound a runaway continuation.
MAX_LINE = 1 << 20

_BLANK = " \t"
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KEY = re.compile(r"([^ \t=]*)[ \t]*(=?)[ \t]*(.*)\Z", re.DOTALL)
_SECTION_NAME = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^ \t"{][^ \t]*))(?:[ \t]+(.*))?\Z', re.DOTALL)
_AMBIGUOUS = ("Ambiguous '#' character in line, treating it as comment."
              " Add a space before it to remove this warning.")


class Line(NamedTuple):
    """One logical line.  `kind` SECTION: key = type, value = name; ERROR and WARNING: value = the message."""

    number: int
    kind: int
    key: str
    value: str


def _closing(text: str, start: int) -> int:
    """Index of the quote that closes the one at `start`, -1: none.  A backslash protects the next character."""
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == quote:
            return at
        at += 1
    return -1


def strip_comment(text: str) -> tuple[str, bool]:
    """`text` without its comment; True when the '#' was glued to a word and may have been meant as a character."""
    at = 0
    while at < len(text):
        char = text[at]
        if char in "'\"":
            end = _closing(text, at)
            if end < 0:             # an apostrophe: nothing behind it is a comment
                return text, False
            at = end
        elif char == "#":
            return text[:at], at > 0 and text[at - 1] not in _BLANK
        at += 1
    return text, False


def unquote(value: str) -> tuple[int, str]:
    """(QUOTED, inner text) when the first and the last character are the same quote, else (SETTING, value)."""
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        return QUOTED, _UNESCAPE.sub(r"\1", value[1:-1])
    return SETTING, value


def _classify(number: int, text: str) -> Line:
    if text == "}":
        return Line(number, END, "", "")
    if text[0] == "!":
        word, _, pattern = text.replace("\t", " ").partition(" ")
        if word in ("!include", "!include_try"):
            return Line(number, INCLUDE if word == "!include" else INCLUDE_TRY, word, pattern.strip(_BLANK))
    found = _KEY.match(text)
    assert found
    key, equals, rest = found.groups()
    if equals:
        if not key:
            return Line(number, ERROR, "", "Missing key name ('=' at the beginning of line)")
        if rest[:1] == "<":
            return Line(number, FILE, key, rest[1:].lstrip(_BLANK))
        kind, value = unquote(rest)
        return Line(number, kind, key, value)
    return _section(number, text, key, rest)


def _section(number: int, text: str, key: str, rest: str) -> Line:
    name = ""
    if rest[:1] != "{":
        named = _SECTION_NAME.match(rest)
        if not named or not (named[3] or "").startswith("{") or text[0] == "!":
            return Line(number, ERROR, "", "Expecting '{'")
        name = _UNESCAPE.sub(r"\1", named[1]) if named[1] is not None else named[2]
        rest = named[3]
    if rest != "{":
        return Line(number, ERROR, "", "Garbage after '{'")
    return Line(number, SECTION, key, name)


def lines(text: str) -> Iterator[Line]:
    """The logical lines of a file."""
    parts: list[str] = []
    number = collected = 0
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip(" \t\r")
        if not stripped or stripped[0] == "#":
            # Dovecot forgets the collected parts here; a comment cannot have been meant to do that.
            if parts and not stripped and number <= text.count("\n"):
                parts.clear()
                yield Line(number, ERROR, "", "Line ends in '\\' but is followed by an empty line")
            continue
        if "\0" in stripped:
            yield Line(number, ERROR, "", "NUL character in line")
            parts.clear()
            continue
        if "#" in stripped:
            stripped, ambiguous = strip_comment(stripped)
            stripped = stripped.rstrip(_BLANK)
            if ambiguous:
                yield Line(number, WARNING, "", _AMBIGUOUS)
        if stripped.endswith("\\"):
            collected = len(stripped) + (collected if parts else 0)
            parts.append(stripped[:-1].rstrip(_BLANK))
            if collected > MAX_LINE:
                yield Line(number, ERROR, "", "Line is too long")
                parts.clear()
            continue
        if parts:
            parts.append(stripped)
            stripped = " ".join(parts)
            parts.clear()
        if len(stripped) > MAX_LINE:
            yield Line(number, ERROR, "", "Line is too long")
        elif stripped:
            yield _classify(number, stripped)
    if parts:
        yield Line(number, ERROR, "", "File ends in a line that is continued with '\\'")
